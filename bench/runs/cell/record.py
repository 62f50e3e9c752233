"""Puts together what a cell's stages found: the record of a cell that finished."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.interface.cell import BudgetKind
from bench.interface.log import TrainingLog
from bench.interface.record import METHOD_SOURCE, Audit, GroupWidth, Ledger, PhaseCost, Record
from bench.interface.source import source_hash
from bench.runs.cell.evaluation import PICTURES, Evaluation, PrunedNetworks
from bench.runs.cell.inputs import CellInputs
from bench.runs.cell.search import Decision
from bench.runs.environment import environment
from bench.runs.tracked import ActiveJob, now
from bench.training.device import resolve_precision


@dataclass(frozen=True, kw_only=True)
class MeasuredCost:
    """Multiply-adds of one input sample, and parameters, counted on the networks themselves."""

    dense: Mapping[BudgetKind, int]
    pruned: Mapping[BudgetKind, int]
    ratio: float
    """Of what the budget counts."""
    within: bool
    """Whether the ratio lies inside the budget's tolerance."""


@dataclass(frozen=True, kw_only=True)
class CellResults:
    """What the stages of a cell came to."""

    decision: Decision
    cost: MeasuredCost
    networks: PrunedNetworks
    evaluation: Evaluation


def make_record(inputs: CellInputs, results: CellResults, active: ActiveJob) -> Record:
    """The record of a cell that finished."""
    cell, task, device = inputs.cell, inputs.loaded.task, inputs.loaded.device
    decision, cost = results.decision, results.cost
    return Record(
        suite=active.settings.suite,
        cell_id=cell.id,
        run_id=active.run.run_id,
        status="finished",
        cell=cell.model_dump(mode="json"),
        metric_name=task.metric,
        higher_is_better=task.higher_is_better,
        metric_unit=task.unit,
        dense_metrics=inputs.dense.metrics,
        macs_dense=cost.dense["macs"],
        macs_pruned=cost.pruned["macs"],
        params_dense=cost.dense["params"],
        params_pruned=cost.pruned["params"],
        audit=_audit(inputs, decision, cost),
        ledger=_ledger(inputs, decision),
        environment=environment(str(device), resolve_precision(cell.recovery_recipe, device))
        | {METHOD_SOURCE: source_hash(cell.adapter)}
        | _devices(active.settings.resources.devices_per_cell),
        started_at=active.started_at,
        finished_at=now(),
        **_data(inputs),
        **_structure(inputs, decision),
        **_measured(results.evaluation),
        **_logged(inputs),
    )


def _devices(count: int) -> dict[str, str]:
    """How many devices trained the networks together, where it was more than one: results differ by rounding."""
    return {"devices": str(count)} if count > 1 else {}


def _audit(inputs: CellInputs, decision: Decision, cost: MeasuredCost) -> Audit:
    fitted, cell = decision.fitted, inputs.cell
    return Audit(
        requested=cell.budget,
        tolerance=cell.tolerance,
        kind=cell.kind,
        native_macs_ratio=fitted.native_macs_ratio,
        native_params_ratio=fitted.native_params_ratio,
        search_macs_ratio=decision.search_macs_ratio,
        fitted_channels=fitted.fitted_channels,
        macs_ratio=cost.pruned["macs"] / cost.dense["macs"],
        params_ratio=cost.pruned["params"] / cost.dense["params"],
        within=cost.within,
        note=fitted.note,
    )


def _ledger(inputs: CellInputs, decision: Decision) -> Ledger:
    cell = inputs.cell
    return Ledger(
        dense_epochs=cell.workload.epochs.dense if cell.needs_dense else 0,
        search_epochs=cell.search_epochs,
        recovery_epochs=cell.recovery_epochs,
        dense_seconds=inputs.dense.seconds if cell.needs_dense else 0.0,
        search_seconds=decision.search_seconds,
        recovery_seconds=inputs.log.seconds("recovery"),
        device=inputs.loaded.device.type,
        search_id=decision.search_id,
        phases=_phases(inputs, decision),
    )


def _phases(inputs: CellInputs, decision: Decision) -> list[PhaseCost]:
    """What each phase cost that the final network's weights or architecture came from."""
    logs = {"dense": TrainingLog(inputs.dense.rows)}
    seconds = {"search": decision.search_seconds}
    return [
        PhaseCost(
            name=name,
            epochs=epochs,
            samples=log.total(name, "samples"),
            weight_steps=log.total(name, "weight_steps"),
            architecture_steps=log.total(name, "architecture_steps"),
            peak_lr=recipe.lr,
            seconds=seconds.get(name, log.seconds(name)),
        )
        for name, epochs, recipe in inputs.cell.schedule
        for log in [logs.get(name, inputs.log)]
    ]


def _data(inputs: CellInputs) -> dict[str, Any]:
    data = inputs.loaded.data
    return {
        "input_shape": list(inputs.loaded.example.shape),
        "data_info": dataclasses.asdict(data.info),
        "data_fingerprint": data.fingerprint,
    }


def _structure(inputs: CellInputs, decision: Decision) -> dict[str, Any]:
    fitted = decision.fitted
    groups = [
        GroupWidth(name=g.name, size=g.size, width=fitted.widths[g.name], native_width=fitted.native_widths[g.name])
        for g in inputs.graph.groups
    ]
    return {
        "groups": groups,
        "dropped_blocks": list(fitted.pruning.drop_blocks),
        "left_whole": dict(inputs.graph.skipped),
    }


def _measured(evaluation: Evaluation) -> dict[str, Any]:
    fields = {f.name: getattr(evaluation, f.name) for f in dataclasses.fields(evaluation)}
    return fields | {"pictures": [f"{PICTURES}/{name}" for name in evaluation.pictures]}


def _logged(inputs: CellInputs) -> dict[str, Any]:
    log = inputs.log
    return {
        "trajectory": [*inputs.dense.rows, *log.rows],
        "snapshots": log.snapshots,
        "notes": [*inputs.loaded.data.notes, *inputs.dense.notes, *log.notes],
    }
