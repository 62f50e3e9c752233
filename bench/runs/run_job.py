"""Runs one job, whatever its kind: the one function that executors call."""

from __future__ import annotations

from bench.runs.cell.run import run_cell
from bench.runs.cell.search import make_search
from bench.runs.dense import train_dense
from bench.runs.events import Emit
from bench.runs.job import Job, Outcome, Settings
from bench.runs.tracked import run_tracked


def run_job(job: Job, settings: Settings, emit: Emit) -> Outcome:
    """Run a cell, make a search or train a dense network; a failure is recorded, not raised.

    Raises:
        RequestError: the tracking store cannot be used, so that nothing can be recorded.
    """
    works = {"cell": run_cell, "search": make_search, "dense": train_dense}
    return run_tracked(job, settings, emit, works[job.kind])
