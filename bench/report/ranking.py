"""Places of methods: within one budget of a workload, across workloads, and on the Pareto front."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.report.entry import Entry
from bench.report.statistics import ALPHA, RankTest, average_ranks, holm, paired_p, rank_test

MIN_BLOCKS = 5
"""Workloads from which on mean ranks are compared by a critical difference."""


def rank(contest: Sequence[Entry]) -> None:
    """Fill rank, verdict and p of the entries of one budget on one workload."""
    for entry in contest:
        if not entry.prunes:
            entry.verdict = "reference"
        elif not entry.n:
            entry.verdict = "no result"
        elif entry.budget_misses:
            entry.verdict = "off budget"
        elif entry.ailments:
            entry.verdict = "collapsed"
    ranked = [entry for entry in contest if not entry.verdict]
    if not ranked:
        return
    for entry, place in zip(ranked, _places(ranked), strict=True):
        entry.rank = place
    if len(ranked) == 1:
        ranked[0].verdict = "only"
        return
    best = min(ranked, key=lambda e: (e.rank or 0.0, e.method))
    rivals = [entry for entry in ranked if entry is not best]
    raw = {id(entry): paired_p(best.final_by_seed, entry.final_by_seed) for entry in rivals}
    tested = [entry for entry in rivals if raw[id(entry)] is not None]
    for entry, p in zip(tested, holm([raw[id(e)] or 0.0 for e in tested]), strict=True):
        entry.p_best = p
        entry.verdict = "worse" if p < ALPHA else "tied"
    for entry in rivals:
        entry.verdict = entry.verdict or "untested"
    if all(entry.verdict == "worse" for entry in rivals):
        best.verdict = "best"
    elif any(entry.verdict == "tied" for entry in rivals):
        best.verdict = "tied"
    else:
        best.verdict = "untested"


def _places(entries: Sequence[Entry]) -> list[float]:
    """Places by mean; twelve decimals, so that the order in which seeds are summed breaks no tie."""
    means = [round(entry.final.mean or 0.0, 12) for entry in entries]
    return average_ranks(means, higher_is_better=entries[0].higher_is_better)


@dataclass
class RankSummary:
    """Ranks across workloads under one protocol: what each method's place is on the whole."""

    protocol: str
    workloads: list[str]
    """Those on which every method of the summary was ranked, at the same budgets."""
    methods: list[str]
    controls: set[str]
    ranks: dict[str, dict[str, float]]
    """Method -> workload -> mean rank over the shared budgets."""
    firsts: dict[str, int]
    """How often a method was best beyond the interval."""
    ties: dict[str, int]
    contests: int
    left_out: list[str]
    test: RankTest | None

    def mean_rank(self, method: str) -> float:
        values = self.ranks[method].values()
        return math.fsum(values) / len(values)


_Contests = dict[tuple[str, float], dict[str, Entry]]
"""(workload, budget) -> method -> its entry."""


def rank_summaries(entries: Sequence[Entry]) -> list[RankSummary]:
    """One summary a protocol; contests in which a method has no rank are left out, and said to be.

    Args:
        entries: those of the main comparison, ranked.
    """
    found = []
    for protocol in sorted({entry.protocol for entry in entries}):
        summary = _summary(protocol, [e for e in entries if e.protocol == protocol and e.prunes])
        if summary is not None:
            found.append(summary)
    return found


def _summary(protocol: str, entries: Sequence[Entry]) -> RankSummary | None:
    contests: _Contests = defaultdict(dict)
    for entry in entries:
        contests[(entry.workload, entry.budget)][entry.method] = entry
    methods = _ranked_methods(entries, contests)
    complete = {
        key: contest
        for key, contest in contests.items()
        if all(m in contest and contest[m].rank is not None for m in methods)
    }
    if len(methods) < 2 or len(complete) < 2:
        return None
    ranks = _mean_ranks(methods, complete)
    workloads = sorted({workload for workload, _ in complete})
    left_out = [f"{w} at {b:g}" for (w, b) in sorted(contests) if (w, b) not in complete]
    left_out += [f"method {m}" for m in sorted({e.method for e in entries} - set(methods))]
    return RankSummary(
        protocol=protocol,
        workloads=workloads,
        methods=methods,
        controls={e.method for e in entries if e.control},
        ranks=ranks,
        firsts={m: sum(c[m].verdict == "best" for c in complete.values()) for m in methods},
        ties={m: sum(c[m].verdict == "tied" for c in complete.values()) for m in methods},
        contests=len(complete),
        left_out=left_out,
        test=_test(methods, workloads, ranks),
    )


def _ranked_methods(entries: Sequence[Entry], contests: _Contests) -> list[str]:
    """Methods, then controls, that are ranked in at least half of the contests.

    A contest in which any of them has no rank is left out, so that a method with few ranks would cost all the others.
    """
    controls = {e.method for e in entries if e.control}
    ranked = {e.method for e in entries if e.rank is not None}
    counts = {m: sum(m in c and c[m].rank is not None for c in contests.values()) for m in ranked}
    return sorted((m for m in ranked if counts[m] * 2 >= len(contests)), key=lambda m: (m in controls, m))


def _mean_ranks(methods: Sequence[str], contests: _Contests) -> dict[str, dict[str, float]]:
    """Method -> workload -> its rank among `methods`, averaged over budgets."""
    ranks: dict[str, dict[str, list[float]]] = {m: defaultdict(list) for m in methods}
    for (workload, _), contest in contests.items():
        for method, place in zip(methods, _places([contest[m] for m in methods]), strict=True):
            ranks[method][workload].append(place)
    return {m: {w: math.fsum(v) / len(v) for w, v in ranks[m].items()} for m in methods}


def _test(
    methods: Sequence[str], workloads: Sequence[str], ranks: Mapping[str, Mapping[str, float]]
) -> RankTest | None:
    """Friedman's test over workloads, where there are enough of them."""
    if len(workloads) < MIN_BLOCKS or len(methods) < 3:
        return None
    means = [[round(ranks[m][workload], 9) for m in methods] for workload in workloads]
    return rank_test(methods, [average_ranks(row, higher_is_better=False) for row in means])


def pareto(entries: Sequence[Entry]) -> list[Entry]:
    """The best ranked entry of each budget, where no smaller budget has a better one; smallest first.

    Entries of one budget count as equal in what it counts: inside the tolerance, fewer MACs are no merit.
    """
    front: list[Entry] = []
    ranked = [e for e in entries if e.rank is not None]
    for budget in sorted({e.budget for e in ranked}):
        best = max((e for e in ranked if e.budget == budget), key=_quality)
        if not front or _quality(best) > _quality(front[-1]):
            front.append(best)
    return front


def _quality(entry: Entry) -> float:
    """The mean, with the sign at which more is better."""
    value = entry.final.mean or 0.0
    return value if entry.higher_is_better else -value
