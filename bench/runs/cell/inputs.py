"""What a cell begins with: its data, its dense network, and the structure of that network."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from bench.interface.cell import Cell
from bench.interface.log import TrainingLog
from bench.interface.source import source_hash
from bench.runs.dense import DenseNetwork, load_dense, train_dense
from bench.runs.job import Job
from bench.runs.stored import DamagedStageError, make_again
from bench.runs.tracked import ActiveJob
from bench.runs.workload import LoadedWorkload, load_workload
from bench.structure.graph import PruningGraph
from bench.tracking.states import SOURCE
from bench.training.checkpoint import CHECKPOINTS, restore

SEARCH, FOUND, RECOVERY = CHECKPOINTS["search"], "found.pt", CHECKPOINTS["recovery"]
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
    resumed: bool = False
    """Whether the run's metrics are those of an earlier run already, up to a checkpoint."""


def cell_inputs(active: ActiveJob) -> CellInputs:
    """Load what a cell, or its search, begins with. A dense network whose files are damaged is trained again here.

    Raises:
        CellError: the dense network is not recorded as finished, or is one of other data.
    """
    cell = active.job.subject
    assert cell is not None
    loaded = load_workload(cell.workload, active.settings)
    active.run.tags({SOURCE: source_hash(cell.adapter)})
    fresh, fingerprint = loaded.fresh_network(cell.seed), loaded.data.fingerprint
    try:
        dense = load_dense(cell, active.tracker, like=fresh, fingerprint=fingerprint)
    except DamagedStageError as damage:
        make_again(Job.of_dense(cell), active, damage, train_dense)
        dense = load_dense(cell, active.tracker, like=fresh, fingerprint=fingerprint)
    log = TrainingLog()
    resumed = _log_earlier_epochs(active, log)
    return CellInputs(cell, loaded, dense, fresh, loaded.graph(dense.model), log, resumed)


def _log_earlier_epochs(active: ActiveJob, log: TrainingLog) -> bool:
    """Log in the new run what an earlier run of this job had logged before it was killed; whether there was any.

    Args:
        log: gets a note where a damaged checkpoint was set aside.
    """
    for checkpoint in (RECOVERY, FOUND, SEARCH):
        rows = restore(active.folder / checkpoint, lambda state: list(state["log"]["rows"]), log)
        if rows is not None:
            active.run.rows(rows)
            return True
    return False
