"""Checkpoints in the store: the last one counts once it is whole, and the one before it where it is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.tracking.connect import StoreError
from bench.tracking.mlflow_store import TrackedRun, Tracker
from bench.tracking.uploads import drop_uploads, fetch, uploaded


@pytest.fixture
def tracker(store: str) -> Tracker:
    return Tracker(store, "s")


def upload(run: TrackedRun, folder: Path, epoch: int) -> None:
    file = folder / "search.pt"
    file.write_text(f"epoch {epoch}")
    run.upload(file, epoch)


def stored(run: TrackedRun, tmp_path: Path) -> dict[str, str]:
    root = tmp_path / "mlartifacts/s" / run.run_id / "artifacts"
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("search.pt")}


def test_two_places_are_used_in_turn_and_a_damaged_upload_is_left_aside(tracker: Tracker, tmp_path: Path) -> None:
    run = tracker.claim("aaa", kind="search", label="a")
    for epoch in (1, 2, 3):
        upload(run, tmp_path, epoch)
    assert stored(run, tmp_path) == {"checkpoint/0/search.pt": "epoch 3", "checkpoint/1/search.pt": "epoch 2"}
    run.delete()  # as when its worker was lost
    new, old = uploaded(tracker.client, tracker.experiment, "aaa")
    assert (new.epoch, old.epoch) == (3, 2)
    (tmp_path / "mlartifacts/s" / run.run_id / "artifacts" / new.path).write_text("epoch 4")
    here = tmp_path / "here"
    here.mkdir()
    assert not fetch(tracker.client, new, here) and not list(here.iterdir())
    assert fetch(tracker.client, old, here) and (here / "search.pt").read_text() == "epoch 2"
    assert uploaded(tracker.client, tracker.experiment, "bbb") == []


def test_an_upload_that_fails_leaves_the_one_before_it(
    tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tracker.claim("aaa", kind="search", label="a")
    upload(run, tmp_path, 1)
    monkeypatch.setattr("bench.tracking.connect.time.sleep", lambda seconds: None)

    def cut_short(run_id: str, file: str, place: str) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as full:
        full.setattr(tracker.client, "log_artifact", cut_short)
        with pytest.raises(StoreError, match="the disk is full"):
            upload(run, tmp_path, 2)
    (entry,) = uploaded(tracker.client, tracker.experiment, "aaa")
    assert entry.epoch == 1 and fetch(tracker.client, entry, tmp_path)
    assert (tmp_path / "search.pt").read_text() == "epoch 1"


def test_uploads_are_dropped_with_their_files(tracker: Tracker, tmp_path: Path) -> None:
    run = tracker.claim("aaa", kind="search", label="a")
    upload(run, tmp_path, 1)
    drop_uploads(tracker.client, tracker.uri, tracker.experiment, "aaa")
    assert uploaded(tracker.client, tracker.experiment, "aaa") == [] and stored(run, tmp_path) == {}
