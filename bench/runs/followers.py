"""The processes of a job beside its first: they compute the same, and record nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from bench.runs.events import ignore
from bench.runs.job import Job, Settings
from bench.runs.tracked import ActiveJob, Result, now, work_folder
from bench.tracking.tracked_run import TrackedRun


class Unrecorded(TrackedRun):
    """A run that is none: what is logged in it is dropped, since the first process logs the same."""

    def __init__(self) -> None:
        self.run_id, self.has_uploads = "", False

    def check(self) -> None: ...

    def flush(self) -> None: ...

    def upload(self, file: Path, epoch: int) -> None: ...

    def tags(self, values: Mapping[str, str]) -> None: ...

    def parameters(self, values: Mapping[str, Any]) -> None: ...

    def rows(self, rows: Any) -> None: ...

    def epoch(self, phase: str, epoch: int, row: Mapping[str, Any]) -> None: ...

    def final(self, values: Mapping[str, float | int | None]) -> None: ...

    def folder(self, path: Path, name: str | None = None) -> None: ...


def follow(job: Job, settings: Settings, work: Callable[[ActiveJob], Result]) -> None:
    """Do the work of a job up to where its first process goes on alone.

    Raises:
        Exception: what the work raises; whoever started this process tells it apart from what the first one raises.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    work(ActiveJob(job, settings, ignore, Unrecorded(), work_folder(job, settings), now()))
