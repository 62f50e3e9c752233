"""Means, intervals and comparisons over the few seeds of a table, and ranks over workloads.

A comparison is paired by seed (the same dense network, the same data order), two-sided, and corrected by Holm for
the number of rivals. The Nemenyi test of the critical-difference diagram is four lines over scipy's studentized
range, so that scikit-posthocs, which brings statsmodels and seaborn, is not needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

ALPHA = 0.05


@dataclass(frozen=True)
class Sample:
    """One quantity over seeds. One seed has a mean and no spread."""

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        return len(self.values)

    @cached_property
    def mean(self) -> float | None:
        return math.fsum(self.values) / self.n if self.values else None

    @cached_property
    def std(self) -> float | None:
        """Sample standard deviation (n − 1)."""
        if self.n < 2 or self.mean is None:
            return None
        return math.sqrt(math.fsum((value - self.mean) ** 2 for value in self.values) / (self.n - 1))

    @property
    def varies(self) -> bool:
        """Whether there is a spread to test against: two values at least, and not all equal but for rounding."""
        return self.std is not None and self.std > 1e-12 * max(1.0, abs(self.mean or 0.0))

    @cached_property
    def interval(self) -> float | None:
        """Half width of the 95 % interval of the mean, by Student's t."""
        return None if self.std is None else t_quantile(self.n - 1) * self.std / math.sqrt(self.n)


@cache
def t_quantile(freedom: int) -> float:
    """Two-sided 95 % quantile of Student's t."""
    from scipy import special

    return float(special.stdtrit(freedom, 1 - ALPHA / 2))


def paired_gaps(one: Mapping[int, float], other: Mapping[int, float]) -> Sample:
    """`one` − `other` over the seeds that both have."""
    return Sample(tuple(one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())))


def paired_p(one: Mapping[int, float], other: Mapping[int, float]) -> float | None:
    """p of a two-sided paired t-test over the seeds that both have.

    None where there is no such test: with fewer than two common seeds, or with differences that are all equal. On a
    small test split they are so by chance, and a spread of zero would make any difference significant.
    """
    gaps = paired_gaps(one, other)
    if not gaps.varies:
        return None
    assert gaps.mean is not None and gaps.std is not None
    from scipy import special

    t = abs(gaps.mean) / (gaps.std / math.sqrt(gaps.n))
    return float(2 * special.stdtr(gaps.n - 1, -t))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: adjusted p-values in the order given."""
    count = len(p_values)
    adjusted = [0.0] * count
    running = 0.0
    for step, index in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (count - step) * p_values[index]))
        adjusted[index] = running
    return adjusted


def corrected(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction of those p-values that there are."""
    adjusted = iter(holm([p for p in p_values if p is not None]))
    return [next(adjusted) if p is not None else None for p in p_values]


def average_ranks(values: Sequence[float], *, higher_is_better: bool) -> list[float]:
    """Ranks from 1 (best); equal values share the mean of their places."""
    signed = [-value if higher_is_better else value for value in values]
    return [sum(v < value for v in signed) + (sum(v == value for v in signed) + 1) / 2 for value in signed]


@dataclass(frozen=True)
class RankTest:
    """Friedman's test over blocks, and the Nemenyi critical difference of mean ranks."""

    names: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    blocks: int
    friedman_p: float
    critical_difference: float

    def cliques(self) -> list[tuple[str, ...]]:
        """Maximal runs of methods, by rank, whose mean ranks lie within the critical difference."""
        order = sorted(range(len(self.names)), key=lambda i: (self.mean_ranks[i], self.names[i]))
        runs: list[tuple[int, int]] = []
        for start in range(len(order)):
            stop = start
            while (
                stop + 1 < len(order)
                and self.mean_ranks[order[stop + 1]] - self.mean_ranks[order[start]] <= self.critical_difference
            ):
                stop += 1
            if stop > start and not (runs and runs[-1][1] >= stop):
                runs.append((start, stop))
        return [tuple(self.names[order[i]] for i in range(start, stop + 1)) for start, stop in runs]


def rank_test(names: Sequence[str], ranks: Sequence[Sequence[float]]) -> RankTest:
    """`ranks` holds one row of ranks a block, at least three of them; the names are its columns."""
    blocks, methods = len(ranks), len(names)
    q = studentized_range_quantile(methods) / math.sqrt(2)
    difference = q * math.sqrt(methods * (methods + 1) / (6 * blocks))
    means = tuple(math.fsum(row[index] for row in ranks) / blocks for index in range(methods))
    return RankTest(tuple(names), means, blocks, friedman_p(ranks), difference)


def friedman_p(ranks: Sequence[Sequence[float]]) -> float:
    """p of Friedman's test, with the correction for ties; 1 where all ranks of each block are equal.

    Hollander, Wolfe and Chicken, *Nonparametric Statistical Methods*, 3rd edition 2014, equation 7.5 and comment 8.

    Args:
        ranks: one row a block, each the average ranks of the same methods.
    """
    if all(len(set(row)) == 1 for row in ranks):
        return 1.0
    from scipy import stats

    return float(stats.friedmanchisquare(*zip(*ranks, strict=True)).pvalue)


@cache
def studentized_range_quantile(methods: int) -> float:
    """The 95 % quantile of the range of so many standard normal variables, which the Nemenyi test asks for."""
    from scipy import stats

    return float(stats.studentized_range.isf(ALPHA, methods, math.inf))
