"""What a cell begins with: its data, its dense network, and the structure of that network."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from bench.interface.cell import Cell
from bench.interface.log import TrainingLog
from bench.interface.source import source_hash
from bench.runs.dense import DenseNetwork, load_dense
from bench.runs.tracked import ActiveJob
from bench.runs.workload import LoadedWorkload, load_workload
from bench.structure.graph import PruningGraph
from bench.tracking.states import SOURCE
from bench.training.checkpoint import restore

SEARCH, FOUND, RECOVERY = "search.pt", "found.pt", "recovery.pt"
"""Checkpoints of a cell, in the order in which they are written; each holds the log of all that came before it."""


@dataclass(frozen=True)
class CellInputs:
    """What every stage of a cell reads."""

    cell: Cell
    loaded: LoadedWorkload
    dense: DenseNetwork
    fresh: nn.Module
    """The dense network's architecture with weights that were never trained."""
    graph: PruningGraph
    log: TrainingLog = field(default_factory=TrainingLog)
    """Grows from stage to stage."""


def cell_inputs(active: ActiveJob) -> CellInputs:
    """Load what the cell begins with, and log its configuration.

    Raises:
        CellError: the dense network is not recorded as finished, or is one of other data.
    """
    cell = active.job.cell
    assert cell is not None
    loaded = load_workload(cell.workload, active.settings)
    active.made_with(loaded.data.fingerprint)
    active.run.tags({SOURCE: source_hash(cell.adapter)})
    active.run.parameters(cell.identity())
    fresh = loaded.fresh_network(cell.seed)
    dense = load_dense(cell, active.tracker, like=fresh, fingerprint=loaded.data.fingerprint)
    log = TrainingLog()
    _log_earlier_epochs(active, log)
    return CellInputs(cell, loaded, dense, fresh, loaded.graph(dense.model), log)


def _log_earlier_epochs(active: ActiveJob, log: TrainingLog) -> None:
    """Log in the new run what an earlier run of this cell had logged before it was killed.

    Args:
        log: gets a note where a damaged checkpoint was set aside.
    """
    for checkpoint in (RECOVERY, FOUND, SEARCH):
        rows = restore(active.folder / checkpoint, lambda state: list(state["log"]["rows"]), log)
        if rows is not None:
            active.run.rows(rows)
            return
