"""What this study can tell: the smallest difference that its seeds can show, and the seeds that a step needs."""

from __future__ import annotations

import math
from typing import Any

from bench.report.matrix import Matrix
from bench.report.power import POWER, Spread, spreads
from bench.report.tables.data import Num, Row, Section, Table, Text, numbers, words
from bench.report.tables.shared import N, Shown, columns_of, count, values_of

SHOWN: list[Shown[Spread]] = [
    (words("Workload"), lambda s: Text(s.workload)),
    (words("Protocol"), lambda s: Text(s.protocol)),
    (words("Metric"), lambda s: Text(s.metric + (f", {s.unit}" if s.unit else ""))),
    (N, lambda s: count(s.seeds)),
    (numbers("Spread of differences"), lambda s: Num(s.spread, digits=s.digits)),
    (numbers("Smallest difference"), lambda s: Num(s.smallest, digits=s.digits)),
    (words("Seeds needed"), lambda s: Text(f"{s.seeds_for_a_point:,} for {s.point:g} {s.unit}".rstrip())),
]


def power_table(matrix: Matrix) -> Table | None:
    """One row a workload and protocol."""
    found = spreads(matrix)
    rows = [Row(values_of(SHOWN, spread)) for spread in found]
    caption = (
        "Spread: the standard deviation over seeds of the difference of two entries of a budget, pooled over all "
        "pairs. Smallest difference: what a paired t-test (two-sided, 5 %, without Holm's correction) over n seeds "
        f"shows with power {POWER:g} at this spread, by the noncentral t distribution (Cohen 1988, chapter 2); a "
        "smaller one may be real and stay unseen. Seeds needed: the fewest that show the difference named."
    )
    if not found:
        return None
    return Table("power", "What this study can tell", caption, [Section("", columns_of(SHOWN), rows)], _raw(found))


def _raw(found: list[Spread]) -> list[dict[str, Any]]:
    return [
        {
            "workload": s.workload,
            "protocol": s.protocol,
            "metric": s.metric,
            "unit": s.unit,
            "n": s.seeds,
            "pairs": s.pairs,
            "spread": s.spread,
            "smallest_difference": s.smallest if math.isfinite(s.smallest) else None,
            "step": s.point,
            "seeds_for_step": s.seeds_for_a_point,
        }
        for s in found
    ]
