"""Shared by all tests: no network, one thread a worker, and where the real data sets are."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Protocol

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
for name in ("MLFLOW_TRACKING_URI", "PRUNEBENCH_WORK"):
    os.environ.pop(name, None)
# A shell's `make test &` lets the tests, and the programs that they start and interrupt, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest  # noqa: E402 - what it imports must see the settings above


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets; tests that need it skip where it is absent."""
    root = os.environ.get("PRUNEBENCH_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("PRUNEBENCH_DATA names no folder of real data sets")
    return Path(root)


class OnceForAll(Protocol):
    """Makes a folder of what all tests read and leave, once for all processes of the tests."""

    def __call__(self, name: str, make: Callable[[Path], object]) -> Path:
        """The folder of that name, which `make` has filled here or in another process."""
        ...


@pytest.fixture(scope="session")
def once_for_all(tmp_path_factory: pytest.TempPathFactory) -> OnceForAll:
    own = tmp_path_factory.getbasetemp()
    base = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def once(name: str, make: Callable[[Path], object]) -> Path:
        from filelock import FileLock

        folder, made = base / name, base / f"{name}.made"
        with FileLock(base / f"{name}.lock"):
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a process in which it failed
                folder.mkdir()
                make(folder)
                made.touch()
        return folder

    return once


@pytest.fixture(scope="session")
def _empty_store(once_for_all: OnceForAll) -> Path:
    from bench.tracking.mlflow_store import Tracker

    return (
        once_for_all("empty_store", lambda folder: Tracker(f"sqlite:///{folder / 'mlflow.db'}", "unused")) / "mlflow.db"
    )


@pytest.fixture
def store(_empty_store: Path, tmp_path: Path) -> str:
    """The test's own MLflow store, `mlflow.db` in its folder: making one from nothing takes seconds."""
    shutil.copy(_empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture(scope="session")
def tiny_run(_empty_store: Path, once_for_all: OnceForAll) -> Path:
    """A folder in which the tiny suite was run, one cell after the other in one process. Tests read it and leave it."""
    from tests.bench.runs.tiny import SUITE, call

    def run(folder: Path) -> None:
        shutil.copy(_empty_store, folder / "mlflow.db")
        (folder / "tiny.toml").write_text(SUITE)
        assert call("run", "tiny.toml", "--quiet", cwd=folder).wait() == 0

    return once_for_all("tiny_run", run)


@pytest.fixture(autouse=True)
def _no_heart_outlives_its_test() -> Generator[None]:
    """Runs that a test has left open would be shown alive, by a process for each store, until all tests have ended."""
    yield
    if heart := sys.modules.get("bench.tracking.heart"):
        for each in heart._hearts.values():
            each.stop()


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports that this process writes have a dot in place of each figure, which is made and then not drawn, and so has
    the record of a cell; latencies are of ten measurements. Most tests look at none of them.
    """
    from tests.undrawn import draw_nothing, measure_briefly

    draw_nothing(monkeypatch.setattr)
    measure_briefly(monkeypatch.setattr)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collecting imports all that the tests need, of which nothing is garbage."""
    from bench.processes import importing

    with importing():
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU on this machine"))


def pytest_collection_finish() -> None:
    """What the imports left is never garbage: looking through it again and again takes a tenth of the time."""
    from bench.processes import keep

    keep()
