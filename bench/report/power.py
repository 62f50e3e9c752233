"""What a study can tell: the smallest difference that its seeds can show, and how many seeds a difference needs.

The test is the report's own, a two-sided paired t-test over seeds at 5 %. With n seeds, differences of mean δ and
standard deviation s, t = mean / (s / √n) follows the noncentral t distribution of n − 1 degrees of freedom and
noncentrality √n δ / s, so that the power is P(t > t₀.₉₇₅) under it (Cohen, *Statistical Power Analysis for the
Behavioral Sciences*, 2nd edition 1988, chapter 2). Holm's correction, where there are several rivals, asks for more.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

from bench.interface.cell import Cell
from bench.interface.record import Record
from bench.interface.registry import task_class
from bench.report.entry import Entry
from bench.report.matrix import Matrix, build
from bench.report.statistics import Sample, paired_gaps, t_quantile
from bench.report.workload import WorkloadSummary, digits_for

POWER = 0.8
"""Chance with which a difference must be shown."""
CHANCE = f"{100 * POWER:g} %"
"""The same in words."""


def smallest_difference(spread: float, seeds: int) -> float:
    """The smallest true difference that the test finds with a probability of `POWER`.

    Args:
        spread: standard deviation of the paired differences over seeds, in the metric's unit.
        seeds: seeds that both networks have.

    Returns:
        A difference of means in the metric's unit; infinite for fewer than two seeds, which have no test.
    """
    return spread * _noncentrality(seeds) / math.sqrt(seeds) if seeds >= 2 else math.inf


def seeds_needed(spread: float, difference: float) -> int:
    """The fewest seeds, at least two, with which a true `difference` is found with a probability of `POWER`.

    Raises:
        ValueError: the difference is not positive.
    """
    if not difference > 0:
        raise ValueError(f"a difference to be shown must be positive, not {difference}")
    high = 2
    while smallest_difference(spread, high) > difference:
        high *= 2
    low = high // 2  # too few, or one
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if smallest_difference(spread, middle) > difference else (low, middle)
    return high


@cache
def _noncentrality(seeds: int) -> float:
    """√n δ / s at which the test has its power: the root of a function that rises with it."""
    low, high = 0.0, 1.0
    while _power(seeds, high) < POWER:
        low, high = high, 2 * high
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _power(seeds, middle) < POWER else (low, middle)
    return (low + high) / 2


def _power(seeds: int, noncentrality: float) -> float:
    from scipy import special

    # The other tail is less than 1e-5 where the power is 0.8, and scipy's value of it can be NaN.
    return float(1 - special.nctdtr(seeds - 1, noncentrality, t_quantile(seeds - 1)))


@dataclass(frozen=True)
class Spread:
    """How much paired differences vary over seeds, on one workload under one protocol."""

    workload: str
    protocol: str
    metric: str
    unit: str
    digits: int
    spread: float
    """Standard deviation of the difference of two entries of a budget over common seeds, pooled over all pairs."""
    pairs: int
    """Pairs of entries with two common seeds or more."""
    seeds: int
    """Common seeds that most pairs have."""
    point: float
    """A difference that a reader would call one step: 1 of a percentage, 0.1 dB, 0.01 of a ratio."""

    @property
    def smallest(self) -> float:
        """The smallest difference that these seeds can show."""
        return smallest_difference(self.spread, self.seeds)

    @property
    def seeds_for_a_point(self) -> int:
        return seeds_needed(self.spread, self.point)


def pooled_spreads(records: Sequence[Record]) -> list[Spread]:
    """The spread of paired differences on each workload and protocol of an earlier run.

    Raises:
        ReportError: the records must not share a table.
    """
    return spreads(build(records, suite=""))


def spreads(matrix: Matrix) -> list[Spread]:
    """As `pooled_spreads`, of a matrix; without workloads that have no two entries with two common seeds."""
    found = [
        _spread(matrix.workloads[name], protocol, entries)
        for (name, protocol), entries in matrix.groups().items()
        if name in matrix.workloads
    ]
    return [spread for spread in found if spread is not None]


def _spread(workload: WorkloadSummary, protocol: str, entries: Sequence[Entry]) -> Spread | None:
    samples = _samples([(entry.budget, entry.final_by_seed) for entry in entries if entry.rank is not None])
    if not samples:
        return None
    counts = Counter(gaps.n for gaps in samples)
    return Spread(
        workload=workload.name,
        protocol=protocol,
        metric=workload.metric,
        unit=workload.unit,
        digits=workload.digits,
        spread=_pooled(samples),
        pairs=len(samples),
        seeds=min(counts, key=lambda n: (-counts[n], n)),
        point=_point(workload.unit, workload.digits),
    )


def _samples(rows: Sequence[tuple[float, Mapping[int, float]]]) -> list[Sample]:
    """Differences of every two rows of a budget that have two common seeds or more.

    Args:
        rows: budget, and the final metric by seed.
    """
    return [
        gaps
        for (budget, one), (other_budget, other) in combinations(rows, 2)
        if budget == other_budget and (gaps := paired_gaps(one, other)).n >= 2
    ]


def _pooled(samples: Sequence[Sample]) -> float:
    """Standard deviation of differences, pooled over pairs by their degrees of freedom."""
    freedom = sum(gaps.n - 1 for gaps in samples)
    return math.sqrt(math.fsum((gaps.n - 1) * (gaps.std or 0.0) ** 2 for gaps in samples) / freedom)


def _point(unit: str, digits: int) -> float:
    if unit == "dB":
        return 0.1
    return 1.0 if digits == 2 else 0.01


_Row = tuple[float, str, str]
"""Budget, method and recovery."""


def planned_spreads(cells: Sequence[Cell], finals: Mapping[str, float]) -> list[Spread]:
    """The spread seen so far where some of a suite's cells are recorded, with the number of seeds that it plans.

    Cells that prune are paired: those of a workload, protocol and budget that differ in method or recovery. Controls
    that take a method apart and transferred prunings are left out, as in the main comparison.

    Args:
        finals: the final metric of each cell that is recorded as finished, by the cell's id.
    """
    places: dict[tuple[str, str], dict[_Row, dict[int, Cell]]] = defaultdict(lambda: defaultdict(dict))
    for cell in cells:
        if cell.budget < 1 and cell.ablation is None and cell.transfer is None:
            entry = (cell.budget, cell.method, cell.recovery)
            places[cell.workload.name, cell.protocol][entry][cell.seed] = cell
    found = [_planned(place, entries, finals) for place, entries in places.items()]
    return [spread for spread in found if spread is not None]


def _planned(
    place: tuple[str, str], entries: Mapping[_Row, Mapping[int, Cell]], finals: Mapping[str, float]
) -> Spread | None:
    seen = [
        (budget, {seed: finals[cell.id] for seed, cell in by_seed.items() if cell.id in finals})
        for (budget, *_), by_seed in entries.items()
    ]
    samples = _samples(seen)
    if not samples:
        return None
    task = task_class(next(iter(next(iter(entries.values())).values())).workload.task)
    digits = digits_for(value for _, by_seed in seen for value in by_seed.values())
    return Spread(
        workload=place[0],
        protocol=place[1],
        metric=task.metric,
        unit=task.unit,
        digits=digits,
        spread=_pooled(samples),
        pairs=len(samples),
        seeds=min(len(by_seed) for by_seed in entries.values()),
        point=_point(task.unit, digits),
    )
