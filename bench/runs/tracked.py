"""Runs a job under an MLflow run of its own, and records how it ended: with a result, with an error, or lost."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from bench.errors import CellError, RequestError, encodable, message_of
from bench.interface.log import Observer
from bench.interface.record import Record
from bench.runs.environment import environment, environment_tags
from bench.runs.events import Emit, EpochEnded, StageReached, Started, StepTaken
from bench.runs.isolation import interrupts_told_apart, process_kept
from bench.runs.job import Job, Outcome, Settings
from bench.runs.place import where
from bench.tracking.mlflow_store import AlreadyRunning, TrackedRun, Tracker
from bench.tracking.states import DATA, WHERE, WORKLOAD, RunState
from bench.training.parallel import PeerLostError

logger = logging.getLogger("prunebench")

LOG = "log.txt"


@dataclass(frozen=True)
class ActiveJob:
    """A job while it runs: its MLflow run, its folder for checkpoints, and who is told of its progress."""

    job: Job
    settings: Settings
    emit: Emit
    run: TrackedRun
    folder: Path
    started_at: str

    @property
    def observer(self) -> Observer:
        """Passes on what the training loop tells: to MLflow, the log file and the events."""
        return _JobObserver(self)

    def made_with(self, fingerprint: str) -> None:
        """Say in the store which data the job reads, so that no other data are taken for the same."""
        self.run.tags({WORKLOAD: self.job.workload.id, DATA: fingerprint})

    @property
    def tracker(self) -> Tracker:
        return open_tracker(self.settings.tracking_uri, self.settings.suite)

    def stage(self, name: str) -> None:
        """Say that the job has come to this stage."""
        self.emit(StageReached(id=self.job.id, stage=name))


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a job that succeeds hands back."""

    summary: str
    """One line for the display."""
    record: str
    """The text of the run's `record.json`."""


class _JobObserver(Observer):
    def __init__(self, active: ActiveJob) -> None:
        self.active = active

    def epoch(self, phase: str, epoch: int, row: Mapping[str, Any]) -> None:
        self.active.run.epoch(phase, epoch, row)
        figures = ", ".join(f"{k} {v:.4g}" for k, v in row.items() if isinstance(v, float))
        logger.info("%s epoch %d: %s", phase, epoch, figures)
        self.active.emit(EpochEnded(id=self.active.job.id, phase=phase, epoch=epoch, row=row))

    def step(self, phase: str, step: int, steps: int, loss: float) -> None:
        self.active.emit(StepTaken(id=self.active.job.id, phase=phase, step=step, steps=steps, loss=loss))


def run_tracked(job: Job, settings: Settings, emit: Emit, work: Callable[[ActiveJob], Result]) -> Outcome:
    """Do `work` under an MLflow run of its own; whatever it raises is recorded as a failure.

    The caller emits the end of the job.

    Raises:
        PeerLostError: another process that trains the same network is gone; the run is left to whoever runs it again.
        KeyboardInterrupt: Ctrl-C was pressed; one that `work` raises by itself is a failure like any other.
    """
    start, started_at = time.perf_counter(), now()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    folder = work_folder(job, settings)
    if folder.is_file():  # in the way of the folder: nothing of ours
        folder.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        run = _claim(job, settings)
    except AlreadyRunning as other:
        return Outcome.of(job, "elsewhere", error=str(other))
    place = where(settings)
    run.tags({WHERE: place})
    emit(Started(id=job.id, label=job.label, where=place))
    with _logging_to(folder / LOG), interrupts_told_apart() as interrupted:
        try:
            logger.info("%s starts as run %s", job.label, run.run_id)
            with process_kept(lambda text: logger.warning("%s", text)):
                result = work(ActiveJob(job, settings, emit, run, folder, started_at))
            logger.info("%s: %s", job.label, result.summary)
            _store_log(run, folder)
            run.finish(result.record)
            seconds = time.perf_counter() - start
            outcome = Outcome.of(job, "finished", summary=result.summary, seconds=seconds, where=place)
        except BaseException as error:
            # An adapter may leave by sys.exit or KeyboardInterrupt as well: that is the failure of this job alone.
            if isinstance(error, PeerLostError) or (isinstance(error, KeyboardInterrupt) and interrupted()):
                raise
            logger.exception("%s failed", job.label)
            reason = _in_a_line(error)
            _store_log(run, folder)
            run.fail(
                failure_record(
                    job, settings, run.run_id, started_at, error=reason, traceback=encodable(traceback.format_exc())
                )
            )
            outcome = Outcome.of(job, "failed", error=reason, seconds=time.perf_counter() - start, where=place)
    if outcome.status == "finished":
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


def record_loss(job: Job, settings: Settings, reason: str, *, again: bool = False) -> Outcome:
    """Record as failed a job whose worker is gone: close the run that the worker left running, or make one.

    Called by the process that handed the job out. A result that the worker stored before it went still counts.

    Args:
        again: the job will be run once more; the run that was left is closed with the reason and deleted, so that the
            job is recorded once in the end.
    """
    tracker = open_tracker(settings.tracking_uri, settings.suite)
    state = tracker.find(job.id)
    if state is not None and state.status == "finished":
        return Outcome.of(job, "finished", summary="recorded, though its worker was lost afterwards")
    run, started_at = None, now()
    if state is not None and state.status == "running" and state.parent_run == settings.parent_run:
        run = tracker.tracked(state)
        started_at = datetime.fromtimestamp(state.started / 1000, UTC).isoformat(timespec="seconds")
    if run is None and again:
        return Outcome.of(job, "failed", error=reason)
    if run is None:
        try:
            run = _claim(job, settings)
        except AlreadyRunning as other:
            return Outcome.of(job, "elsewhere", error=str(other))
    _store_log(run, work_folder(job, settings))
    run.fail(failure_record(job, settings, run.run_id, started_at, error=reason))
    if again:
        run.delete()
    return Outcome.of(job, "failed", error=reason)


def discard(jobs: Iterable[Job], settings: Settings) -> None:
    """Delete what is recorded of these jobs, and the checkpoints that an unfinished run of them left.

    MLflow keeps deleted runs until `mlflow gc`.
    """
    tracker = open_tracker(settings.tracking_uri, settings.suite)
    for job in jobs:
        tracker.discard(job.id)
        shutil.rmtree(work_folder(job, settings), ignore_errors=True)


def sweep(settings: Settings, states: Mapping[str, RunState]) -> None:
    """Remove the work folders of jobs that have finished: a process that was killed after its record left them.

    Args:
        states: what the tracking store knows, by id.
    """
    folder = settings.work / settings.suite
    for left in folder.iterdir() if folder.is_dir() else ():
        state = states.get(left.name)
        if state is not None and state.status == "finished":
            shutil.rmtree(left, ignore_errors=True)


def failure_record(
    job: Job, settings: Settings, run_id: str, started_at: str, *, error: str, traceback: str = ""
) -> str:
    """The text of the `record.json` of a job that failed."""
    if job.cell is None:
        return json.dumps({"error": error, "traceback": traceback, "label": job.label})
    return Record(
        suite=settings.suite,
        cell_id=job.id,
        run_id=run_id,
        status="failed",
        cell=job.cell.model_dump(mode="json"),
        environment=environment(settings.device, "unknown"),
        started_at=started_at,
        finished_at=now(),
        error=error,
        traceback=traceback,
    ).model_dump_json()


@lru_cache(maxsize=4)
def open_tracker(uri: str, suite: str) -> Tracker:
    """The suite's tracker; a process opens each once."""
    return Tracker(uri, suite)


def work_folder(job: Job, settings: Settings) -> Path:
    """Where the job's checkpoints and log are until it has finished."""
    return settings.work / settings.suite / job.id


def now() -> str:
    """The time of day, UTC, as records state it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _claim(job: Job, settings: Settings) -> TrackedRun:
    tracker = open_tracker(settings.tracking_uri, settings.suite)
    return tracker.claim(
        job.id, kind=job.kind, label=job.label, parent_run=settings.parent_run, tags=environment_tags()
    )


@contextlib.contextmanager
def _logging_to(file: Path) -> Iterator[None]:
    if file.is_dir():
        shutil.rmtree(file)
    handler = logging.FileHandler(file, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


def _store_log(run: TrackedRun, folder: Path) -> None:
    """Store the log file with the run; a worker that was lost early or on another machine left none here."""
    if not (folder / LOG).exists():
        return
    with tempfile.TemporaryDirectory() as out:
        shutil.copy(folder / LOG, Path(out, LOG))
        run.folder(Path(out))


def _in_a_line(error: BaseException) -> str:
    kind, text = type(error).__name__, message_of(error)
    sentence = text if text and isinstance(error, CellError | RequestError) else f"{kind}: {text}" if text else kind
    return sentence[:500]
