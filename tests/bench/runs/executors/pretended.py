"""What takes the place of a worker's work in tests. Imports no torch, so that a new process is there at once."""

from __future__ import annotations

import os
import sys
from multiprocessing.connection import Connection

from bench.runs.events import Emit
from bench.runs.job import Job, Outcome, Settings


def serve(pipe: Connection) -> None:
    """A worker that says which GPUs it sees, and whether torch was imported before that could be known."""
    while (work := pipe.recv()) is not None:
        job, _ = work
        pipe.send(Outcome.of(job, "finished", summary=str("torch" in sys.modules), where=_gpus()))


def run_job(job: Job, settings: Settings, emit: Emit) -> Outcome:
    """A task of Ray that says what it was given."""
    import ray

    given = ray.get_runtime_context().get_assigned_resources()
    words = " ".join(f"{kind}={given[kind]:g}" for kind in ("CPU", "GPU", "memory") if kind in given)
    return Outcome.of(job, "finished", summary=f"{words} threads={settings.threads}", where=_gpus())


def _gpus() -> str:
    return os.environ.get("CUDA_VISIBLE_DEVICES", "unset")
