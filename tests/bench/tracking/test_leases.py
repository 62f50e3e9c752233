"""Leases: the process that shows life, and who records where two have worked on one run."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.tracking.address import sqlite_path
from bench.tracking.heart import Heart
from bench.tracking.mlflow_store import AlreadyRunning, Tracker
from bench.tracking.quick_read import read_states
from bench.tracking.states import LOST, TAG
from bench.tracking.tracked_run import LeaseLostError
from tests.bench.tracking.ended import end

BEAT = TAG + "heartbeat"


def until(happens: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What `happens` gives as soon as that is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := happens():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def other_beat(uri: str, run_id: str, than: str) -> str:
    """The run's heartbeat, once it is another."""

    def beat() -> str:
        with sqlite3.connect(sqlite_path(uri), timeout=60) as database:
            query = "SELECT value FROM tags WHERE run_uuid = ? AND key = ?"
            (value,) = database.execute(query, (run_id, BEAT)).fetchone()
        return value if value != than else ""

    return until(beat)


def test_a_heart_beats_until_the_run_is_taken_and_is_started_again_when_killed(store: str) -> None:
    tracker = Tracker(store, "s")
    run_id = tracker.claim("aaa", kind="cell", label="a").run_id
    heart = Heart(store, BEAT, 0.05)
    try:
        lease = heart.hold(run_id)
        first = other_beat(store, run_id, "")
        second = other_beat(store, run_id, first)
        assert heart.pid is not None and not lease.is_lost
        killed = heart.pid
        os.kill(killed, signal.SIGKILL)
        until(lambda: heart.pid not in (None, killed))
        other_beat(store, run_id, other_beat(store, run_id, second))
        state = tracker.find("aaa")
        assert state is not None and tracker.take_over(state, "for a test")
        until(lambda: lease.is_lost)
    finally:
        heart.stop()


def test_a_heart_ends_when_no_run_is_held_and_is_started_with_the_next(store: str) -> None:
    run_id = Tracker(store, "s").claim("aaa", kind="cell", label="a").run_id
    heart = Heart(store, BEAT, 0.05)
    try:
        heart.hold(run_id)
        first, beat = heart.pid, other_beat(store, run_id, "")
        heart.release(run_id)
        until(lambda: heart.pid is None)
        heart.hold(run_id)
        assert heart.pid not in (None, first)
        other_beat(store, run_id, other_beat(store, run_id, beat))
    finally:
        heart.stop()


def test_a_heart_of_a_file_begins_with_few_of_pythons_own_modules(store: str) -> None:
    heart = Heart(store, BEAT, 60.0)
    try:
        heart.hold("aaa")
        # Empty for a moment, while the process begins.
        command = until(lambda: Path(f"/proc/{heart.pid}/cmdline").read_text().split("\0")[:-1])
    finally:
        heart.stop()
    watched = [command[0], "-X", "importtime", *command[1:]]
    done = subprocess.run(watched, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "select" in loaded and not loaded & {"bench", "site", "typing", "pathlib", "logging", "mlflow"}


def test_a_heart_ends_with_the_process_that_it_beats_for(store: str) -> None:
    run_id = Tracker(store, "s").claim("aaa", kind="cell", label="a").run_id
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        heart = Heart(store, BEAT, 0.05)
        heart.hold(run_id)
        os.write(write, f"{heart.pid}\n".encode())
        time.sleep(600)
    heart_pid = int(os.read(read, 100))
    other_beat(store, run_id, other_beat(store, run_id, ""))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)

    def is_gone() -> bool:
        try:
            return Path(f"/proc/{heart_pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    until(is_gone)


@pytest.mark.parametrize("how", ["finish", "fail"])
def test_who_lost_its_run_records_nothing(how: str, store: str) -> None:
    slow, fast = Tracker(store, "s"), Tracker(store, "s")
    run = slow.claim("aaa", kind="cell", label="a")
    state = fast.find("aaa")
    assert state is not None and fast.take_over(state, "it was silent")
    for late in (lambda: run.tags({"a": "b"}), lambda: getattr(run, how)("{}"), lambda: run.final({"x": 1.0})):
        with pytest.raises(LeaseLostError, match=run.run_id):
            late()
    run.epoch("dense", 1, {"loss": 1.0})
    with pytest.raises(LeaseLostError):
        run.flush()
    assert read_states(store, "s") == {}
    again = end(fast, "aaa")
    assert {s.run_id for s in fast.states()} == {again}


def test_a_result_that_came_first_is_kept(store: str) -> None:
    slow, fast = Tracker(store, "s"), Tracker(store, "s")
    run = slow.claim("aaa", kind="cell", label="a")
    state = fast.find("aaa")
    assert state is not None
    run.finish("{}")
    assert not fast.take_over(state, "it was silent")
    (kept,) = slow.states()
    assert (kept.run_id, kept.status) == (run.run_id, "finished") and LOST not in kept.tags


def test_a_mark_between_the_two_steps_of_recording_is_seen(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes over has marked the run and looked at it before the other marks it as finished."""
    slow, fast = Tracker(store, "s"), Tracker(store, "s")
    run = slow.claim("aaa", kind="cell", label="a")
    fast.client.set_tag(run.run_id, LOST, "it was silent")
    with pytest.raises(LeaseLostError):
        run.finish("{}")
    assert read_states(store, "s")["aaa"].status == "lost"
    again = end(fast, "aaa")
    assert read_states(store, "s")["aaa"].run_id == again


def test_a_run_whose_making_was_answered_by_nobody_is_made_once(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker, answers = Tracker(store, "s"), list[str]()
    create = tracker.client.create_run

    def unanswered(*arguments: Any, **options: Any) -> Any:
        run = create(*arguments, **options)
        answers.append(run.info.run_id)
        raise ConnectionResetError("the server was restarted")

    monkeypatch.setattr(tracker.client, "create_run", unanswered)
    run = tracker.claim("aaa", kind="cell", label="a")
    assert answers == [run.run_id] and [s.run_id for s in tracker.states()] == [run.run_id]


def test_runs_that_are_nobodys_are_swept(store: str) -> None:
    tracker = Tracker(store, "s")
    kept, gone = tracker.claim("aaa", kind="cell", label="a"), tracker.claim("bbb", kind="cell", label="b")
    tracker.client.set_tag(gone.run_id, TAG + "pid", "999999999")
    result = end(tracker, "ccc")
    double = tracker._create(kind="cell", cell_id="ccc", label="c", parent_run=None, tags={})
    tracker.sweep()
    assert {s.run_id for s in tracker.states()} == {kept.run_id, result}
    reasons = [tracker.client.get_run(run).data.tags[LOST].partition(";")[0] for run in (gone.run_id, double)]
    assert reasons == ["its process was gone", f"its cell was recorded by run {result}"]


def test_of_two_invocations_failures_are_ordered_without_a_clock(store: str) -> None:
    tracker = Tracker(store, "s")
    first = tracker.begin_invocation("1", {})

    def fail(cell: str, parent: str) -> None:
        tracker.claim(cell, kind="cell", label=cell, parent_run=parent).fail("{}")

    fail("early", first)
    second = tracker.begin_invocation("2", {})  # to run failed cells again
    fail("late", first)
    with sqlite3.connect(sqlite_path(store)) as database:
        database.execute("UPDATE runs SET start_time = 1, end_time = 2 WHERE name = 'late'")
    tracker.claim("early", kind="cell", label="early", parent_run=second)
    with pytest.raises(AlreadyRunning):
        tracker.claim("late", kind="cell", label="late", parent_run=second)
    tracker.end_invocation(first)
    third = tracker.begin_invocation("3", {})
    tracker.claim("late", kind="cell", label="late", parent_run=third)
