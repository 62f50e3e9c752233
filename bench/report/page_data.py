"""What travels to the page for its tables and figures: methods, workloads, entries and cells.

A row travels as a list without names, so that 10,000 cells stay small. The names travel once, as the header of the
rows, and are those of the row's class here: the page's scripts read rows by these names and keep no list of their own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from bench.interface.cell import BUDGET_WORDS, BudgetKind
from bench.interface.record import Record
from bench.report.entry import Entry, final_of, metric_value, seed_of, within
from bench.report.figures.panels import method_styles
from bench.report.figures.style import MethodStyle
from bench.report.latency import Conditions, speedup, speedup_of, timings
from bench.report.matrix import Matrix
from bench.report.statistics import t_quantile
from bench.report.workload import WorkloadSummary, dense_of

SYMBOLS = {"o": "circle", "s": "square", "^": "triangle", "D": "diamond", "v": "wye", "P": "cross", "X": "star"}
"""Matplotlib's markers as d3 names them; a marker that d3 lacks becomes a plus."""
T_QUANTILES = 30
"""Degrees of freedom for which the page has t's quantile; beyond, its script approximates."""
ERROR_CHARACTERS = 300
"""Length of an error in the table of cells; the cell's own view has more."""

Status = Literal["finished", "failed", "missing"]


class MethodRow(NamedTuple):
    """One method, by its label; its place in the list is its number and its colour's."""

    name: str
    control: bool
    symbol: str


class WorkloadRow(NamedTuple):
    """One workload. Of one that has no record yet, only the name and the task are known."""

    name: str
    task: str
    metric: str = ""
    unit: str = ""
    higher_is_better: bool = True
    digits: int = 2
    dense_mean: float | None = None


class EntryRow(NamedTuple):
    """One method on one workload at one budget, over its seeds."""

    workload_index: int
    method_index: int
    protocol: str
    budget: float
    budget_kind: BudgetKind
    """What the budget is a fraction of."""
    recovery: str
    searched_on: str
    """What a transferred pruning was searched on; empty for an own search."""
    ablation: str
    """What takes the method apart; empty for the method itself."""
    prunes: bool
    """False for a reference that leaves the network whole."""
    main: bool
    """Whether it belongs to the main comparison."""
    rank: float | None
    verdict: str
    p_best: float | None
    rival: str
    """The best of the other ranked entries of its budget."""
    difference: float | None
    """The entry minus its rival, mean over common seeds."""
    over_seeds: list[float | None] | None
    """95 % interval of the difference by Student's t."""
    over_samples: list[float | None] | None
    """95 % interval of the difference by a bootstrap over test samples."""
    settings: str
    """Hyper-parameters that differ from their defaults."""


class CellRow(NamedTuple):
    """One cell; a missing one has a status and no figures."""

    id: str
    entry_index: int
    seed: int
    status: Status
    dense: float | None = None
    """The metric before pruning, on the test split."""
    pruned: float | None = None
    """The metric after pruning, before recovery."""
    final: float | None = None
    """The metric after recovery."""
    macs_percent: float | None = None
    """Of the dense network's."""
    params_percent: float | None = None
    """Of the dense network's."""
    latency_ms: float | None = None
    speedup: float | None = None
    further: list[list[float | None]] | None = None
    """Latency and speedup at each of the page's `timed`, where there are several."""
    search_seconds: float | None = None
    total_seconds: float | None = None
    within_budget: bool | None = None
    error: str = ""


def page_data(
    matrix: Matrix, *, runs: str, thumbnails: Mapping[str, Sequence[tuple[str, str]]] | None = None
) -> dict[str, Any]:
    """What the page's tables and figures are drawn from.

    Args:
        runs: http address of the MLflow runs' pages, up to a run's id; anything else is left out.
        thumbnails: small pictures by cell id, each a name and a data address.
    """
    methods = matrix.methods()
    methods += sorted({entry.method for entry in matrix.entries} - set(methods))
    workloads = list(dict.fromkeys(entry.workload for entry in matrix.entries))
    return {
        "runs": runs if re.match(r"https?://", runs) else "",
        "methods": _table(MethodRow, _method_rows(matrix, methods)),
        "workloads": _table(WorkloadRow, [_workload_row(matrix, name) for name in workloads]),
        "entries": _table(EntryRow, _entry_rows(matrix, workloads, methods)),
        "cells": _table(CellRow, _cell_rows(matrix)),
        "thumbnails": {
            cell_id: [{"name": name, "uri": uri} for name, uri in pictures]
            for cell_id, pictures in (thumbnails or {}).items()
        },
        "units": BUDGET_WORDS,
        "timed": [conditions.words for conditions in timed_of(matrix)],
        "timed_first": _first_of(matrix),
        "t_quantiles": [round(t_quantile(degrees), 4) for degrees in range(1, T_QUANTILES + 1)],
    }


def short(value: float | None, digits: int = 6) -> float | None:
    """A figure to some significant digits: what a page shows, at a third of the size; None where it is not finite."""
    return float(f"{value:.{digits}g}") if value is not None and math.isfinite(value) else None


def _table(kind: type[MethodRow | WorkloadRow | EntryRow | CellRow], rows: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    return {"fields": kind._fields, "rows": rows}


def _method_rows(matrix: Matrix, methods: Sequence[str]) -> list[MethodRow]:
    styles: Mapping[str, MethodStyle] = method_styles(matrix)
    controls = {entry.method for entry in matrix.entries if entry.control}
    return [
        MethodRow(name, name in controls, SYMBOLS.get(styles[name].marker, "plus") if name in styles else "plus")
        for name in methods
    ]


def _workload_row(matrix: Matrix, name: str) -> WorkloadRow:
    shared = matrix.workloads.get(name)
    if shared is None:
        return WorkloadRow(name, task=next(entry.task for entry in matrix.entries if entry.workload == name))
    return WorkloadRow(
        name,
        task=shared.task,
        metric=shared.metric,
        unit=shared.unit,
        higher_is_better=shared.higher_is_better,
        digits=shared.digits,
        dense_mean=short(shared.dense.mean),
    )


def _entry_rows(matrix: Matrix, workloads: Sequence[str], methods: Sequence[str]) -> list[EntryRow]:
    workload_index = {name: index for index, name in enumerate(workloads)}
    method_index = {name: index for index, name in enumerate(methods)}
    main = {id(entry) for entry in matrix.main}
    return [
        EntryRow(
            workload_index=workload_index[entry.workload],
            method_index=method_index[entry.method],
            protocol=entry.protocol,
            budget=entry.budget,
            budget_kind=entry.budget_kind,
            recovery=entry.recovery,
            searched_on=entry.searched_on,
            ablation=entry.ablation,
            prunes=entry.prunes,
            main=id(entry) in main,
            rank=entry.rank,
            verdict=entry.verdict,
            p_best=short(entry.p_best, 3),
            settings=entry.settings,
            **_against_rival(matrix, entry),
        )
        for entry in matrix.entries
    ]


def _against_rival(matrix: Matrix, entry: Entry) -> dict[str, Any]:
    comparison = matrix.against_rival.get(entry.key)
    return {
        "rival": comparison.other.method if comparison else "",
        "difference": short(comparison.gap.mean, 4) if comparison else None,
        "over_seeds": _ends(comparison.over_seeds if comparison else None),
        "over_samples": _ends(comparison.over_samples if comparison else None),
    }


def _ends(interval: tuple[float, float] | None) -> list[float | None] | None:
    return [short(end, 4) for end in interval] if interval else None


def _cell_rows(matrix: Matrix) -> list[CellRow]:
    entry_index = {entry.key: index for index, entry in enumerate(matrix.entries)}
    timed = timed_of(matrix)
    recorded = [_cell_row(matrix, r, entry_index[matrix.keys[r.cell_id]], timed) for r in matrix.records]
    missing = [CellRow(cell.id, entry_index[matrix.keys[cell.id]], cell.seed, "missing") for cell in matrix.missing]
    return recorded + missing


def timed_of(matrix: Matrix) -> list[Conditions]:
    """At what latencies were measured in all workloads."""
    return list(dict.fromkeys(c for workload in matrix.workloads.values() for c in workload.conditions))


def _first_of(matrix: Matrix) -> str:
    """At what the latencies were measured for which there is room for one."""
    first = {machine.conditions.words for w in matrix.workloads.values() for machine in w.first_timed}
    return next(iter(first)) if len(first) == 1 else "first of its cell's" if first else ""


def _further(record: Record, workload: WorkloadSummary, timed: Sequence[Conditions]) -> list[list[float | None]] | None:
    """Latency and speedup of a cell at each of `timed`; None where there is one, which has fields of its own."""
    if len(timed) < 2:
        return None
    found = {
        machine.conditions: [short(pair.pruned.median_ms, 5), short(speedup(machine, pair, workload.latencies), 5)]
        for machine, pair in timings(record)
    }
    return [found.get(conditions, [None, None]) for conditions in timed]


def _cell_row(matrix: Matrix, record: Record, entry_index: int, timed: Sequence[Conditions]) -> CellRow:
    workload, _ = matrix.labels[record.cell_id]
    ledger, latency = record.ledger, record.latency_pruned
    seconds = ledger.dense_seconds + ledger.search_seconds + ledger.recovery_seconds if ledger else None
    measured = record.macs_dense and record.macs_pruned
    # A record without the figure that methods are ranked by counts as failed, as in the tables.
    finished = record.status == "finished" and final_of(record) is not None
    return CellRow(
        id=record.cell_id,
        entry_index=entry_index,
        seed=seed_of(record),
        status="finished" if finished else "failed",
        dense=short(dense_of(record, matrix.workloads[workload])) if finished else None,
        pruned=short(metric_value(record, record.pruned_metrics)),
        final=short(final_of(record)),
        macs_percent=short(100 * record.macs_pruned / record.macs_dense) if measured else None,
        params_percent=short(100 * record.params_pruned / record.params_dense) if record.params_pruned else None,
        latency_ms=short(latency.median_ms, 5) if latency else None,
        speedup=short(speedup_of(record, matrix.workloads[workload].latencies), 5),
        further=_further(record, matrix.workloads[workload], timed),
        search_seconds=short(ledger.search_seconds, 5) if ledger else None,
        total_seconds=short(seconds, 5),
        within_budget=within(record) if finished else None,
        error=record.error[:ERROR_CHARACTERS],
    )
