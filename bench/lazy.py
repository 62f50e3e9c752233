"""torch, imported on first use.

Adapters are read for their hyper-parameters by `plan` and `list`, which must answer in under a second;
importing torch takes several. `from bench.lazy import F, nn, torch` reads and type-checks like
the real thing.
Only what runs at import time (a subclass of `nn.Module`, a decorator) would load it early.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    import torch as torch
    import torch.nn as nn
    import torch.nn.functional as F
else:

    class _Lazy:
        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, attribute: str) -> Any:
            """Asked once: a search looks up forty names at every step."""
            value = getattr(importlib.import_module(self._name), attribute)
            setattr(self, attribute, value)
            return value

    torch = _Lazy("torch")
    nn = _Lazy("torch.nn")
    F = _Lazy("torch.nn.functional")

P = ParamSpec("P")
T = TypeVar("T")


def no_grad(function: Callable[P, T]) -> Callable[P, T]:
    """`torch.no_grad()` as a decorator that does not load torch."""

    @functools.wraps(function)
    def without(*args: P.args, **kwargs: P.kwargs) -> T:
        with torch.no_grad():
            return function(*args, **kwargs)

    return without


__all__ = ["F", "nn", "no_grad", "torch"]
