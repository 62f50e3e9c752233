"""Runs one job, whatever its kind: the one function that executors call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from bench.interface.stages import search_id
from bench.runs.cell.run import run_cell
from bench.runs.cell.search import make_search
from bench.runs.dense import train_dense
from bench.runs.events import Emit
from bench.runs.followers import follow
from bench.runs.job import Job, Kind, Outcome, Settings
from bench.runs.ranks import run_together
from bench.runs.stored import DamagedStageError, made_again, require_whole
from bench.runs.tracked import Result, open_tracker, run_tracked
from bench.tracking.places import MODEL, SEARCH
from bench.training import parallel

WORKS: Mapping[Kind, Callable[..., Result]] = {"cell": run_cell, "search": make_search, "dense": train_dense}


def run_job(job: Job, settings: Settings, emit: Emit) -> Outcome:
    """Run a cell, make a search or train a dense network; a failure is recorded, not raised.

    Raises:
        RequestError: the tracking store cannot be used, so that nothing can be recorded.
        RankLostError: the job has several processes, and one of them was lost.
    """
    if settings.resources.devices_per_cell > 1:
        _mend_stages(job, settings, emit)
        return run_together(run_in_rank, job, settings, emit)
    return run_tracked(job, settings, emit, WORKS[job.kind])


def run_in_rank(job: Job, settings: Settings, emit: Emit, note: str = "") -> Outcome | None:
    """What each of the processes of a job does; how it ended is known to the first of them.

    Args:
        note: for the record of a stage.
    """
    work = partial(WORKS[job.kind], note=note) if note else WORKS[job.kind]
    if parallel.first():
        return run_tracked(job, settings, emit, work)
    follow(job, settings, work)
    return None


def _mend_stages(job: Job, settings: Settings, emit: Emit) -> None:
    """Make again what is damaged of the stages that a job reads, which its processes cannot do amid their work."""
    cell, tracker = job.subject, open_tracker(settings.tracking_uri, settings.suite)
    stages = [] if cell is None else [(Job.of_dense(cell), MODEL)]
    if cell is not None and search_id(cell) is not None:
        stages.append((Job.of_search(cell), SEARCH))
    for stage, file in stages:
        if stage.id not in job.needs:
            continue
        try:
            require_whole(tracker, stage, file.partition("/")[0])
        except DamagedStageError as damage:

            def run(note: str, stage: Job = stage) -> Outcome:
                return run_together(partial(run_in_rank, note=note), stage, settings, emit)

            made_again(stage, settings, emit, damage, run)
