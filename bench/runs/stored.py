"""Results of stages that cells share, as they lie in the store: with checksums, and made again where one fails."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.errors import CellError
from bench.interface.cell import digest
from bench.runs.events import Emit, Ended, Waiting
from bench.runs.job import Job, Outcome, Settings
from bench.runs.tracked import ActiveJob, Result, open_tracker, run_tracked
from bench.tracking.connect import StoreError, gone
from bench.tracking.liveness import Watch, why_dead
from bench.tracking.mlflow_store import Tracker
from bench.tracking.places import RECORD, sha256_of
from bench.tracking.states import RunState
from bench.training import parallel

logger = logging.getLogger("prunebench")

PAUSE = 2.0
"""Seconds between two looks at a stage that another process is making."""


class DamagedStageError(CellError):
    """A finished stage is not there any more, or not as it was stored; `state` is its run, None where it has none."""

    def __init__(self, state: RunState | None, reason: str) -> None:
        super().__init__(reason)
        self.state, self.reason = state, reason


def sealed(facts: Mapping[str, Any], folder: Path) -> str:
    """The text of the record of a stage, with the checksums of its files and of itself.

    Args:
        folder: holds the files as they are laid down among the run's artifacts.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    whole = dict(facts) | {"files": {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths}}
    return json.dumps(whole | {"digest": _digest(whole)})


def resealed(facts: Mapping[str, Any]) -> str:
    """The text of the record of a stage in which fields that are no files were changed."""
    whole = {name: value for name, value in facts.items() if name != "digest"}
    return json.dumps(whole | {"digest": _digest(whole)})


def _digest(facts: Mapping[str, Any]) -> str:
    return digest(json.dumps(facts, sort_keys=True))


def ended(tracker: Tracker, job: Job) -> RunState:
    """The run of a stage that had ended before it was asked for.

    Raises:
        DamagedStageError: it has none any more: it was found damaged, and another process is about to make it again.
    """
    state = tracker.find(job.id)
    if state is None or state.status not in ("finished", "failed"):
        raise DamagedStageError(state, f"{job.label} was not there any more")
    return state


def facts_of(tracker: Tracker, state: RunState) -> dict[str, Any]:
    """The record of a stage that has ended. One of an earlier release has no checksums.

    Raises:
        DamagedStageError: it is gone or not as it was stored.
    """
    try:
        facts = json.loads(tracker.read_text(state.run_id, RECORD))
    except (StoreError, OSError, ValueError) as error:
        if isinstance(error, StoreError) and not gone(error.__cause__):
            raise
        raise DamagedStageError(state, f"{RECORD} of run {state.run_id} cannot be read") from None
    if not isinstance(facts, dict):
        raise DamagedStageError(state, f"{RECORD} of run {state.run_id} holds no record")
    sum_ = facts.get("digest")
    if sum_ is not None and sum_ != _digest({name: value for name, value in facts.items() if name != "digest"}):
        raise DamagedStageError(state, f"the checksum of {RECORD} of run {state.run_id} does not hold")
    return facts


@contextmanager
def stored_folder(tracker: Tracker, state: RunState, name: str, facts: Mapping[str, Any]) -> Iterator[Path]:
    """A folder of a finished stage's artifacts, every file of it checked.

    Args:
        name: of the folder among the artifacts.
        facts: the stage's record, as `facts_of` gave it.

    Raises:
        DamagedStageError: a file is gone or not as it was stored.
    """
    files = {file: sum_ for file, sum_ in facts.get("files", {}).items() if file.startswith(f"{name}/")}
    try:
        with tracker.artifact(state.run_id, name) as folder:
            for file, sum_ in files.items():
                path = folder / file.removeprefix(f"{name}/")
                if not path.is_file():
                    raise DamagedStageError(state, f"{file} of run {state.run_id} is gone")
                if sha256_of(path) != sum_:
                    raise DamagedStageError(state, f"the checksum of {file} of run {state.run_id} does not hold")
            yield folder
    except StoreError as error:
        if not gone(error.__cause__):
            raise
        raise DamagedStageError(state, f"{name} of run {state.run_id} is gone") from None


def require_whole(tracker: Tracker, job: Job, name: str) -> None:
    """Look through the files of a stage that has ended.

    Args:
        name: of their folder among the artifacts.

    Raises:
        DamagedStageError: they are not as they were stored.
    """
    state = ended(tracker, job)
    if state.status == "finished":
        with stored_folder(tracker, state, name, facts_of(tracker, state)):
            pass  # its checksums hold


def make_again(
    job: Job, active: ActiveJob, damage: DamagedStageError, work: Callable[[ActiveJob, str], Result]
) -> None:
    """Make a stage again whose stored result is damaged, or wait until another process has done so.

    Args:
        active: the job that needs the stage.
        work: makes it; gets a note for its record.

    Raises:
        DamagedStageError: several processes run the job, of which none can make another one amid its work.
    """
    if parallel.size() > 1:
        raise damage  # those of several processes are looked through before the processes are started

    def run(note: str) -> Outcome:
        return run_tracked(job, active.settings, active.emit, lambda inner: work(inner, note))

    made_again(job, active.settings, active.emit, damage, run)


def made_again(
    job: Job, settings: Settings, emit: Emit, damage: DamagedStageError, run: Callable[[str], Outcome]
) -> None:
    """As `make_again`, for whoever runs jobs in another way.

    Args:
        run: runs the job; gets the note.
    """
    note = f"an earlier result was damaged and made again: {damage.reason}"
    logger.warning("%s: %s", job.label, note)
    tracker = open_tracker(settings.tracking_uri, settings.suite)
    if damage.state is not None and damage.state.status == "finished":
        tracker.lose(damage.state, damage.reason)
    watch = Watch()
    while True:
        outcome = run(note)
        emit(Ended(id=job.id, outcome=outcome))
        if outcome.status != "elsewhere":
            return
        emit(Waiting(id=job.id, label=job.label, run=outcome.error))
        if not _taken_from_the_dead(tracker, job.id, watch):
            return


def _taken_from_the_dead(tracker: Tracker, identity: str, watch: Watch) -> bool:
    """Wait until the run that another process has of a stage has ended; whether that process died, and left it."""
    while (state := tracker.find(identity)) is not None and state.status == "running":
        if watch.has_lapsed(state) and tracker.take_over(state, why_dead(state)):
            return True
        time.sleep(PAUSE)
    return state is None
