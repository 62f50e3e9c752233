"""What a matrix has left to run. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.interface.cell import Cell
from bench.interface.stages import search_id
from bench.runs.estimate import Estimator
from bench.runs.job import Job
from bench.tracking.states import DATA, TAG, WORKLOAD, RunState


@dataclass(frozen=True, kw_only=True)
class Agenda:
    """The jobs of an invocation, each after what it needs."""

    chosen: int
    """Cells that were asked for, recorded ones included."""
    dense: tuple[Job, ...]
    """Dense networks: all cells of a workload and seed start from one."""
    cells: tuple[Job, ...]
    transfers: tuple[Job, ...]
    """Cells that take over what one of `cells`, or an earlier one, found."""
    searches: tuple[Job, ...] = ()
    """Searches: all cells that differ in what comes after it start from one."""
    failed_before: tuple[Cell, ...]
    """Cells that are recorded as failed and are left alone."""
    discarded: tuple[Job, ...] = ()
    """Jobs whose results on record are to be deleted first."""
    made_with: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Fingerprints of the data that results on record were made with, by the identity of their workload."""
    asked_for: tuple[Cell, ...] = ()
    """All of those cells."""
    states: Mapping[str, RunState] = field(default_factory=dict)
    """What the tracking store knew of them and their dense networks, by id."""

    @property
    def stages(self) -> tuple[tuple[Job, ...], ...]:
        return self.dense, self.searches, self.cells, self.transfers

    @property
    def jobs(self) -> tuple[Job, ...]:
        return tuple(job for stage in self.stages for job in stage)

    def estimator(self) -> Estimator:
        """Estimates how long the jobs take, from what is recorded of the cells that were asked for."""
        return Estimator(self.asked_for, self.states)

    @property
    def due(self) -> tuple[Cell, ...]:
        """The cells that are to be run."""
        return tuple(job.cell for job in (*self.cells, *self.transfers) if job.cell is not None)

    @property
    def epochs(self) -> int:
        """Epochs of all jobs."""
        return sum(job.epochs for job in self.jobs)


def make_agenda(
    cells: Sequence[Cell],
    states: Mapping[str, RunState],
    *,
    retry_failed: bool = False,
    again: Collection[str] = (),
) -> Agenda:
    """What has to be run so that all of `cells` are recorded.

    Args:
        states: what the tracking store knows, by id of a cell, a search or a dense network.
        retry_failed: whether a cell that failed is run again.
        again: ids of cells, and of searches, that are run again although they are recorded.
    """
    # One that seems to run may have been killed; of one that is lost, nothing is left.
    rerun = {"running", "lost", "failed"} if retry_failed else {"running", "lost"}
    due = [c for c in cells if c.id not in states or c.id in again or states[c.id].status in rerun]
    due_ids = {c.id for c in due}
    # A source that is not run again has what its controls take over in its record.
    there = {identity for identity, state in states.items() if state.status == "finished"} - due_ids
    searches = search_jobs((c for c in due if c.source not in there), again)
    jobs = [Job.of_cell(c, anew=c.id in again) for c in due]
    return Agenda(
        chosen=len(cells),
        dense=tuple(job for job in dense_jobs(due) if job.id not in there),
        searches=tuple(job for job in searches if job.anew or job.id not in there),
        cells=tuple(job for job, c in zip(jobs, due, strict=True) if not c.takes_over),
        transfers=tuple(job for job, c in zip(jobs, due, strict=True) if c.takes_over),
        failed_before=tuple(c for c in cells if c.id not in due_ids and states[c.id].status == "failed"),
        discarded=tuple(
            job for job in (*searches, *jobs) if job.anew and job.id in states and states[job.id].status != "running"
        ),
        made_with=_made_with(states.values()),
        asked_for=tuple(cells),
        states=states,
    )


def _made_with(states: Iterable[RunState]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for state in states:
        workload, data = state.tags.get(TAG + WORKLOAD), state.tags.get(TAG + DATA)
        if state.status == "finished" and workload and data:
            found.setdefault(workload, set()).add(data)
    return {workload: frozenset(data) for workload, data in found.items()}


def dense_jobs(cells: Iterable[Cell]) -> list[Job]:
    """The dense networks that these cells start from, each once."""
    return list({cell.dense_id: Job.of_dense(cell) for cell in cells}.values())


def search_jobs(cells: Iterable[Cell], again: Collection[str] = ()) -> list[Job]:
    """The searches that these cells start from, each once.

    Args:
        again: ids of those that are made anew.
    """
    found: dict[str, Job] = {}
    for cell in cells:
        identity = search_id(cell)
        if identity is not None and identity not in found:
            found[identity] = Job.of_search(cell, anew=identity in again)
    return list(found.values())
