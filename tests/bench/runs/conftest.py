"""A working folder for whole runs, and the store and settings of single jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.runs.cell import evaluation
from bench.runs.job import Settings
from bench.structure.measure import Latency
from bench.tracking.mlflow_store import Tracker
from tests.bench.runs.tiny import SUITE


@pytest.fixture(autouse=True)
def _figures(request: pytest.FixtureRequest) -> None:
    """Are drawn for the tests that look at them."""
    if not request.node.get_closest_marker("drawn"):
        request.getfixturevalue("undrawn")


@pytest.fixture(autouse=True)
def _latencies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten measurements, however short: no test compares them."""
    measured = evaluation.compare_latencies

    def quickly(*arguments: Any, min_seconds: float, **options: Any) -> list[Latency]:
        return measured(*arguments, min_seconds=0, **options)

    monkeypatch.setattr(evaluation, "compare_latencies", quickly)


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
