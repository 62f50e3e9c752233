"""The dense network that all cells of a workload and seed start from: trained once, recorded, loaded again."""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_model
from torch import nn

from bench.errors import CellError
from bench.interface.cell import Cell
from bench.interface.log import TrainingLog
from bench.runs.job import Job
from bench.runs.shared import agreed_taken, taken_stage
from bench.runs.stored import ended, facts_of, sealed, stored_folder
from bench.runs.tracked import ActiveJob, Result
from bench.runs.workload import load_workload
from bench.structure.measure import count_macs
from bench.structure.state import load_state
from bench.tracking.mlflow_store import Tracker
from bench.tracking.places import MODEL
from bench.training import parallel
from bench.training.checkpoint import CHECKPOINTS, restore
from bench.training.loop import Phase, train


@dataclass(frozen=True)
class DenseNetwork:
    """A trained dense network and what was measured of it."""

    model: nn.Module
    metrics: dict[str, float]
    """On the test split."""
    rows: list[dict[str, Any]]
    """One an epoch of its training."""
    notes: tuple[str, ...] = ()
    """On the weights that it started from, where they were given."""

    @property
    def seconds(self) -> float:
        """Seconds of training."""
        return TrainingLog(self.rows).seconds("dense")


def train_dense(active: ActiveJob, note: str = "") -> Result:
    """Train the dense network of a workload and seed, evaluate it, and store it with its run.

    With weights that were given and no epochs, those weights are the dense network: it is evaluated as it is. One that
    another suite of the store has trained, on the same data, is taken from there.

    Args:
        note: for its record.
    """
    workload, seed, run = active.job.workload, active.job.seed, active.run
    loaded = load_workload(workload, active.settings)
    task, data = loaded.task, loaded.data
    active.made_with(data.fingerprint)
    run.parameters({"workload": workload.identity(), "seed": seed, "kind": "dense"})
    taken = agreed_taken(lambda: taken_stage(active, data.fingerprint, "model", note))
    if taken is not None:
        return taken
    (model, notes), log = loaded.initial_network(seed), TrainingLog()
    checkpoint = active.folder / CHECKPOINTS["dense"]
    run.rows(restore(checkpoint, lambda state: list(state["log"]["rows"]), log) or [])
    phase = Phase("dense", workload.epochs.dense, seed, loaded.device, checkpoint)
    train(model, task, data.train, workload.train, phase, val=data.val, log=log, observer=active.observer)
    if not parallel.goes_on():
        return Result(summary="", record="")
    metrics = task.evaluate(model, data.test(), loaded.device, workload.train)
    require_finite(metrics, task.metric)
    run.final({f"final.{k}": v for k, v in metrics.items()} | {"macs": count_macs(model, loaded.example)})
    facts = {
        "metrics": metrics,
        "trajectory": log.rows,
        "notes": [*notes, *filter(None, [note])],
        "label": active.job.label,
        "data_fingerprint": data.fingerprint,
        "summary": f"{task.metric} {metrics[task.metric]:.2f}{task.unit}",
    }
    with tempfile.TemporaryDirectory() as out:
        Path(out, "model").mkdir()
        save_model(model.cpu(), str(Path(out, MODEL)))
        run.folder(Path(out))
        return Result(summary=str(facts["summary"]), record=sealed(facts, Path(out)))


def require_finite(metrics: Mapping[str, float], name: str) -> None:
    """Raise CellError where the figure that networks are ranked by is NaN, infinite or missing."""
    if not math.isfinite(metrics.get(name, math.nan)):
        raise CellError(f"{name} on the test split is {metrics.get(name)}, not a finite number")


def load_dense(cell: Cell, tracker: Tracker, *, like: nn.Module, fingerprint: str) -> DenseNetwork:
    """The recorded dense network of the cell's workload and seed; a cell that starts from scratch is compared with it.

    Args:
        like: a network of the same architecture; it is not changed.
        fingerprint: of the data that the cell reads.

    Raises:
        CellError: its training failed, or was on other data.
        DamagedStageError: it is not there any more, or not as it was stored.
    """
    state = ended(tracker, Job.of_dense(cell))
    where = f"the dense network of {cell.workload.name} with seed {cell.seed}"
    facts = facts_of(tracker, state)
    if state.status == "failed":
        raise CellError(f"{where} failed: {facts['error']} (prunebench show {cell.dense_id})")
    trained_on = facts.get("data_fingerprint")
    if trained_on != fingerprint:
        raise CellError(
            f"{where} was trained on other data (fingerprint {trained_on}) than lie there now ({fingerprint})"
        )
    model = copy.deepcopy(like)
    with stored_folder(tracker, state, "model", facts) as folder:
        load_state(model, load_file(folder / "model.safetensors"))
    return DenseNetwork(model, facts["metrics"], facts["trajectory"], tuple(facts.get("notes", ())))
