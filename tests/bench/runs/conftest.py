"""A working folder for whole runs, and the store and settings of single jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.runs.job import Settings
from bench.tracking.mlflow_store import Tracker
from tests.bench.runs.tiny import SUITE
from tests.undrawn import measure_briefly


@pytest.fixture(autouse=True)
def _undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn for the tests that look at them; no test compares latencies."""
    if request.node.get_closest_marker("drawn"):
        measure_briefly(monkeypatch.setattr)
    else:
        request.getfixturevalue("undrawn")


@pytest.fixture
def place(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a suite file and a store."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(SUITE)
    return tmp_path


@pytest.fixture
def tracker(store: str) -> Tracker:
    return Tracker(store, "s")


@pytest.fixture
def settings(store: str, tracker: Tracker, tmp_path: Path) -> Settings:
    parent = tracker.begin_invocation("x", {})
    return Settings(suite="s", tracking_uri=store, parent_run=parent, work=tmp_path / "work")
