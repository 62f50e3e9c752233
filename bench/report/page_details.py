"""What travels to the page for the view of one cell: its configuration, environment, figures, widths and curves.

As in `page_data`, rows travel without names and the names of their fields once. A value that many cells share, such as
an environment, travels once too; the cell's row then has its number.
"""

from __future__ import annotations

import json
import marshal
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bench.interface.cell import BudgetKind
from bench.interface.record import LatencyPair, Record
from bench.report.figures.recorded import NOT_DRAWN
from bench.report.health import sentence
from bench.report.matrix import Matrix
from bench.report.page_data import short
from bench.report.tables.ledger import phases_of

CURVE_NUMBERS = 250_000
"""Figures of training curves that a page holds; more cells get coarser curves, then none."""
FEWEST_CURVE_POINTS = 12
"""A curve of fewer points is not worth drawing."""
MOST_CURVE_POINTS = 60
TRACE_CHARACTERS = 6_000


class MetricsRow(NamedTuple):
    """A cell's figures on the test split, in the order of its `metric_names`."""

    dense: list[float | None]
    pruned: list[float | None]
    final: list[float | None]


class BudgetRow(NamedTuple):
    """What was asked of the budget, what the method gave and what was measured."""

    requested: float
    tolerance: float
    kind: BudgetKind
    """What the budget is a fraction of."""
    native_macs_ratio: float | None
    native_params_ratio: float | None
    fitted_channels: int
    macs_ratio: float | None
    params_ratio: float | None
    search_macs_ratio: float | None
    """The share of the MACs that the method was asked for."""
    note: str


class SizeRow(NamedTuple):
    """The network before and after pruning."""

    macs_dense: int
    macs_pruned: int
    params_dense: int
    params_pruned: int


class PhaseRow(NamedTuple):
    """What one phase of a cell cost. What is None was not counted."""

    name: str
    epochs: int
    samples: int | None
    weight_steps: int | None
    architecture_steps: int | None
    peak_lr: float | None
    seconds: float | None


class DetailsRow(NamedTuple):
    """One cell's view. What is None was not recorded; an `int` is the number of a value that cells share."""

    workload: int
    """Its configuration in the suite."""
    configuration: int
    """The cell's, but for its workload and seed."""
    environment: int | None = None
    run_id: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    notes: int | None = None
    left_whole: int | None = None
    dropped_blocks: int | None = None
    metric_names: int | None = None
    metrics: MetricsRow | None = None
    budget: BudgetRow | None = None
    size: SizeRow | None = None
    phases: list[PhaseRow] | None = None
    device: int | None = None
    latencies: int | None = None
    """Of the dense and the pruned network, at every combination of batch size and threads."""
    groups: int | None = None
    """Name and dense size of each channel group."""
    widths: list[int] | None = None
    native_widths: list[int] | None = None
    """The widths that the method itself chose; None where they are those of the pruned network."""
    error: str | None = None
    traceback: str | None = None
    curves: dict[str, Any] | None = None


PARTS = {"metrics": MetricsRow, "budget": BudgetRow, "size": SizeRow}
"""Fields of `DetailsRow` that are rows themselves."""
LISTS = {"phases": PhaseRow}
"""Fields of `DetailsRow` that are lists of rows."""


class SharedValues:
    """Values of some fields that many cells share, each kept once in its field's list."""

    def __init__(self) -> None:
        self.by_field: dict[str, list[Any]] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._as_written: dict[tuple[str, bytes], int] = {}

    def number(self, field: str, value: Any) -> int:
        """The value's place in its field's list."""
        try:
            written = (field, marshal.dumps(value, 2))  # at a tenth of what JSON takes, but in the order of the names
        except ValueError:  # a value that is not of Python's own types
            return self._number(field, value)
        if written not in self._as_written:
            self._as_written[written] = self._number(field, value)
        return self._as_written[written]

    def _number(self, field: str, value: Any) -> int:
        key = (field, json.dumps(value, sort_keys=True, default=str))
        if key not in self._numbers:
            values = self.by_field.setdefault(field, [])
            self._numbers[key] = len(values)
            values.append(value)
        return self._numbers[key]


def page_details(matrix: Matrix, *, points: int) -> dict[str, Any]:
    """Every cell's details by its id, the names of their fields, and the values that cells share.

    Args:
        points: points to a training curve, or 0 for no curves; see `curve_points`.
    """
    shared = SharedValues()
    rows = {record.cell_id: _details_row(record, shared, points) for record in matrix.records}
    for cell in matrix.missing:
        rows[cell.id] = DetailsRow(**_configuration(cell.model_dump(mode="json"), shared))
    return {
        "fields": DetailsRow._fields,
        "parts": {name: kind._fields for name, kind in PARTS.items()},
        "lists": {name: kind._fields for name, kind in LISTS.items()},
        "shared": shared.by_field,
        "rows": rows,
    }


def _details_row(record: Record, shared: SharedValues, points: int) -> DetailsRow:
    fields: dict[str, Any] = {
        "environment": shared.number("environment", record.environment),
        "run_id": record.run_id,
        "started_at": record.started_at,
        "finished_at": record.finished_at,
        "error": record.error[:TRACE_CHARACTERS] or None,
        "traceback": record.traceback[-TRACE_CHARACTERS:] or None,
        "curves": curves(record, points) if points and record.trajectory else None,
    }
    fields |= _configuration(record.cell, shared)
    fields |= {
        name: shared.number(name, value)
        for name in ("left_whole", "dropped_blocks")
        if (value := getattr(record, name))
    }
    flag = sentence(record)
    if notes := [*[flag] * bool(flag), *record.notes]:
        fields["notes"] = shared.number("notes", notes)
    if record.latencies:
        fields["latencies"] = shared.number("latencies", [_pair(pair) for pair in record.latencies])
    fields |= _metrics(record, shared) | _budget(record) | _widths(record, shared) | _cost(record, shared)
    return DetailsRow(**fields)


def _pair(pair: LatencyPair) -> dict[str, Any]:
    return {
        name: {"median_ms": short(f.median_ms, 5), "iqr_ms": short(f.iqr_ms, 5), "at": f"{f.conditions}, {f.device}"}
        for name, f in (("dense", pair.dense), ("pruned", pair.pruned))
    }


def _configuration(plain: Mapping[str, Any], shared: SharedValues) -> dict[str, Any]:
    rest = {name: value for name, value in plain.items() if name not in ("workload", "seed")}
    return {
        "workload": shared.number("workload", plain.get("workload", {})),
        "configuration": shared.number("configuration", rest),
    }


def _metrics(record: Record, shared: SharedValues) -> dict[str, Any]:
    columns = (record.dense_metrics, record.pruned_metrics, record.final_metrics)
    names = sorted({name for column in columns for name in column})
    if not names:
        return {}
    figures = MetricsRow(*([short(column.get(name)) for name in names] for column in columns))
    return {"metric_names": shared.number("metric_names", names), "metrics": figures}


def _budget(record: Record) -> dict[str, Any]:
    audit = record.audit
    if audit is None:
        return {}
    return {
        "budget": BudgetRow(
            requested=audit.requested,
            tolerance=audit.tolerance,
            kind=audit.kind,
            native_macs_ratio=short(audit.native_macs_ratio),
            native_params_ratio=short(audit.native_params_ratio),
            fitted_channels=audit.fitted_channels,
            macs_ratio=short(audit.macs_ratio),
            params_ratio=short(audit.params_ratio),
            search_macs_ratio=short(audit.search_macs_ratio),
            note=audit.note,
        ),
        "size": SizeRow(record.macs_dense, record.macs_pruned, record.params_dense, record.params_pruned),
    }


def _cost(record: Record, shared: SharedValues) -> dict[str, Any]:
    if record.ledger is None:
        return {}
    phases = [
        PhaseRow(
            name=phase.name,
            epochs=phase.epochs,
            samples=phase.samples or None,
            weight_steps=phase.weight_steps or None,
            architecture_steps=phase.architecture_steps or None,
            peak_lr=phase.peak_lr or None,
            seconds=short(phase.seconds, 5),
        )
        for phase in phases_of(record)
    ]
    return {"phases": phases, "device": shared.number("device", record.ledger.device)}


def _widths(record: Record, shared: SharedValues) -> dict[str, Any]:
    if not record.groups:
        return {}
    groups = [{"name": group.name, "size": group.size} for group in record.groups]
    widths = [group.width for group in record.groups]
    native = [group.native_width for group in record.groups]
    return {
        "groups": shared.number("groups", groups),
        "widths": widths,
        "native_widths": native if native != widths else None,
    }


def curve_points(matrix: Matrix) -> int:
    """Points to a training curve that fit into the page; 0 where curves are left out."""
    columns = sum(len(_curve_names(record.trajectory)) for record in matrix.records)
    if not columns:
        return 0
    points = min(MOST_CURVE_POINTS, CURVE_NUMBERS // columns)
    return points if points >= FEWEST_CURVE_POINTS else 0


def _curve_names(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Curves of a trajectory, by its first, middle and last row: a phase logs the same in every epoch."""
    looked_at = (*rows[:1], *rows[len(rows) // 2 :][:1], *rows[-1:])
    return {name for row in looked_at for name in row} - NOT_DRAWN


def curves(record: Record, points: int) -> dict[str, Any]:
    """Training curves by column, thinned evenly within each phase; the last epoch of a phase is always there."""
    rows = record.trajectory
    names = sorted({name for row in rows for name in row} - NOT_DRAWN)
    phases: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        phases.setdefault(str(row.get("phase", "")), []).append(row)
    kept: list[dict[str, Any]] = []
    for phase in phases.values():
        share = max(2, round(points * len(phase) / len(rows)))
        step = max(1, math.ceil(len(phase) / share))
        kept += phase[::-1][::step][::-1]
    return {
        "phase": [str(row.get("phase", "")) for row in kept],
        "epoch": [_number(row.get("epoch")) for row in kept],
        "values": {name: [_number(row.get(name)) for row in kept] for name in names},
    }


def _number(value: Any) -> float | None:
    return short(float(value), 4) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
