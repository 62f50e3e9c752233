"""Runs a job under an MLflow run of its own, and records how it ended: with a result, with an error, or lost."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from bench.errors import encodable
from bench.interface.log import Observer
from bench.interface.record import Record
from bench.runs.environment import environment, environment_tags
from bench.runs.events import Emit, EpochEnded, StageReached, Started, StepTaken
from bench.runs.isolation import interrupts_told_apart, process_kept
from bench.runs.job import Job, Outcome, Settings
from bench.runs.place import where
from bench.runs.reasons import DiskFullError, disk_full, full_disk_told, is_disk_full, reason_of_failure
from bench.tracking.connect import StoreAwayError, StoreError
from bench.tracking.mlflow_store import AlreadyRunning, LeaseLostError, TrackedRun, Tracker
from bench.tracking.states import DATA, WHERE, WORKLOAD, RunState
from bench.tracking.uploads import fetch, uploaded
from bench.training.checkpoint import CHECKPOINTS, epochs_in
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
        self.uploaded = time.monotonic()

    def epoch(self, phase: str, epoch: int, row: Mapping[str, Any]) -> None:
        self.active.run.epoch(phase, epoch, row)
        self.upload(phase, epoch)
        figures = ", ".join(f"{k} {v:.4g}" for k, v in row.items() if isinstance(v, float))
        logger.info("%s epoch %d: %s", phase, epoch, figures)
        self.active.emit(EpochEnded(id=self.active.job.id, phase=phase, epoch=epoch, row=row))
        self.active.run.check()

    def upload(self, phase: str, epoch: int) -> None:
        """Upload the phase's checkpoint where that is due; a store that fails is tried again at the next time."""
        file = self.active.folder / CHECKPOINTS[phase]
        if time.monotonic() - self.uploaded < 60 * self.active.settings.checkpoint_every or not file.is_file():
            return
        try:
            self.active.run.upload(file, epoch)
        except StoreError as error:
            logger.warning("the checkpoint of %s epoch %d was not uploaded: %s", phase, epoch, error)
        self.uploaded = time.monotonic()

    def step(self, phase: str, step: int, steps: int, loss: float) -> None:
        self.active.emit(StepTaken(id=self.active.job.id, phase=phase, step=step, steps=steps, loss=loss))
        self.active.run.check()


def run_tracked(job: Job, settings: Settings, emit: Emit, work: Callable[[ActiveJob], Result]) -> Outcome:
    """Do `work` under an MLflow run of its own; whatever it raises is recorded as a failure.

    The caller emits the end of the job. Where another process has taken the run over meanwhile, nothing is recorded.

    Raises:
        PeerLostError: another process that trains the same network is gone; the run is left to whoever runs it again.
        KeyboardInterrupt: Ctrl-C was pressed; one that `work` raises by itself is a failure like any other.
        RequestError: the store is away for good, or a disk is full: nothing can be recorded.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    folder = work_folder(job, settings)
    with full_disk_told(folder):
        if folder.is_file():  # in the way of the folder: nothing of ours
            folder.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            run = _claim(job, settings)
        except AlreadyRunning as other:
            return Outcome.of(job, "elsewhere", error=str(other))
        place = where(settings)
        try:
            run.tags({WHERE: place})
            emit(Started(id=job.id, label=job.label, where=place))
            outcome = _run_claimed(job, settings, emit, work, run)
        except LeaseLostError as lost:
            return Outcome.of(job, "elsewhere", error=str(lost))
        finally:
            run.let_go()
    if outcome.status == "finished":
        _clear(job, settings, run)
    return replace(outcome, where=place)


def _run_claimed(
    job: Job, settings: Settings, emit: Emit, work: Callable[[ActiveJob], Result], run: TrackedRun
) -> Outcome:
    """Do `work` under the job's run, and record how it ended.

    Raises:
        LeaseLostError: the run is no longer ours.
        KeyboardInterrupt, RequestError: as of `run_tracked`.
    """
    start, started_at, folder = time.perf_counter(), now(), work_folder(job, settings)
    with _logging_to(folder / LOG), interrupts_told_apart() as interrupted:
        try:
            logger.info("%s starts as run %s", job.label, run.run_id)
            _take_up(job, settings, folder, run)
            with process_kept(lambda text: logger.warning("%s", text)):
                result = work(ActiveJob(job, settings, emit, run, folder, started_at))
            logger.info("%s: %s", job.label, result.summary)
            _store_log(run, folder)
            run.finish(result.record)
            return Outcome.of(job, "finished", summary=result.summary, seconds=time.perf_counter() - start)
        except (StoreAwayError, LeaseLostError):
            raise
        except BaseException as error:
            # An adapter may leave by sys.exit or KeyboardInterrupt as well: that is the failure of this job alone.
            if isinstance(error, PeerLostError) or (isinstance(error, KeyboardInterrupt) and interrupted()):
                raise
            run.check()  # what fails in a job that was taken over is no news
            if is_disk_full(error):
                raise _given_up(run, disk_full(error, folder)) from error
            logger.exception("%s failed", job.label)
            reason = reason_of_failure(error)
            _store_log(run, folder)
            run.fail(
                failure_record(
                    job, settings, run.run_id, started_at, error=reason, traceback=encodable(traceback.format_exc())
                )
            )
            return Outcome.of(job, "failed", error=reason, seconds=time.perf_counter() - start)


def _clear(job: Job, settings: Settings, run: TrackedRun) -> None:
    """Delete the checkpoints of a job that has finished."""
    shutil.rmtree(work_folder(job, settings), ignore_errors=True)
    if not run.has_uploads:
        return
    try:
        open_tracker(settings.tracking_uri, settings.suite).drop_uploads(job.id)
    except StoreError as error:
        logger.warning("the uploaded checkpoints of %s stay in the store: %s", job.label, error)


def _given_up(run: TrackedRun, error: DiskFullError) -> DiskFullError:
    """Close the run of a job that cannot go on, as far as the store has room for that; who claims it next does too."""
    with contextlib.suppress(StoreError, LeaseLostError):
        run.give_up(str(error))
    return error


def _take_up(job: Job, settings: Settings, folder: Path, run: TrackedRun) -> None:
    """Put the newest checkpoints that runs of this job have uploaded into its folder, where they are ahead of those."""
    tracker, done = open_tracker(settings.tracking_uri, settings.suite), dict[str, int]()
    for entry in uploaded(tracker.client, tracker.experiment, job.id) if job.epochs else ():
        run.has_uploads = True
        here = done.get(entry.name) or epochs_in(folder / entry.name)
        if entry.epoch > here and fetch(tracker.client, entry, folder):
            here = entry.epoch
            logger.info("%s goes on from epoch %d, uploaded by run %s", entry.name, entry.epoch, entry.run_id)
        done[entry.name] = here


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
    try:
        _store_log(run, work_folder(job, settings))
        run.fail(failure_record(job, settings, run.run_id, started_at, error=reason))
    except LeaseLostError as lost:
        return Outcome.of(job, "elsewhere", error=str(lost))
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
    handler = _LogFile(file, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


class _LogFile(logging.FileHandler):
    """A log file that may lose lines where its disk is full: what matters is written elsewhere, and fails there."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)


def _store_log(run: TrackedRun, folder: Path) -> None:
    """Store the log file with the run; a worker that was lost early or on another machine left none here."""
    if not (folder / LOG).exists():
        return
    with tempfile.TemporaryDirectory() as out:
        shutil.copy(folder / LOG, Path(out, LOG))
        run.folder(Path(out))
