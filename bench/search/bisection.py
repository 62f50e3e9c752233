"""Where a monotone function comes nearest to a target, when one evaluation costs what a whole network's MACs cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import overload


@overload
def nearest(value: Callable[[int], float], target: float, low: int, high: int) -> int: ...
@overload
def nearest(value: Callable[[float], float], target: float, low: float, high: float) -> float: ...
def nearest(value: Callable[..., float], target: float, low: float, high: float) -> float:
    """The argument between `low` and `high` whose value is nearest to `target`.

    Args:
        value: never falls, or never rises, between `low` and `high`; it may have steps.
        low, high: two whole numbers for an answer in whole numbers.
    """
    whole = isinstance(low, int) and isinstance(high, int)
    sign = 1 if value(low) <= value(high) else -1
    for _ in range(40):
        middle = (low + high) // 2 if whole else (low + high) / 2
        low, high = (middle, high) if sign * value(middle) <= sign * target else (low, middle)
    return min((low, high), key=lambda x: abs(value(x) - target))
