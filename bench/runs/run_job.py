"""Runs one job, whatever its kind: the one function that executors call."""

from __future__ import annotations

from bench.runs.cell.run import run_cell
from bench.runs.cell.search import make_search
from bench.runs.dense import train_dense
from bench.runs.events import Emit
from bench.runs.followers import follow
from bench.runs.job import Job, Outcome, Settings
from bench.runs.ranks import run_together
from bench.runs.tracked import run_tracked
from bench.training import parallel

WORKS = {"cell": run_cell, "search": make_search, "dense": train_dense}
"""What runs a job, by its kind."""


def run_job(job: Job, settings: Settings, emit: Emit) -> Outcome:
    """Run a cell, make a search or train a dense network; a failure is recorded, not raised.

    Raises:
        RequestError: the tracking store cannot be used, so that nothing can be recorded.
        RankLostError: the job has several processes, and one of them was lost.
    """
    if settings.resources.devices_per_cell > 1:
        return run_together(run_in_rank, job, settings, emit)
    return run_tracked(job, settings, emit, WORKS[job.kind])


def run_in_rank(job: Job, settings: Settings, emit: Emit) -> Outcome | None:
    """What each of the processes of a job does; how it ended is known to the first of them."""
    work = WORKS[job.kind]
    if parallel.first():
        return run_tracked(job, settings, emit, work)
    follow(job, settings, work)
    return None
