"""What a cell's method decides to keep, fitted to the budget. It is kept across restarts."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from bench.errors import CellError
from bench.interface import registry
from bench.interface.cell import Cell
from bench.interface.method import Budget, Context, Found
from bench.interface.record import Record
from bench.runs.cell.inputs import FOUND, CellInputs
from bench.runs.isolation import process_kept
from bench.runs.tracked import ActiveJob
from bench.search.fit import Fitted, fit, search_budget
from bench.search.transfer import transferred
from bench.structure.groups import Pruning
from bench.structure.state import load_state
from bench.tracking.mlflow_store import Tracker
from bench.training import parallel
from bench.training.checkpoint import restore, save_state
from bench.training.context import search_context
from bench.training.quiet import waited


@dataclass(frozen=True)
class Decision:
    """What to cut out of which network."""

    network: nn.Module
    """At full width: the dense network, or the searched one where the method trains weights."""
    fitted: Fitted
    search_seconds: float
    search_macs_ratio: float
    """The fraction of the MACs that the method was asked for."""


def decide(inputs: CellInputs, active: ActiveJob) -> Decision:
    """Search and fit, or take up what an earlier run of this cell found.

    Raises:
        CellError: the cell whose pruning is transferred is not recorded as finished.
    """
    file = active.folder / FOUND
    known = restore(file, lambda state: _decision(inputs, state), inputs.log)
    if known is not None:
        return known
    found = parallel.agreed(_search(inputs, active))
    save_state(file, found)
    return _decision(inputs, found)


def _decision(inputs: CellInputs, state: Mapping[str, Any]) -> Decision:
    """The decision from what `_search` made; the cell's log becomes that of the search."""
    network = copy.deepcopy(inputs.dense.model)
    if state["weights"] is not None:
        load_state(network, state["weights"])
    fitted = Fitted(pruning=Pruning.from_dict(state["pruning"]), **state["fitted"])
    inputs.log.restore(state["log"])
    asked = search_budget(inputs.graph, budget_of(inputs.cell), round_to=inputs.cell.round_to)
    return Decision(network, fitted, float(state["seconds"]), asked.ratio)


def _search(inputs: CellInputs, active: ActiveJob) -> dict[str, Any]:
    """The decision as tensors and plain values."""
    cell, log = inputs.cell, inputs.log
    budget = budget_of(cell)
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
    found = _found(inputs, budget, ctx, active.tracker)
    fitted = fit(inputs.graph, found, budget, round_to=cell.round_to)
    # The clock saw this process alone; the epochs of a search that was resumed are in its log.
    seconds = max(time.perf_counter() - waited() - start, log.seconds("search"))
    return {
        "pruning": fitted.pruning.to_dict(),
        "fitted": {f.name: getattr(fitted, f.name) for f in dataclasses.fields(fitted) if f.name != "pruning"},
        "weights": found.model.state_dict() if found.model is not None else None,
        "seconds": seconds,
        "log": log.state(),
    }


def _found(inputs: CellInputs, budget: Budget, ctx: Context, tracker: Tracker) -> Found:
    """What the method finds, or what another cell found where this one takes that over."""
    cell, dense, graph = inputs.cell, inputs.dense.model, inputs.graph
    if cell.source is not None:
        origin = recorded_cell(cell.source, tracker)
        ctx.note(f"widths and removed blocks are those that {origin.config.label} found")
        widths = {group.name: group.width for group in origin.groups}
        scores = graph.channel_scores(dense)
        return Found(scores=scores, widths=widths, drop_blocks=tuple(origin.dropped_blocks))
    if cell.transfer is not None:
        origin = recorded_cell(cell.transfer, tracker)
        found, how = transferred(origin.groups, origin.dropped_blocks, dense, graph, budget)
        ctx.note(f"transfer from {origin.config.label}: {how}")
        return found
    method = registry.make_method(cell.adapter, cell.hyper)
    asked = search_budget(graph, budget, round_to=cell.round_to)
    if asked is not budget:
        ctx.note(
            f"{cell.method} was asked for {asked.ratio:.4f} of the MACs, which the proportionally thinner network with "
            f"{cell.budget_text} has; the budget fit then met the budget of {budget.unit}"
        )
    with process_kept(lambda text: ctx.note(f"{cell.method}: {text}")):
        return method.search(copy.deepcopy(dense), graph, inputs.loaded.task, asked, ctx)


def budget_of(cell: Cell) -> Budget:
    """The budget that the cell's network must meet."""
    return Budget(cell.budget, cell.tolerance, cell.kind)


def recorded_cell(cell_id: str, tracker: Tracker) -> Record:
    """The record of the cell whose pruning is taken over.

    Raises:
        CellError: it is not recorded as finished.
    """
    state = tracker.find(cell_id)
    if state is None or state.status != "finished":
        raise CellError(f"cell {cell_id}, whose pruning is taken over, is not recorded as finished")
    return tracker.record(state)
