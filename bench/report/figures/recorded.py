"""Numbers out of trajectories and snapshots, in which methods may record anything."""

from __future__ import annotations

import math
from typing import Any

NOT_DRAWN = frozenset({"phase", "epoch", "seconds", "lr", "samples", "weight_steps", "architecture_steps"})
"""What the rows of a trajectory count or name; all else in them is drawn as a curve."""


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def flat(values: Any) -> list[float]:
    """All finite numbers in nested lists or dictionaries."""
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, (list, tuple)):
        return [item for value in values for item in flat(value)]
    found = number(values)
    return [] if found is None else [found]
