"""How a job's end is recorded when its worker is gone, and when another process has it."""

from __future__ import annotations

import logging
import os
import signal
import time

import pytest

from bench.errors import RequestError
from bench.runs.events import Event, Started
from bench.runs.job import Job, Settings
from bench.runs.place import where
from bench.runs.suite import load_suite
from bench.runs.tracked import ActiveJob, Result, record_loss, run_tracked, sweep, work_folder
from bench.tracking.mlflow_store import Tracker
from bench.tracking.states import TAG

CELL = Job.of_cell(load_suite("demo").cells[0])
DENSE = Job(CELL.workload, CELL.seed)


@pytest.mark.parametrize("job", [CELL, DENSE], ids=["cell", "dense"])
def test_the_run_that_a_lost_worker_left_is_closed_with_its_log(job: Job, tracker: Tracker, settings: Settings) -> None:
    left = tracker.claim(job.id, kind=job.kind, label=job.label, parent_run=settings.parent_run)
    folder = work_folder(job, settings)
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("it had begun")
    outcome = record_loss(job, settings, "it was killed")
    assert (outcome.status, outcome.error, outcome.kind) == ("failed", "it was killed", job.kind)
    (state,) = (s for s in tracker.states() if s.kind == job.kind)
    assert (state.run_id, state.status) == (left.run_id, "failed")
    assert "it was killed" in tracker.read_text(left.run_id, "record.json")
    assert tracker.read_text(left.run_id, "log.txt") == "it had begun"


def test_a_worker_that_was_lost_before_it_began_leaves_a_failed_run_too(tracker: Tracker, settings: Settings) -> None:
    assert record_loss(CELL, settings, "it never began").status == "failed"
    state = tracker.find(CELL.id)
    assert state is not None and tracker.record(state).error == "it never began"


def test_a_result_that_was_stored_counts_though_its_worker_is_lost(tracker: Tracker, settings: Settings) -> None:
    tracker.claim(CELL.id, kind="cell", label="c", parent_run=settings.parent_run).finish("{}")
    assert record_loss(CELL, settings, "it died at its exit").status == "finished"
    assert [s.status for s in tracker.states() if s.kind == "cell"] == ["finished"]


def test_another_process_keeps_its_run_when_our_worker_is_lost(tracker: Tracker, settings: Settings) -> None:
    theirs = tracker.claim(CELL.id, kind="cell", label="c", parent_run="another invocation")
    assert record_loss(CELL, settings, "it was killed").status == "elsewhere"
    assert [(s.run_id, s.status) for s in tracker.states() if s.kind == "cell"] == [(theirs.run_id, "running")]
    tracker.client.set_tag(theirs.run_id, TAG + "pid", "999999999")  # now they are dead as well
    assert record_loss(CELL, settings, "it was killed").status == "failed"
    assert [s.status for s in tracker.states() if s.kind == "cell"] == ["failed"]


def test_a_job_that_another_process_runs_is_left_alone(tracker: Tracker, settings: Settings) -> None:
    theirs = tracker.claim(CELL.id, kind="cell", label="c")
    events: list[Event] = []

    def work(active: ActiveJob) -> Result:
        raise AssertionError("it was run twice")

    outcome = run_tracked(CELL, settings, events.append, work)
    assert outcome.status == "elsewhere" and theirs.run_id in outcome.error
    assert events == []


def test_what_work_raises_is_recorded_with_its_traceback_and_keeps_the_checkpoints(
    tracker: Tracker, settings: Settings
) -> None:
    events: list[Event] = []

    def work(active: ActiveJob) -> Result:
        (active.folder / "search.pt").write_text("so far")
        raise ZeroDivisionError("by\nzero")

    outcome = run_tracked(CELL, settings, events.append, work)
    assert (outcome.status, outcome.error) == ("failed", "ZeroDivisionError: by zero")
    assert events == [Started(id=CELL.id, label=CELL.label, where=where(settings))]
    assert outcome.where == where(settings) != ""
    state = tracker.find(CELL.id)
    assert state is not None and state.tags["prunebench.where"] == outcome.where
    assert "in work" in tracker.record(state).traceback
    assert (work_folder(CELL, settings) / "search.pt").exists()
    # A job that succeeds leaves no folder behind.
    assert (
        run_tracked(CELL, settings, events.append, lambda active: Result(summary="", record="{}")).status == "finished"
    )
    assert not work_folder(CELL, settings).exists()


def test_a_lost_job_that_is_run_again_is_recorded_once(tracker: Tracker, settings: Settings) -> None:
    left = tracker.claim(CELL.id, kind="cell", label=CELL.label, parent_run=settings.parent_run)
    assert record_loss(CELL, settings, "it was killed", again=True).status == "failed"
    assert tracker.find(CELL.id) is None
    closed = tracker.client.get_run(left.run_id)
    assert (closed.info.lifecycle_stage, closed.info.status) == ("deleted", "FAILED")
    assert record_loss(CELL, settings, "it never began", again=True).status == "failed"
    assert tracker.find(CELL.id) is None
    outcome = run_tracked(CELL, settings, lambda event: None, lambda active: Result(summary="", record="{}"))
    assert outcome.status == "finished"
    assert [s.status for s in tracker.states() if s.kind == "cell"] == ["finished"]


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SystemExit(0), "SystemExit: 0"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit("by the back door"), "GeneratorExit: by the back door"),
        (Unspeakable(), "Unspeakable: its message cannot be shown (RuntimeError)"),
        (ValueError("half a \udce9 letter"), r"ValueError: half a \udce9 letter"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_by_whatever_door_an_adapter_leaves_the_job_alone_has_failed(
    error: BaseException,
    reason: str,
    tracker: Tracker,
    settings: Settings,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What pytest collects of the log goes to its workers' master as UTF-8, which has no lone surrogates.
    monkeypatch.setattr(logging.getLogger("prunebench"), "propagate", False)

    def work(active: ActiveJob) -> Result:
        raise error

    outcome = run_tracked(CELL, settings, lambda event: None, work)
    assert (outcome.status, outcome.error) == ("failed", reason)
    state = tracker.find(CELL.id)
    assert state is not None and state.status == "failed"
    record = tracker.record(state)
    assert record.error == reason and "in work" in record.traceback
    assert type(error).__name__ in tracker.read_text(state.run_id, "log.txt")
    assert "Logging error" not in capfd.readouterr().err


def test_an_interrupt_from_the_keyboard_ends_the_run_itself(tracker: Tracker, settings: Settings) -> None:
    def work(active: ActiveJob) -> Result:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
        raise AssertionError("the signal did not come")

    with pytest.raises(KeyboardInterrupt):
        run_tracked(CELL, settings, lambda event: None, work)
    state = tracker.find(CELL.id)
    assert state is not None and state.status == "running"  # taken up again by the next run, since this one is gone
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("minutes", [-1.0, float("nan")])
def test_minutes_between_uploads_that_are_none_are_refused(minutes: float) -> None:
    with pytest.raises(RequestError, match="is not allowed; use 0 or more minutes"):
        Settings(suite="s", tracking_uri="sqlite:///x.db", checkpoint_every=minutes)


def test_what_is_left_of_recorded_jobs_is_removed_and_of_others_kept(tracker: Tracker, settings: Settings) -> None:
    failed = Job.of_cell(load_suite("demo").cells[1])
    tracker.claim(CELL.id, kind="cell", label="c", parent_run=settings.parent_run).finish("{}")
    tracker.claim(failed.id, kind="cell", label="c", parent_run=settings.parent_run).fail("{}")
    folders = [work_folder(job, settings) for job in (CELL, failed, DENSE)]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "recovery.pt").write_text("a checkpoint")
    sweep(settings, tracker.best())
    assert [folder.is_dir() for folder in folders] == [False, True, True]
