"""By latency: what was measured, fastest first, and how far it can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.report.entry import Entry
from bench.report.matrix import Matrix
from bench.report.tables.data import Num, Row, Section, Table, Text, numbers, words
from bench.report.tables.shared import (
    BUDGET,
    METHOD,
    N,
    Shown,
    budget_value,
    columns_of,
    count,
    entry_id,
    method_text,
    place_fields,
    rank_text,
    section_title,
    spread,
    values_of,
)
from bench.report.workload import WorkloadSummary

LATENCY = numbers("Latency ms")
AFTER = numbers("After recovery")
CAPTION = (
    "One forward pass of the example batch in evaluation mode: mean of the cells' medians ± sample standard deviation "
    "over n seeds, fastest first. A speedup is taken cell by cell, where both networks are measured in turn. The dense "
    "network's latency is pooled over all cells of a workload on one machine; speedups are left out where its "
    "interquartile range is above 20 % of its median. Null check: an unpruned network against the dense one gives 1."
)


def latency_table(matrix: Matrix) -> Table | None:
    """The main comparison by latency."""
    sections, raw = [], []
    for (name, protocol), entries in matrix.groups().items():
        workload = matrix.workloads.get(name)
        measured = sorted((e for e in entries if e.latency.n), key=lambda e: (e.latency.mean or 0.0, e.method))
        if workload is None or not measured:
            continue
        sections.append(_section(section_title(name, protocol), measured, workload))
        raw += [_fields(entry, workload) for entry in measured]
    return Table("latency", "By latency", CAPTION, sections, raw, on_front_page=False) if sections else None


def _section(title: str, entries: Sequence[Entry], workload: WorkloadSummary) -> Section:
    shown: list[Shown[Entry]] = [
        (METHOD, method_text),
        (BUDGET, lambda e: budget_value(e) if e.prunes else BUDGET.blank),
        (N, lambda e: count(e.latency.n)),
        (LATENCY, lambda e: spread(e.latency, 2)),
        (numbers("Speedup"), lambda e: spread(e.speedup, 2)),
        (AFTER, lambda e: spread(e.final, workload.digits)),
        (words("Rank"), rank_text),
    ]
    dense = [
        Row(
            [
                {METHOD: Text("dense"), N: count(len(latency.values)), LATENCY: Num(latency.median, digits=2)}.get(
                    column, spread(workload.dense, workload.digits) if column == AFTER else column.blank
                )
                for column, _ in shown
            ],
            block="unpruned",
        )
        for latency in workload.latencies.values()
    ]
    notes = [f"{latency.words}." for latency in workload.latencies.values()]
    return Section(
        title,
        columns_of(shown),
        [*dense, *(Row(values_of(shown, e), entry_id(e)) for e in entries)],
        [*notes, null_check(entries)],
    )


def null_check(entries: Sequence[Entry]) -> str:
    """What the unpruned networks gave against the dense one, in a sentence."""
    unpruned = [e for e in entries if not e.prunes and e.speedup.n]
    if not unpruned:
        return "Null check: no unpruned network's speedup is there (the control dense-longer gives one)."
    given = "; ".join(f"{e.method} {spread(e.speedup, 2).text} (n {e.speedup.n})" for e in unpruned)
    return f"Null check: {given}, where 1 is right; what it is off by is the error of every speedup here."


def _fields(entry: Entry, workload: WorkloadSummary) -> dict[str, Any]:
    row = place_fields(entry) | {
        "n": entry.latency.n,
        "latency_ms_mean": entry.latency.mean,
        "latency_ms_std": entry.latency.std,
        "speedup_mean": entry.speedup.mean,
        "speedup_std": entry.speedup.std,
        "final_mean": entry.final.mean,
        "pruned": entry.prunes,
    }
    known = list(workload.latencies.values())
    return row | {
        "dense_latency_ms_median": workload.latency.median if workload.latency else None,
        "dense_latency_ms_iqr": workload.latency.iqr if workload.latency else None,
        "machines": " | ".join(latency.machine.words for latency in known),
        "steady": all(latency.steady for latency in known),
    }
