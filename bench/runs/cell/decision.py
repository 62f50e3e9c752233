"""What a cell starts from: the search that it shares with others, or what it decides itself, which restarts keep."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from bench.errors import CellError
from bench.interface.method import Context, Found
from bench.interface.record import Record
from bench.interface.stages import search_id
from bench.runs.cell.inputs import FOUND, CellInputs
from bench.runs.cell.search import Decision, budget_of, decision_of, method_found, searched, shared_search
from bench.runs.tracked import ActiveJob
from bench.search.transfer import transferred
from bench.tracking.mlflow_store import Tracker
from bench.training import parallel
from bench.training.checkpoint import restore, save_state


def decide(inputs: CellInputs, active: ActiveJob) -> Decision:
    """Take up the search of the cell's method, or what another cell found; or search and fit where that is cheap.

    Raises:
        CellError: the search failed, or the cell whose pruning is transferred is not recorded as finished.
    """
    cell = inputs.cell
    if search_id(cell) is None:
        return _own(inputs, active, lambda ctx: _found(inputs, ctx, active.tracker))
    if cell.source is None:
        decision, log = shared_search(inputs, active)
        inputs.log.restore(log)
        if not inputs.resumed:
            active.run.rows(log["rows"])
        return decision
    # It may finish at any time: what the first of several processes sees counts for all.
    if parallel.agreed(finished_cell(cell.source, active.tracker) is not None):
        record = recorded_cell(cell.source, active.tracker)
        return _own(inputs, active, lambda ctx: _taken_over(inputs, ctx, record.config.label, _of(record)))
    origin, _ = shared_search(inputs, active)
    label = cell.model_copy(update={"ablation": None}).label
    found = origin.fitted.widths, origin.fitted.pruning.drop_blocks
    own = _own(inputs, active, lambda ctx: _taken_over(inputs, ctx, label, found))
    return dataclasses.replace(own, origin=origin)


def _own(inputs: CellInputs, active: ActiveJob, find: Callable[[Context], Found]) -> Decision:
    """A decision of this cell alone, or what an earlier run of it decided; the cell's log becomes that of it."""
    file = active.folder / FOUND

    def use(state: Mapping[str, Any]) -> Decision:
        decision = decision_of(inputs, state)
        inputs.log.restore(state["log"])
        return decision

    known = restore(file, use, inputs.log)
    if known is not None:
        return known
    found = parallel.agreed(searched(inputs, active, find))
    save_state(file, found)
    return use(found)


def _found(inputs: CellInputs, ctx: Context, tracker: Tracker) -> Found:
    """What a method finds that does not train, or what another cell found where this one takes that over."""
    cell = inputs.cell
    if cell.source is not None:
        origin = recorded_cell(cell.source, tracker)
        return _taken_over(inputs, ctx, origin.config.label, _of(origin))
    if cell.transfer is not None:
        origin = recorded_cell(cell.transfer, tracker)
        found, how = transferred(
            origin.groups, origin.dropped_blocks, inputs.dense.model, inputs.graph, budget_of(cell)
        )
        ctx.note(f"transfer from {origin.config.label}: {how}")
        return found
    return method_found(inputs, ctx)


Architecture = tuple[Mapping[str, int], tuple[str, ...]]
"""Widths by group, and blocks that are removed."""


def _of(record: Record) -> Architecture:
    return {group.name: group.width for group in record.groups}, tuple(record.dropped_blocks)


def _taken_over(inputs: CellInputs, ctx: Context, label: str, found: Architecture) -> Found:
    """The architecture that another cell found, with the channels of the highest norms."""
    ctx.note(f"widths and removed blocks are those that {label} found")
    widths, drop_blocks = found
    return Found(scores=inputs.graph.channel_scores(inputs.dense.model), widths=widths, drop_blocks=drop_blocks)


def finished_cell(cell_id: str, tracker: Tracker) -> Record | None:
    """The record of a cell, where it has finished."""
    state = tracker.find(cell_id)
    return tracker.record(state) if state is not None and state.status == "finished" else None


def recorded_cell(cell_id: str, tracker: Tracker) -> Record:
    """The record of the cell whose pruning is taken over.

    Raises:
        CellError: it is not recorded as finished.
    """
    record = finished_cell(cell_id, tracker)
    if record is None:
        raise CellError(f"cell {cell_id}, whose pruning is taken over, is not recorded as finished")
    return record
