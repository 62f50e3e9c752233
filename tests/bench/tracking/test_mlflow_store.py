"""MLflow as the system of record: claims, replacement of dead runs, and two ways of reading that agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.errors import RequestError
from bench.tracking.mlflow_store import TAG, AlreadyRunning, Tracker
from bench.tracking.quick_read import has_states, read_states
from bench.tracking.states import LOST
from tests.bench.tracking.ended import end, make_dead, make_distant


@pytest.fixture
def uri(store: str) -> str:
    return store


def test_a_finished_cell_is_found_by_its_id(uri: str) -> None:
    tracker = Tracker(uri, "s")
    run_id = end(tracker, "aaa", text='{"x": 1}')
    state = tracker.find("aaa")
    assert state is not None and state == tracker.best()["aaa"] and tracker.find("bbb") is None
    assert (state.run_id, state.status, state.kind) == (run_id, "finished", "cell")
    assert tracker.read_text(run_id, "record.json") == '{"x": 1}'


def test_both_ways_of_reading_agree(uri: str) -> None:
    tracker = Tracker(uri, "s")
    end(tracker, "aaa")
    end(tracker, "bbb", "failed")
    tracker.claim("ccc", kind="dense", label="c")
    Tracker(uri, "other")
    quick, slow = read_states(uri, "s"), tracker.best()
    assert {i: (s.run_id, s.status, s.kind) for i, s in quick.items()} == {
        i: (s.run_id, s.status, s.kind) for i, s in slow.items()
    }
    assert {i: s.status for i, s in quick.items()} == {"aaa": "finished", "bbb": "failed", "ccc": "running"}
    assert read_states(uri, "other") == {}
    assert has_states(uri, "s") and not has_states(uri, "other") and not has_states(uri, "unknown")


def test_reading_creates_nothing(tmp_path: Path) -> None:
    assert read_states(f"sqlite:///{tmp_path / 'mlflow.db'}", "s") == {}
    assert not has_states(f"sqlite:///{tmp_path / 'mlflow.db'}", "s")
    assert list(tmp_path.iterdir()) == []


def test_a_live_cell_is_not_taken_over(uri: str) -> None:
    tracker = Tracker(uri, "s")
    run = tracker.claim("aaa", kind="cell", label="a")
    with pytest.raises(AlreadyRunning, match=run.run_id):
        tracker.claim("aaa", kind="cell", label="a")


def test_who_asks_for_a_cell_too_late_leaves_no_run_open(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker, asked = Tracker(uri, "s"), list[str]()

    def beaten(self: Tracker, run_id: str, where: str, parent_run: str | None) -> object:
        asked.append(run_id)
        return self.states(where)[0]

    monkeypatch.setattr(Tracker, "_rival", beaten)
    with pytest.raises(AlreadyRunning):
        tracker.claim("aaa", kind="cell", label="a")
    info = tracker.client.get_run(*asked).info
    assert (info.status, info.lifecycle_stage) == ("KILLED", "deleted")


def test_a_dead_run_is_replaced_and_counts_once(uri: str) -> None:
    tracker = Tracker(uri, "s")
    dead = tracker.claim("aaa", kind="cell", label="a")
    make_dead(tracker, dead.run_id)
    run_id = end(tracker, "aaa")
    states = [s for s in tracker.states() if s.cell_id == "aaa"]
    assert [(s.run_id, s.status) for s in states] == [(run_id, "finished")]
    assert read_states(uri, "s")["aaa"].run_id == run_id


def test_a_run_on_another_machine_is_nobodys_only_when_it_was_taken_over(uri: str) -> None:
    tracker = Tracker(uri, "s")
    run = tracker.claim("aaa", kind="cell", label="a")
    make_distant(tracker, run.run_id, silent=86400.0)  # by a clock that may be wrong
    with pytest.raises(AlreadyRunning, match="elsewhere"):
        tracker.claim("aaa", kind="cell", label="a")
    (state,) = tracker.states()
    assert tracker.take_over(state, "silent") and tracker.take_over(state, "silent")  # two may see it at once
    assert tracker.claim("aaa", kind="cell", label="a").run_id != run.run_id
    closed = tracker.client.get_run(run.run_id)
    assert (closed.info.status, closed.info.lifecycle_stage) == ("KILLED", "deleted")
    assert closed.data.tags[LOST].startswith("silent; taken over by process ")


def test_a_reused_process_number_is_not_mistaken_for_life(uri: str) -> None:
    tracker = Tracker(uri, "s")
    run = tracker.claim("aaa", kind="cell", label="a")
    tracker.client.set_tag(run.run_id, TAG + "process_start", "1")
    assert tracker.claim("aaa", kind="cell", label="a").run_id != run.run_id


def test_epochs_and_parameters_are_logged_once_each(uri: str) -> None:
    tracker = Tracker(uri, "s")
    run = tracker.claim("aaa", kind="cell", label="a")
    run.parameters({"a": {"b": 1, "c": [2]}, "d": "x" * 9000})
    run.rows([{"phase": "dense", "epoch": e, "loss": 1.0 / e, "note": "text"} for e in (1, 2)])
    run.epoch("dense", 3, {"loss": 0.1, "epoch": 3, "phase": "dense"})
    run.flush()
    data = tracker.client.get_run(run.run_id).data
    assert data.params["a.b"] == "1" and data.params["a.c"] == "[2]" and len(data.params["d"]) == 500
    history = tracker.client.get_metric_history(run.run_id, "dense.loss")
    assert [(m.step, m.value) for m in sorted(history, key=lambda m: m.step)] == [(1, 1.0), (2, 0.5), (3, 0.1)]


def test_an_abandoned_invocation_is_closed_by_the_next(uri: str) -> None:
    tracker = Tracker(uri, "s")
    first = tracker.begin_invocation("one", {})
    make_dead(tracker, first)
    second = tracker.begin_invocation("two", {})
    tracker.end_invocation(second)
    assert tracker.client.get_run(first).info.status == "KILLED"
    assert tracker.client.get_run(second).info.status == "FINISHED"


def test_stores_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"absent/mlflow\.db cannot be written"):
        Tracker(f"sqlite:///{tmp_path / 'absent' / 'mlflow.db'}", "s")
    with pytest.raises(RequestError, match="is not allowed; use sqlite:///FILE"):
        Tracker("ftp://x", "s")
    junk = tmp_path / "junk.db"
    junk.write_text("this is no database, whatever its name says")
    with pytest.raises(RequestError, match="cannot be read as an MLflow database"):
        read_states(f"sqlite:///{junk}", "s")
    with pytest.raises(RequestError, match="cannot be used"):
        Tracker(f"sqlite:///{junk}", "s")


def test_one_cell_is_asked_for_by_itself(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = Tracker(uri, "s")
    first = end(tracker, "aaa", "failed")
    for name in ("bbb", "ccc"):
        end(tracker, name)
    second = end(tracker, "aaa", "failed")
    read: list[str] = []
    search = tracker.client.search_runs

    def counted(*arguments: Any, **options: Any) -> Any:
        page = search(*arguments, **options)
        read.extend(run.info.run_id for run in page)
        return page

    monkeypatch.setattr(tracker.client, "search_runs", counted)
    state = tracker.find("aaa")
    assert state is not None and state.run_id == second
    assert sorted(read) == sorted([first, second])


def test_a_run_can_be_ended_for_a_process_that_is_gone(uri: str) -> None:
    tracker = Tracker(uri, "s")
    parent = tracker.begin_invocation("x", {})
    run = tracker.claim("aaa", kind="cell", label="a", parent_run=parent)
    state = tracker.find("aaa")
    assert state is not None and (state.status, state.parent_run) == ("running", parent)
    tracker.tracked(state).fail("{}")
    ended = tracker.find("aaa")
    assert ended is not None and (ended.run_id, ended.status) == (run.run_id, "failed")
