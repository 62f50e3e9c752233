"""Every executor, with real workers: the same table, and a worker that dies takes down its own cell alone."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.tracking.mlflow_store import Tracker
from tests.bench.runs.tiny import OUT, PROGRAM, SUITE, figures, records, results
from tests.conftest import OnceForAll
from tests.warm import python

ROOT = Path(__file__).resolve().parents[4]
# What is lost is run again in the same way on every executor (test_executor); a cluster takes long to notice a loss.
HOW = {
    "processes": ("--jobs", "2", "--max-retries", "1"),
    "ray": ("--executor", "ray", "--jobs", "2", "--max-retries", "0"),
    "slurm": ("--executor", "slurm", "--jobs", "2", "--max-retries", "0"),
}
WARM = """
import functools
from submitit.local.local import LocalExecutor
LocalExecutor.__init__ = functools.partialmethod(LocalExecutor.__init__, python={command!r})
"""
"""The pretended cluster starts jobs with this command in place of Python's own."""
KILLER = '''
import os, signal
from dataclasses import dataclass
from typing import ClassVar

@dataclass(frozen=True)
class Killer:
    """Kills its own process."""

    searches: ClassVar[bool] = False
    needs_dense: ClassVar[bool] = True
    recovery: ClassVar[str] = "finetune"
    standing: ClassVar[str] = "for a test"

    def search(self, model, graph, task, budget, ctx):
        os.kill(os.getpid(), signal.SIGKILL)
'''


@dataclass(frozen=True)
class Run:
    """A run of the suite that has ended."""

    folder: Path
    code: int
    stderr: str


def start(folder: Path, empty_store: Path, *arguments: str, plugin: Path) -> subprocess.Popen[str]:
    """Run the suite in a folder of its own, with one thread a worker."""
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    (folder / "tiny.toml").write_text(SUITE)
    (folder / "tmp").mkdir()  # the locks that measurements hold lie there; those of other runs do not matter
    own = {"OMP_NUM_THREADS": "1", "PRUNEBENCH_SLURM_TEST": "1", "PYTHONPATH": f"{plugin}{os.pathsep}{ROOT}"}
    own |= {"TMPDIR": str(folder / "tmp"), "RAY_TMPDIR": tempfile.gettempdir()}  # Ray's sockets need short paths
    program = (WARM.format(command=shlex.join(python())) if "slurm" in arguments else "") + PROGRAM
    command = python("-c", program, "run", "tiny.toml", "--set", "controls=[]", *OUT, *arguments, drawn=False)
    with (folder / "stderr.txt").open("w") as said:
        return subprocess.Popen(command, cwd=folder, env={**os.environ, **own}, stdout=said, stderr=said, text=True)


@pytest.fixture(scope="module")
def runs(once_for_all: OnceForAll, _empty_store: Path) -> Path:
    """A folder with one for each executor: the suite was run there, two cells at a time, one of them of a method that
    kills its worker.

    They run side by side: each waits for its cluster most of the time.
    """

    def run(folder: Path) -> None:
        facts = folder / "plugin" / "killer-1.0.dist-info"
        facts.mkdir(parents=True)
        (folder / "plugin" / "killer.py").write_text(KILLER)
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: killer\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text("[prunebench.methods]\nkiller = killer:Killer\n")
        asked = ("--set", 'methods=["killer", "l1"]', "--set", "budgets=[0.3]")
        begun = {name: start(folder / name, _empty_store, *asked, *HOW[name], plugin=folder / "plugin") for name in HOW}
        for name, process in begun.items():
            (folder / name / "code").write_text(str(process.wait()))

    return once_for_all("executors", run)


@pytest.fixture(params=HOW)
def struck(request: pytest.FixtureRequest, runs: Path) -> Run:
    place = runs / request.param
    return Run(place, int((place / "code").read_text()), (place / "stderr.txt").read_text())


def test_every_executor_gives_the_same_table(tiny_run: Path, struck: Run) -> None:
    """As one cell after the other in one process."""
    expected = figures([row for row in results(tiny_run) if (row["method"], row["budget"]) == ("l1", "0.3")])
    given = figures(results(struck.folder))
    assert len(expected) == 1 and {cell: given[cell] for cell in expected} == expected
    # Latencies were measured while the other cell held still.
    assert not any("hold still" in note for record in records(struck.folder) for note in record.notes)


def test_a_worker_that_dies_fails_its_own_cell_and_is_recorded(struck: Run) -> None:
    place = struck.folder
    assert struck.code == 1, struck.stderr
    assert "leaked" not in struck.stderr  # what extensions say of a process that ends with objects left
    assert {r["method"]: r["status"] for r in results(place)} == {"killer": "failed", "l1": "finished"}
    (failed,) = (record for record in records(place) if record.status == "failed")
    assert "worker" in failed.error and failed.run_id and failed.started_at <= failed.finished_at
    # Every job ends once on the display, the lost one too.
    ends = Counter(line.split()[0] for line in struck.stderr.splitlines() if line.startswith(("done", "FAILED")))
    assert ends == {"done": 2, "FAILED": 1}
    assert f"FAILED digits-resnet8 killer 0.3 seed 0: {failed.error}" in struck.stderr
    # The run that the worker left is closed, with the log that it had begun.
    states = Tracker(f"sqlite:///{place / 'mlflow.db'}", "tiny").states()
    assert {state.status for state in states if state.kind != "invocation"} == {"finished", "failed"}
    (lost,) = (state for state in states if state.status == "failed")
    assert lost.run_id == failed.run_id
    (log,) = (place / "mlartifacts").glob(f"*/{lost.run_id}/artifacts/log.txt")
    assert "starts as run" in log.read_text()
