"""A cell that cannot have a result says why, and whose fault it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.runs import workload
from bench.tracking.quick_read import read_states
from tests.bench.runs.tiny import OUT, prunebench, records

DIVERGING = ("--set", "workloads.0.train.lr=1e9", "--set", "workloads.0.epochs.dense=1", "--set", "controls=[]", *OUT)


def test_weights_that_are_not_finite_fail_the_dense_network_and_its_cells_give_its_reason(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert prunebench(monkeypatch, "run", "tiny.toml", *DIVERGING) == 1
    states = read_states("sqlite:///mlflow.db", "tiny")
    (dense,) = (state for state in states.values() if state.kind == "dense")
    assert dense.status == "failed"
    reasons = {record.error for record in records(place)}
    (reason,) = reasons
    assert reason.startswith("the dense network of digits-resnet8 with seed 0 failed: ")
    assert "not finite" in reason or "the loss became" in reason
    assert reason in capfd.readouterr().err
    assert prunebench(monkeypatch, "show", dense.cell_id) == 0
    shown = capfd.readouterr().out
    assert f"dense      {dense.cell_id}  digits-resnet8 dense seed 0\nstatus     failed\n" in shown
    assert "Traceback (most recent call last)" in shown
    assert reason == f"the dense network of digits-resnet8 with seed 0 failed: {_error(shown)} (prunebench show " + (
        f"{dense.cell_id})"
    )
    (cell,) = (record for record in records(place) if record.cell["budget"] == 0.3)
    assert prunebench(monkeypatch, "show", cell.cell_id) == 0
    shown = capfd.readouterr().out
    assert f"error      {reason}" in shown and f"dense      {dense.cell_id}" in shown
    assert reason.split(":")[0] in (place / "reports/tiny/README.md").read_text()
    # --retry-failed reaches the dense network as well.
    assert prunebench(monkeypatch, "run", "tiny.toml", *DIVERGING, "--retry-failed") == 1
    (again,) = (state for state in read_states("sqlite:///mlflow.db", "tiny").values() if state.kind == "dense")
    assert again.status == "failed" and again.run_id != dense.run_id


def _error(shown: str) -> str:
    """The reason that `show` gives."""
    (line,) = (line for line in shown.splitlines() if line.startswith("error "))
    return line.removeprefix("error").strip()


def test_a_work_folder_that_cannot_be_made_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (place / "file").write_text("in the way")
    monkeypatch.setenv("PRUNEBENCH_WORK", "file/work")
    assert prunebench(monkeypatch, "run", "tiny.toml") == 2
    assert "work folder file/work cannot be written; set PRUNEBENCH_WORK to another folder" in capfd.readouterr().err


def test_a_budget_that_a_method_cannot_reach_beside_what_it_leaves_whole_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    low = ("--set", "budgets=[0.02]", "--set", "controls=[]")
    assert prunebench(monkeypatch, "run", "tiny.toml", *low, "--set", "method.l1.scope=inner") == 2
    sentence = capfd.readouterr().err.strip().splitlines()[-1]
    assert sentence.startswith("prunebench: workload digits-resnet8, method l1: budget 0.02 cannot be reached ")
    assert "groups stay whole" in sentence
    assert not (place / "mlflow.db").exists() or read_states("sqlite:///mlflow.db", "tiny") == {}


@pytest.mark.parametrize("error", [SystemExit(0), ZeroDivisionError("division")])
def test_a_task_that_fails_to_load_is_named_before_anything_runs(
    error: BaseException, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def load(*arguments: object, **options: object) -> None:
        raise error

    workload._read.cache_clear()
    monkeypatch.setattr("tasks.classification.Classification.load", load)
    assert prunebench(monkeypatch, "run", "tiny.toml") == 2
    sentence = capfd.readouterr().err.strip().splitlines()[-1]
    assert sentence == f"prunebench: workload digits-resnet8: its data cannot be loaded: {error}"
