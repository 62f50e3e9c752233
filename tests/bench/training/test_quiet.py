"""While one process measures a latency, the others stand still."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.training import quiet

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such locks")

WORKER = """
import sys, time
from bench.training import quiet
while True:
    with quiet.step():
        open(sys.argv[1], "a").write("x")
        time.sleep(0.01)
"""


@pytest.fixture(autouse=True)
def own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks of this test alone: other tests train beside it."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(quiet, "_open", None)


@contextmanager
def workers(folder: Path, count: int) -> Iterator[list[tuple[subprocess.Popen[bytes], Path]]]:
    """Processes that take a step of 10 ms after another, and the files that grow by a byte with each."""
    files = [folder / f"steps{i}" for i in range(count)]
    started = [(subprocess.Popen([sys.executable, "-c", WORKER, str(file)]), file) for file in files]
    try:
        deadline = time.monotonic() + 60
        while not all(file.exists() for file in files):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield started
    finally:
        for process, _ in started:
            process.kill()
            process.wait()


def test_nobody_takes_a_step_during_a_measurement(tmp_path: Path) -> None:
    with workers(tmp_path, 3) as running:
        for _ in range(3):
            with quiet.quiet() as alone:
                assert alone
                before = [file.stat().st_size for _, file in running]
                time.sleep(0.3)
                assert [file.stat().st_size for _, file in running] == before
            deadline = time.monotonic() + 30
            while any(file.stat().st_size == size for (_, file), size in zip(running, before, strict=True)):
                assert time.monotonic() < deadline, "a process did not go on"
                time.sleep(0.01)


def test_a_process_that_dies_or_is_stopped_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "PATIENCE", 1.0)
    with workers(tmp_path, 1) as ((process, file),):
        while True:  # Stop it inside a step: 10 ms of each round.
            os.kill(process.pid, signal.SIGSTOP)
            with quiet.quiet() as alone:
                pass
            if not alone:
                break
            os.kill(process.pid, signal.SIGCONT)
            time.sleep(0.005)
        process.kill()
        process.wait()
        with quiet.quiet() as alone:
            assert alone
        assert file.exists()


def test_what_a_process_waits_is_known_and_steps_may_nest() -> None:
    before = quiet.waited()
    with quiet.step(), quiet.step():
        pass
    with quiet.quiet() as alone:
        assert alone
    assert quiet.waited() - before < 0.1

    code = "import time; from bench.training import quiet\nwith quiet.quiet(): print(flush=True); time.sleep(0.5)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline()
        with quiet.step():
            pass
    assert quiet.waited() - before > 0.3


def test_where_there_can_be_no_locks_cells_run_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    with quiet.step(), quiet.quiet() as alone:
        assert not alone
