"""Every executor, with real workers: the same table, and a worker that dies takes down its own cell alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bench.tracking.mlflow_store import Tracker
from tests.bench.runs.tiny import PROGRAM, SUITE, call, figures, records, results

ROOT = Path(__file__).resolve().parents[4]
HOW = {
    "processes": ("--jobs", "2"),
    "ray": ("--executor", "ray", "--jobs", "2"),
    "slurm": ("--executor", "slurm", "--jobs", "2"),
}
KILLER = '''
import os, signal
from dataclasses import dataclass
from typing import ClassVar
from bench.interface.method import Found

@dataclass(frozen=True)
class Killer:
    """Kills its own process at low budgets."""

    searches: ClassVar[bool] = False
    needs_dense: ClassVar[bool] = True
    recovery: ClassVar[str] = "finetune"
    standing: ClassVar[str] = "for a test"

    def search(self, model, graph, task, budget, ctx):
        if budget.ratio < 0.4:
            os.kill(os.getpid(), signal.SIGKILL)
        return Found(scores=graph.channel_scores(model))
'''


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PRUNEBENCH_SLURM_TEST", "1")


@pytest.mark.parametrize("executor", HOW)
def test_every_executor_gives_the_same_table(place: Path, executor: str) -> None:
    only = ("--only", "method=l1", "--quiet")
    assert call("run", "tiny.toml", *only, cwd=place).wait() == 0
    other = place / executor
    other.mkdir()
    (other / "tiny.toml").write_text(SUITE)
    # Two at a time give each one thread, as the run that they are compared with.
    assert call("run", "tiny.toml", *only, *HOW[executor], cwd=other).wait() == 0
    assert figures(results(other)) == figures(results(place))
    # Latencies were measured while the other cell held still.
    assert not any("hold still" in note for record in records(other) for note in record.notes)


@pytest.mark.parametrize("executor", HOW)
def test_a_worker_that_dies_fails_its_own_cell_and_is_recorded(
    place: Path, monkeypatch: pytest.MonkeyPatch, executor: str
) -> None:
    plugin = place / "plugin"
    facts = plugin / "killer-1.0.dist-info"
    facts.mkdir(parents=True)
    (plugin / "killer.py").write_text(KILLER)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: killer\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[prunebench.methods]\nkiller = killer:Killer\n")
    monkeypatch.setenv("PYTHONPATH", f"{plugin}{os.pathsep}{ROOT}")
    chosen = ("--set", 'methods=["killer", "l1"]', "--set", "controls=[]")
    command = [sys.executable, "-c", PROGRAM, "run", "tiny.toml", *chosen, *HOW[executor]]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr

    status = {(r["method"], r["budget"]): r["status"] for r in results(place)}
    assert status == {
        ("killer", "0.5"): "finished",
        ("killer", "0.3"): "failed",
        ("l1", "0.5"): "finished",
        ("l1", "0.3"): "finished",
    }
    (failed,) = (record for record in records(place) if record.status == "failed")
    assert "worker" in failed.error and failed.run_id and failed.started_at <= failed.finished_at
    # Every job ends once on the display, the lost one too.
    ends = Counter(line.split()[0] for line in done.stderr.splitlines() if line.startswith(("done", "FAILED")))
    assert ends == {"done": 4, "FAILED": 1}
    assert f"FAILED digits-resnet8 killer 0.3 seed 0: {failed.error}" in done.stderr
    # The run that the worker left is closed, with the log that it had begun.
    states = Tracker(f"sqlite:///{place / 'mlflow.db'}", "tiny").states()
    assert {state.status for state in states if state.kind != "invocation"} == {"finished", "failed"}
    (lost,) = (state for state in states if state.status == "failed")
    assert lost.run_id == failed.run_id
    (log,) = (place / "mlartifacts").glob(f"*/{lost.run_id}/artifacts/log.txt")
    assert "starts as run" in log.read_text()
