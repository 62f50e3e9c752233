"""By latency: what was measured, fastest first, and how far it can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.report.entry import Entry
from bench.report.latency import Conditions
from bench.report.matrix import Matrix
from bench.report.statistics import Sample
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
FRONT = words("Front")
CAPTION = (
    "One forward pass of the example, repeated to the batch, in evaluation mode: mean of the cells' medians ± sample "
    "standard deviation over n seeds, fastest first, one section for each batch size and number of CPU threads. A "
    "speedup is taken cell by cell, where both networks are measured in turn. The dense network's latency is pooled "
    "over all cells of a workload on one machine; speedups are left out where its interquartile range is above 20 % of "
    "its median. Null check: an unpruned network against the dense one gives 1. To choose by latency: front has a ● "
    "where no entry that is as fast has a better mean after recovery, of whatever budget; networks that learned "
    "nothing do not count."
)


def latency_table(matrix: Matrix) -> Table | None:
    """The main comparison by latency, at each batch size and number of threads."""
    sections, raw = [], []
    for (name, protocol), entries in matrix.groups().items():
        workload = matrix.workloads.get(name)
        for conditions in workload.conditions if workload is not None else ():
            assert workload is not None
            measured = [_Measured(e, *e.timed[conditions]) for e in entries if conditions in e.timed]
            measured = sorted(
                (m for m in measured if m.latency.n), key=lambda m: (m.latency.mean or 0.0, m.entry.method)
            )
            if not measured:
                continue
            at = f", {conditions.words}" if len(workload.conditions) > 1 else ""
            sections.append(_section(section_title(name, protocol) + at, measured, workload, conditions))
            raw += [_fields(m, measured, workload, conditions) for m in measured]
    return Table("latency", "By latency", CAPTION, sections, raw, on_front_page=False) if sections else None


@dataclass(frozen=True)
class _Measured:
    """An entry and what was measured of it at one combination."""

    entry: Entry
    latency: Sample
    speedup: Sample


def _on_front(own: _Measured, measured: Sequence[_Measured]) -> bool:
    """Whether no entry that is as fast has a better mean."""
    mean, latency = own.entry.final.mean, own.latency.mean
    if mean is None or latency is None or own.entry.ailments:
        return False
    sign = 1 if own.entry.higher_is_better else -1
    return not any(
        sign * other.entry.final.mean > sign * mean and (other.latency.mean or 0.0) <= latency
        for other in measured
        if other.entry.final.mean is not None and not other.entry.ailments
    )


def _section(title: str, measured: Sequence[_Measured], workload: WorkloadSummary, conditions: Conditions) -> Section:
    shown: list[Shown[_Measured]] = [
        (METHOD, lambda m: method_text(m.entry)),
        (BUDGET, lambda m: budget_value(m.entry) if m.entry.prunes else BUDGET.blank),
        (N, lambda m: count(m.latency.n)),
        (LATENCY, lambda m: spread(m.latency, 2)),
        (numbers("Speedup"), lambda m: spread(m.speedup, 2)),
        (AFTER, lambda m: spread(m.entry.final, workload.digits)),
        (words("Rank"), lambda m: rank_text(m.entry)),
        (FRONT, lambda m: Text("●" if _on_front(m, measured) else "")),
    ]
    latencies = workload.latencies_at(conditions)
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
        for latency in latencies
    ]
    notes = [f"{latency.words}." for latency in latencies]
    return Section(
        title,
        columns_of(shown),
        [*dense, *(Row(values_of(shown, m), entry_id(m.entry)) for m in measured)],
        [*notes, _null_check(measured)],
    )


def _null_check(measured: Sequence[_Measured]) -> str:
    """What the unpruned networks gave against the dense one, in a sentence."""
    unpruned = [m for m in measured if not m.entry.prunes and m.speedup.n]
    if not unpruned:
        return "Null check: no unpruned network's speedup is there (the control dense-longer gives one)."
    given = "; ".join(f"{m.entry.method} {spread(m.speedup, 2).text} (n {m.speedup.n})" for m in unpruned)
    return f"Null check: {given}, where 1 is right; what it is off by is the error of every speedup here."


def _fields(
    own: _Measured, measured: Sequence[_Measured], workload: WorkloadSummary, conditions: Conditions
) -> dict[str, Any]:
    known = workload.latencies_at(conditions)
    (only,) = known if len(known) == 1 else (None,)
    return place_fields(own.entry) | {
        "recovery": own.entry.recovery,
        "batch": conditions.batch,
        "threads": conditions.threads or None,
        "n": own.latency.n,
        "latency_ms_mean": own.latency.mean,
        "latency_ms_std": own.latency.std,
        "speedup_mean": own.speedup.mean,
        "speedup_std": own.speedup.std,
        "final_mean": own.entry.final.mean,
        "pruned": own.entry.prunes,
        "front": _on_front(own, measured),
        "dense_latency_ms_median": only.median if only else None,
        "dense_latency_ms_iqr": only.iqr if only else None,
        "machines": " | ".join(latency.machine.words for latency in known),
        "steady": all(latency.steady for latency in known),
    }
