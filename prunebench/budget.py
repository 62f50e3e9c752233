"""Budgets: `fit` changes what a method found by as few channels as bring it onto a budget of MACs or of parameters."""

from __future__ import annotations

from bench.interface.method import Budget, Found
from bench.search.fit import Fitted, check, fit, reachable, search_budget

__all__ = ["Budget", "Fitted", "Found", "check", "fit", "reachable", "search_budget"]
