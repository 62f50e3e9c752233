"""One entry against another: the difference seed by seed, with its intervals and its p."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.report.entry import Entry, EntryKey
from bench.report.resampling import SampleBootstrap
from bench.report.statistics import ALPHA, Sample, corrected, paired_gaps, paired_p

Outcome = Literal["better", "worse", "unclear", "untested"]


@dataclass(frozen=True)
class Comparison:
    """One entry minus another."""

    one: Entry
    other: Entry
    gap: Sample
    """One − other over common seeds, in the metric's unit."""
    p: float | None
    """Two-sided paired t-test over common seeds; None where there is no such test, or one is off its budget."""
    p_holm: float | None
    """The same, Holm-corrected for all comparisons that were made together."""
    over_samples: tuple[float, float] | None
    """The 95 % interval of the difference by a paired bootstrap over test samples: it holds for these networks."""

    @property
    def over_seeds(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean difference by Student's t; None where differences do not vary over seeds."""
        mean, half = self.gap.mean, self.gap.interval
        return (mean - half, mean + half) if self.gap.varies and mean is not None and half is not None else None

    @property
    def ahead(self) -> bool:
        """Whether the mean difference is in favour of the first."""
        mean = self.gap.mean or 0.0
        return mean > 0 if self.one.higher_is_better else mean < 0

    @property
    def outcome(self) -> Outcome:
        """What the test says of the first: `unclear` where it does not tell them apart, `untested` without a test."""
        if self.p_holm is None:
            return "untested"
        if self.p_holm >= ALPHA:
            return "unclear"
        return "better" if self.ahead else "worse"


def compare(pairs: Sequence[tuple[Entry, Entry]], bootstrap: SampleBootstrap) -> list[Comparison]:
    """Compare each pair; their p-values are corrected together."""
    p_values = [
        None if one.budget_misses or other.budget_misses else paired_p(one.final_by_seed, other.final_by_seed)
        for one, other in pairs
    ]
    return [
        Comparison(
            one, other, paired_gaps(one.final_by_seed, other.final_by_seed), p, p_holm, bootstrap.interval(one, other)
        )
        for (one, other), p, p_holm in zip(pairs, p_values, corrected(p_values), strict=True)
    ]


def against_best_rivals(contests: Iterable[Sequence[Entry]], bootstrap: SampleBootstrap) -> dict[EntryKey, Comparison]:
    """Each ranked entry against the best of the others of its budget; its p is not corrected.

    Args:
        contests: the entries of the main comparison, by workload, protocol and budget.
    """
    found: dict[EntryKey, Comparison] = {}
    for contest in contests:
        ranked = sorted((e for e in contest if e.rank is not None), key=lambda e: (e.rank or 0.0, e.method))
        if len(ranked) > 1:
            rivals = [ranked[1], *(ranked[0] for _ in ranked[1:])]
            for entry, rival in zip(ranked, rivals, strict=True):
                found[entry.key] = compare([(entry, rival)], bootstrap)[0]
    return found
