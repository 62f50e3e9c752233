"""Ranks across workloads: what each method's place is on the whole."""

from __future__ import annotations

from typing import Any

from bench.report.matrix import Matrix
from bench.report.ranking import MIN_BLOCKS, RankSummary, rank_summaries
from bench.report.tables.data import Num, Row, Section, Table, Text, numbers
from bench.report.tables.shared import METHOD, Shown, columns_of, count, values_of

MAX_WORKLOADS = 8
"""Workloads that have a column; the CSV has all."""
MAX_LEFT_OUT = 12
"""Comparisons without a rank that the note names."""


def rank_table(matrix: Matrix) -> Table | None:
    """Places by method, one section a protocol."""
    sections, raw = [], []
    for summary in rank_summaries(matrix.main):
        methods = sorted(summary.methods, key=lambda m: (summary.mean_rank(m), m))
        shown = _columns(summary)
        rows = [Row(values_of(shown, method)) for method in methods]
        sections.append(Section(f"protocol {summary.protocol}", columns_of(shown), rows, _notes(summary)))
        raw += [_fields(summary, method) for method in methods]
    caption = (
        "Places by mean after recovery, averaged over the budgets of a workload and then over workloads; equal means "
        "share their places. Best and tied count the comparisons in which the method was so, by the paired test."
    )
    return Table("ranks", "Ranks across workloads", caption, sections, raw) if sections else None


def _columns(summary: RankSummary) -> list[Shown[str]]:
    return [
        (METHOD, lambda m: Text(m, "control" if m in summary.controls else "plain")),
        (numbers("Mean rank"), lambda m: Num(summary.mean_rank(m))),
        (numbers("Best"), lambda m: count(summary.firsts[m])),
        (numbers("Tied"), lambda m: count(summary.ties[m])),
        *(
            (numbers(name), lambda m, name=name: Num(summary.ranks[m][name]))
            for name in summary.workloads[:MAX_WORKLOADS]
        ),
    ]


def _notes(summary: RankSummary) -> list[str]:
    notes = [f"{summary.contests} comparisons on {len(summary.workloads)} workloads, in which all are ranked."]
    if len(summary.workloads) > MAX_WORKLOADS:
        notes.append(f"{len(summary.workloads) - MAX_WORKLOADS} more workloads are in the CSV.")
    if summary.test:
        notes.append(
            f"Friedman test over {summary.test.blocks} workloads: p = {summary.test.friedman_p:.2g}; Nemenyi critical "
            f"difference of mean ranks {summary.test.critical_difference:.2f} at 5 %."
        )
    else:
        notes.append(f"Mean ranks are tested against each other from {MIN_BLOCKS} workloads and three methods on.")
    if summary.left_out:
        more = len(summary.left_out) - MAX_LEFT_OUT
        named = "; ".join(summary.left_out[:MAX_LEFT_OUT])
        notes.append(f"Left out for want of a rank: {named}" + f"; and {more} more." * (more > 0))
    return notes


def _fields(summary: RankSummary, method: str) -> dict[str, Any]:
    return {
        "protocol": summary.protocol,
        "method": method,
        "mean_rank": summary.mean_rank(method),
        "best": summary.firsts[method],
        "tied": summary.ties[method],
        "contests": summary.contests,
    } | {f"rank on {name}": summary.ranks[method][name] for name in summary.workloads}
