"""Shared by all tests: no network, one thread a worker, and where the real data sets are."""

from __future__ import annotations

import gc
import os
import shutil
from base64 import b64decode
from concurrent.futures import Future
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
for name in ("MLFLOW_TRACKING_URI", "PRUNEBENCH_WORK"):
    os.environ.pop(name, None)

import pytest  # noqa: E402 - what it imports must see the settings above

DOT = b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg==")
"""A PNG of one pixel."""


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets; tests that need it skip where it is absent."""
    root = os.environ.get("PRUNEBENCH_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("PRUNEBENCH_DATA names no folder of real data sets")
    return Path(root)


@pytest.fixture(scope="session")
def _empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from bench.tracking.mlflow_store import Tracker

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    Tracker(f"sqlite:///{path}", "unused")
    return path


@pytest.fixture
def store(_empty_store: Path, tmp_path: Path) -> str:
    """The test's own MLflow store, `mlflow.db` in its folder: making one from nothing takes seconds."""
    shutil.copy(_empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture(scope="session")
def tiny_run(_empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the tiny suite was run, one cell after the other in one process. Tests read it and leave it."""
    from tests.bench.runs.tiny import SUITE, call

    folder = tmp_path_factory.mktemp("tiny")
    shutil.copy(_empty_store, folder / "mlflow.db")
    (folder / "tiny.toml").write_text(SUITE)
    assert call("run", "tiny.toml", "--quiet", cwd=folder).wait() == 0
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports that this process writes have a dot in place of each figure, which is made and then not drawn.

    Drawing is most of the time of a small report, and most tests look at none of its figures.
    """
    from bench.report.figures import processes
    from bench.report.figures.style import FORMATS

    dots: Future[dict[str, bytes]] = Future()
    dots.set_result(dict.fromkeys(FORMATS, DOT))
    monkeypatch.setattr(processes.Renderer, "submit", lambda self, figure: dots)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU on this machine"))


def pytest_collection_finish() -> None:
    """What the imports left is never garbage: looking through it again and again takes a tenth of the time."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()
