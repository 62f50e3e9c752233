"""Faults of the machine: memory, disks, and a tracking store that cannot be reached."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.exceptions import MlflowException

from bench.errors import CellError
from bench.runs.job import Job, Settings
from bench.runs.reasons import DiskFullError, is_disk_full, reason_of_failure
from bench.runs.suite import load_suite
from bench.runs.tracked import ActiveJob, Result, run_tracked, work_folder
from bench.tracking import connect
from bench.tracking.connect import StoreAwayError, StoreError, retry
from bench.tracking.mlflow_store import Tracker
from bench.training import checkpoint
from tests.bench.runs.tiny import PROGRAM, prunebench

CELL = Job.of_cell(load_suite("demo").cells[0])
AWAY = MlflowException("API request to http://x failed with exception HTTPConnectionPool: refused")


def run(settings: Settings, work: Callable[[ActiveJob], Result]) -> Any:
    return run_tracked(CELL, settings, lambda event: None, work)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
            "out of memory on the GPU: use a smaller train.batch_size, or fewer jobs on each GPU (CUDA out of memory. "
            "Tried to allocate 2 GiB)",
        ),
        (MemoryError(), "out of memory: use a smaller train.batch_size, or fewer --jobs (MemoryError)"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
            "out of memory: use a smaller train.batch_size, or fewer --jobs (RuntimeError: DefaultCPUAllocator: can't "
            "allocate memory: you tried to allocate 9 bytes.)",
        ),
        (CellError("the loss became nan"), "the loss became nan"),
        (ValueError("x"), "ValueError: x"),
    ],
    ids=["gpu", "host", "torch on the host", "cell", "other"],
)
def test_a_want_of_memory_is_named_with_what_helps(
    error: Exception, reason: str, tracker: Tracker, settings: Settings
) -> None:
    def work(active: ActiveJob) -> Result:
        raise error

    assert reason_of_failure(error) == reason
    outcome = run(settings, work)
    assert (outcome.status, outcome.error) == ("failed", reason)


def full(*arguments: object, **options: object) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/full/file")


def test_a_full_disk_ends_the_run_and_fails_no_cell(
    tracker: Tracker, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[ActiveJob] = []

    def work(active: ActiveJob) -> Result:
        seen.append(active)
        checkpoint.save_state(active.folder / "train.pt", {"epoch": 1})
        monkeypatch.setattr(checkpoint, "_checksum", full)
        checkpoint.save_state(active.folder / "train.pt", {"epoch": 2})
        raise AssertionError("it was written")

    with pytest.raises(DiskFullError, match="no space is left on the disk of /full/file: make room, and the same"):
        run(settings, work)
    assert tracker.find(CELL.id) is None
    closed = tracker.client.get_run(seen[0].run.run_id)
    assert (closed.info.status, closed.info.lifecycle_stage) == ("KILLED", "deleted")
    # The checkpoint before it is there, and nothing of the one that found no room.
    monkeypatch.undo()
    folder = work_folder(CELL, settings)
    assert sorted(path.name for path in folder.iterdir()) == ["log.txt", "train.pt"]
    assert checkpoint.restore(folder / "train.pt", lambda state: state["epoch"]) == 1
    assert run(settings, lambda active: Result(summary="", record="{}")).status == "finished"


def test_a_full_disk_is_known_by_whatever_name() -> None:
    assert is_disk_full(OSError(errno.EDQUOT, "quota"))
    assert is_disk_full(RuntimeError("I/O error: No space left on device (os error 28)"))
    chained = StoreError("the store failed")
    chained.__cause__ = RuntimeError("(sqlite3.OperationalError) database or disk is full")
    assert is_disk_full(chained)
    assert not is_disk_full(OSError(errno.ENOENT, "none")) and not is_disk_full(None)


def test_figures_follow_when_the_store_is_back(
    tracker: Tracker, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    back, done = threading.Event(), list[bool]()

    def work(active: ActiveJob) -> Result:
        send = active.run._client.log_batch

        def away(*arguments: Any, **options: Any) -> Any:
            if not back.is_set():
                raise AWAY
            return send(*arguments, **options)

        monkeypatch.setattr(active.run._client, "log_batch", away)
        for epoch in (1, 2, 3):
            active.observer.epoch("search", epoch, {"loss": 1.0 / epoch})
        done.append(back.is_set())
        back.set()
        return Result(summary="", record="{}")

    assert run(settings, work).status == "finished" and done == [False]  # the work did not wait
    state = tracker.find(CELL.id)
    assert state is not None
    history = tracker.client.get_metric_history(state.run_id, "search.loss")
    assert sorted((m.step, m.value) for m in history) == [(1, 1.0), (2, 0.5), (3, 1 / 3)]


def test_a_store_that_stays_away_ends_the_run_and_the_work_is_kept(
    tracker: Tracker, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRUNEBENCH_PATIENCE", "0.3")

    def work(active: ActiveJob) -> Result:
        def away(*arguments: Any, **options: Any) -> Any:
            raise AWAY

        (active.folder / "search.pt").write_text("so far")
        monkeypatch.setattr(active.run._client, "log_batch", away)
        for step in range(1000):
            active.observer.epoch("search", step, {"loss": 1.0})
            time.sleep(0.02)
        raise AssertionError("it went on for ever")

    with pytest.raises(StoreAwayError, match=r"has been away for .* the same command goes on once the store is back"):
        run(settings, work)
    assert (work_folder(CELL, settings) / "search.pt").read_text() == "so far"
    state = tracker.find(CELL.id)
    assert state is not None and state.status == "running"  # nothing is recorded of it


def test_only_a_store_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waits, now = list[float](), [0.0]

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(connect.time, "sleep", sleep)
    monkeypatch.setattr(connect.time, "monotonic", lambda: now[0])
    calls = list[str]()

    def failing(error: Exception) -> Callable[[], object]:
        def call() -> object:
            calls.append("")
            raise error

        return call

    with pytest.raises(StoreAwayError, match="away for 600 seconds"):
        retry(failing(AWAY))
    assert sum(waits) == pytest.approx(600, abs=0.2) and max(waits) == 5.0
    for error, tries in ((MlflowException("locked"), 5), (MlflowException.invalid_parameter_value("deleted"), 1)):
        calls.clear()
        with pytest.raises(StoreError):
            retry(failing(error))
        assert len(calls) == tries


SLEEPER = """
import sys, time
from bench.cli import run as command

def carry_out(*arguments, **options):
    print("at work", file=sys.stderr, flush=True)
    while True:
        try:
            time.sleep(600)
        except KeyboardInterrupt:
            if not {stubborn}:
                raise

command.carry_out = carry_out
"""


@pytest.mark.parametrize("stubborn", [False, True])
@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGTERM, 143, "ended from outside"), (signal.SIGINT, 130, "interrupted")]
)
def test_a_signal_ends_the_command_within_seconds(
    number: signal.Signals, code: int, word: str, stubborn: bool, place: Path
) -> None:
    command = [sys.executable, "-c", SLEEPER.format(stubborn=stubborn) + PROGRAM, "run", "tiny.toml", "--quiet"]
    with subprocess.Popen(command, cwd=place, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line == "at work\n":
                break
        begin = time.monotonic()
        process.send_signal(number)
        said = process.stderr.read()
        assert process.wait() == code and time.monotonic() - begin < 30
    assert said.splitlines()[-1] == (
        f"prunebench: {word}; to go on where this stopped: prunebench run tiny.toml --quiet"
    )


def test_a_report_that_finds_no_room_says_so(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr("bench.cli.run.carry_out", full)
    assert prunebench(monkeypatch, "run", "tiny.toml", "--quiet") == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "prunebench: no space is left on the disk of /full/file: make room, and give the command again"
    )
