"""The search stage: made once for all cells that differ in what comes after it, stored, and read by each of them."""

from __future__ import annotations

import copy
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from bench.errors import CellError
from bench.interface import registry
from bench.interface.cell import Cell
from bench.interface.method import Budget, Context, Found
from bench.interface.stages import search_id, search_identity, searched_cell
from bench.runs.cell.inputs import CellInputs, cell_inputs
from bench.runs.isolation import process_kept
from bench.runs.job import Job
from bench.runs.shared import agreed_taken, taken_stage
from bench.runs.stored import DamagedStageError, facts_of, make_again, sealed, stored_folder
from bench.runs.tracked import ActiveJob, Result
from bench.runs.workload import load_workload
from bench.search.fit import Fitted, fit, search_budget
from bench.structure.groups import Pruning
from bench.structure.state import load_state, tensors_of
from bench.tracking.places import SEARCH
from bench.training import parallel
from bench.training.context import search_context
from bench.training.quiet import waited

FOLDER, DOCUMENT = SEARCH.split("/")
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Decision:
    """What to cut out of which network."""

    network: nn.Module
    """At full width: the dense network, or the searched one where the method trains weights."""
    fitted: Fitted
    search_seconds: float
    search_macs_ratio: float
    """The fraction of the MACs that the method was asked for."""
    search_id: str = ""
    """Of the search that is shared with other cells, where the decision is that of one."""
    origin: Decision | None = None
    """The decision whose architecture is taken over."""


def make_search(active: ActiveJob, note: str = "") -> Result:
    """Let the method search and fit what it finds to the budget; both are stored with the run.

    A search that another suite of the store has made, on the same data, is taken from there.

    Args:
        note: for its record.
    """
    cell = active.job.search
    assert cell is not None
    active.run.parameters(search_identity(cell))
    fingerprint = load_workload(cell.workload, active.settings).data.fingerprint
    active.made_with(fingerprint)
    taken = agreed_taken(lambda: taken_stage(active, fingerprint, FOLDER, note))
    if taken is not None:
        return taken
    inputs = cell_inputs(active)
    active.stage("search")
    found = searched(inputs, active, lambda ctx: method_found(inputs, ctx))
    if not parallel.goes_on():
        return Result(summary="", record="")
    active.run.final({"search_seconds": found["seconds"]})
    weights = found.pop("weights")
    fitted = found["fitted"]
    summary = f"{fitted['native_macs_ratio']:.4f} of the MACs found, {fitted['macs_ratio']:.4f} after the budget's fit"
    facts = {
        "label": active.job.label,
        "data_fingerprint": fingerprint,
        "device": inputs.loaded.device.type,
        "notes": [note] if note else [],
        "summary": summary,
    }
    with tempfile.TemporaryDirectory() as out:
        folder = Path(out, FOLDER)
        folder.mkdir()
        (folder / DOCUMENT).write_text(json.dumps(found), "utf-8")
        if weights is not None:
            save_file({name: t.detach().cpu().contiguous().clone() for name, t in weights.items()}, folder / WEIGHTS)
        active.run.folder(Path(out))
        return Result(summary=summary, record=sealed(facts, Path(out)))


def searched(inputs: CellInputs, active: ActiveJob, find: Callable[[Context], Found]) -> dict[str, Any]:
    """What `find` makes of a search's context, fitted to the budget: tensors and plain values."""
    cell, log = inputs.cell, inputs.log
    ctx = search_context(
        inputs.loaded.task,
        inputs.loaded.data.visible,
        cell.search_recipe,
        epochs=cell.search_epochs,
        seed=cell.seed,
        device=inputs.loaded.device,
        workdir=active.folder,
        log=log,
        observer=active.observer,
        blind=cell.ablation == "blind",
    )
    start = time.perf_counter() - waited()
    found = find(ctx)
    fitted = fit(inputs.graph, found, budget_of(cell), round_to=cell.round_to)
    # The clock saw this process alone; the epochs of a search that was resumed are in its log.
    seconds = max(time.perf_counter() - waited() - start, log.seconds("search"))
    return {
        "pruning": fitted.pruning.to_dict(),
        "fitted": {f.name: getattr(fitted, f.name) for f in dataclasses.fields(fitted) if f.name != "pruning"},
        "weights": tensors_of(found.model) if found.model is not None else None,
        "seconds": seconds,
        "log": log.state(),
    }


def method_found(inputs: CellInputs, ctx: Context) -> Found:
    """What the cell's method finds."""
    cell, budget = inputs.cell, budget_of(inputs.cell)
    method = registry.make_method(cell.adapter, cell.hyper)
    asked = search_budget(inputs.graph, budget, round_to=cell.round_to)
    if asked is not budget:
        ctx.note(
            f"{cell.method} was asked for {asked.ratio:.4f} of the MACs, which the proportionally thinner network with "
            f"{cell.budget_text} has; the budget fit then met the budget of {budget.unit}"
        )
    with process_kept(lambda text: ctx.note(f"{cell.method}: {text}")):
        return method.search(copy.deepcopy(inputs.dense.model), inputs.graph, inputs.loaded.task, asked, ctx)


def budget_of(cell: Cell) -> Budget:
    """The budget that the cell's network must meet."""
    return Budget(cell.budget, cell.tolerance, cell.kind)


def decision_of(inputs: CellInputs, state: Mapping[str, Any]) -> Decision:
    """The decision from what `searched` made."""
    network = copy.deepcopy(inputs.dense.model)
    if state["weights"] is not None:
        load_state(network, state["weights"])
    fitted = Fitted(pruning=Pruning.from_dict(state["pruning"]), **state["fitted"])
    asked = search_budget(inputs.graph, budget_of(inputs.cell), round_to=inputs.cell.round_to)
    return Decision(network, fitted, float(state["seconds"]), asked.ratio)


def shared_search(inputs: CellInputs, active: ActiveJob) -> tuple[Decision, dict[str, Any]]:
    """The stored search that the cell starts from: the decision, and the state of the search's log.

    One whose files are damaged is made again here.

    Raises:
        CellError: it is not recorded as finished, or was made on other data.
    """
    try:
        return _read(inputs, active)
    except DamagedStageError as damage:
        make_again(Job.of_search(inputs.cell), active, damage, make_search)
        return _read(inputs, active)


def _read(inputs: CellInputs, active: ActiveJob) -> tuple[Decision, dict[str, Any]]:
    cell, tracker, identity = searched_cell(inputs.cell), active.tracker, str(search_id(inputs.cell))
    assert cell is not None
    where, state = f"the search of {cell.label}", tracker.find(identity)
    if state is None or state.status not in ("finished", "failed"):
        raise CellError(f"{where} is not made")
    facts = facts_of(tracker, state)
    if state.status == "failed":
        error = CellError(f"{where} failed: {facts['error']} (prunebench show {identity})")
        error.add_note(f"The search's own:\n{facts.get('traceback', '')}")
        raise error
    here = inputs.loaded.data.fingerprint
    if facts.get("data_fingerprint") != here:
        raise CellError(
            f"{where} was made on other data (fingerprint {facts.get('data_fingerprint')}) than lie there now ({here})"
        )
    with stored_folder(tracker, state, FOLDER, facts) as folder:
        found = json.loads((folder / DOCUMENT).read_text("utf-8"))
        weights = load_file(folder / WEIGHTS) if (folder / WEIGHTS).is_file() else None
        decision = decision_of(inputs, found | {"weights": weights})
    log, device = found["log"], facts.get("device")
    log["notes"] += facts["notes"]
    if device != inputs.loaded.device.type:
        log["notes"].append(f"the search was made on {device}, and its seconds are of that device")
    return dataclasses.replace(decision, search_id=identity), log
