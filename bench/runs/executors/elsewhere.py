"""What the worker of a cluster calls: it finds this by its name, and loads the rest of what a job needs by itself."""

from __future__ import annotations

from bench.processes import importing
from bench.runs.events import Emit
from bench.runs.job import Job, Outcome, Settings


def run_elsewhere(job: Job, settings: Settings, emit: Emit) -> Outcome:
    """`run_job`, in a process that may have loaded nothing yet."""
    with importing():
        from bench.runs.run_job import run_job

    return run_job(job, settings, emit)
