"""Artifacts are found where they lie today, and a run without its record does not count."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from bench.errors import RequestError
from bench.interface.record import RecordError
from bench.tracking.address import sqlite_address
from bench.tracking.mlflow_store import Tracker
from bench.tracking.quick_read import read_states
from tests.bench.tracking.ended import end


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_a_project_goes_on_in_another_place(how: str, _empty_store: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new" / "Jörg #2"
    old.mkdir()
    new.parent.mkdir()
    shutil.copy(_empty_store, old / "mlflow.db")
    first = end(Tracker(sqlite_address(old / "mlflow.db"), "s"), "aaa", text='{"x": 1}')
    old.rename(new) if how == "moved" else shutil.copytree(old, new)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    uri = sqlite_address(new / "mlflow.db")
    assert read_states(uri, "s")["aaa"].status == "finished"  # also before anything has been written there
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before
    tracker = Tracker(uri, "s")
    assert tracker.read_text(first, "record.json") == '{"x": 1}'
    second = end(tracker, "bbb", text='{"x": 2}')
    for run_id in (first, second):
        folder = new / "mlartifacts/s" / run_id / "artifacts"
        assert (folder / "record.json").is_file()
        # MLflow itself, and its pages, find them too.
        assert unquote(urlsplit(tracker.client.get_run(run_id).info.artifact_uri).path) == str(folder)
    assert not (old / "mlartifacts/s" / second).exists() and old.exists() == (how == "copied")
    assert {i: s.status for i, s in read_states(uri, "s").items()} == {"aaa": "finished", "bbb": "finished"}


def test_artifacts_that_were_put_elsewhere_on_purpose_stay_there(store: str, tmp_path: Path) -> None:
    tracker = Tracker(store, "other")
    place = (tmp_path / "archive").as_uri()
    tracker.client.create_experiment("s", artifact_location=place)
    for _ in range(2):  # the second finds it made
        tracker = Tracker(store, "s")
        assert tracker.client.get_experiment(tracker.experiment).artifact_location == place
    run_id = end(tracker, "aaa", text='{"x": 1}')
    assert (tmp_path / "archive" / run_id / "artifacts/record.json").is_file()
    assert tracker.read_text(run_id, "record.json") == '{"x": 1}'
    assert read_states(store, "s")["aaa"].status == tracker.best()["aaa"].status == "finished"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "record.json is gone"),
        ("", "record.json is damaged"),
        ('{"schema_version": 2, "suite": "s", "cell', "record.json is damaged"),
        ("[]", "record.json holds no record"),
        ('{"schema_version": 2}', "record.json: suite: Field required"),
        (b"\xff\xfe", "record.json is damaged"),
    ],
)
def test_a_run_whose_record_is_gone_is_lost_and_its_cell_is_run_again(
    text: str | bytes | None, problem: str, store: str, tmp_path: Path
) -> None:
    tracker = Tracker(store, "s")
    run_id = end(tracker, "aaa")
    file = tmp_path / "mlartifacts/s" / run_id / "artifacts/record.json"
    file.unlink() if text is None else file.write_bytes(text.encode() if isinstance(text, str) else text)
    for state in (read_states(store, "s")["aaa"], tracker.best()["aaa"]):
        assert (state.status, state.run_id) == ("lost", run_id) and problem in state.problem
    (found,) = tracker.records([tracker.best()["aaa"]])
    assert isinstance(found, RecordError) and problem in str(found)
    again = end(tracker, "aaa", text='{"x": 2}')
    for state in (read_states(store, "s")["aaa"], tracker.best()["aaa"]):
        assert (state.status, state.run_id) == ("finished", again)


def test_all_are_lost_where_the_folder_of_artifacts_is_gone(store: str, tmp_path: Path) -> None:
    tracker = Tracker(store, "s")
    end(tracker, "aaa")
    end(tracker, "bbb", "failed")
    shutil.rmtree(tmp_path / "mlartifacts")
    assert {s.status for s in read_states(store, "s").values()} == {s.status for s in tracker.states()} == {"lost"}


def test_a_dense_network_without_its_weights_is_lost(store: str, tmp_path: Path) -> None:
    tracker = Tracker(store, "s")
    run = tracker.claim("ddd", kind="dense", label="d")
    out = tmp_path / "out"
    (out / "model").mkdir(parents=True)
    (out / "model/model.safetensors").write_text("weights")
    run.folder(out)
    run.finish(json.dumps({"metrics": {}, "trajectory": []}))
    assert read_states(store, "s")["ddd"].status == "finished"
    (tmp_path / "mlartifacts/s" / run.run_id / "artifacts/model/model.safetensors").unlink()
    assert read_states(store, "s")["ddd"].problem.endswith("model/model.safetensors is gone")


def test_a_record_of_a_later_release_is_refused(store: str) -> None:
    tracker = Tracker(store, "s")
    end(tracker, "aaa", text='{"schema_version": 99, "new_field": 1}')
    for read in (lambda: read_states(store, "s"), tracker.states):
        with pytest.raises(RequestError, match=r"record\.json: schema_version 99 is of a later release of prunebench"):
            read()
