"""Budgets: `fit` changes what a method found by as few channels as bring it onto a budget of MACs."""

from __future__ import annotations

from bench.interface.method import Budget, Found
from bench.search.fit import Fitted, fit, reachable

__all__ = ["Budget", "Fitted", "Found", "fit", "reachable"]
