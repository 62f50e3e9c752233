"""What the commands say of stores, of records that are gone, and of cells that others run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bench.interface.cell import Cell
from bench.interface.record import Record
from bench.runs import others
from bench.runs.agenda import make_agenda
from bench.runs.suite import load_suite
from bench.tracking.mlflow_store import TrackedRun, Tracker
from bench.tracking.quick_read import read_states
from tests.bench.cli.calling import call
from tests.bench.runs.tiny import SUITE

ONLY = ("--only", "method=l1", "--only", "budget=0.5", "--quiet")


@pytest.fixture
def cells(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    """The suite's cells, in a working folder with a store."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(SUITE)
    return list(load_suite("tiny.toml").cells)


def failure(cell: Cell, run_id: str, **changes: object) -> str:
    record = Record(
        suite="tiny",
        cell_id=cell.id,
        run_id=run_id,
        status="failed",
        cell=cell.model_dump(mode="json"),
        error="it broke",
    )
    return json.dumps(record.model_dump(mode="json") | changes)


def fail(cell: Cell, **changes: object) -> Path:
    """Record a failure of this cell; the file of its record."""
    run = Tracker("sqlite:///mlflow.db", "tiny").claim(cell.id, kind="cell", label=cell.label)
    run.fail(failure(cell, run.run_id, **changes))
    return Path("mlartifacts/tiny", run.run_id, "artifacts/record.json")


def test_a_lost_record_is_one_missing_cell_and_a_sentence(
    cells: list[Cell], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(cells[0])
    file = fail(cells[1])
    file.write_text(file.read_text()[:-20])
    assert call(monkeypatch, "report", "tiny.toml") == 0
    told = capsys.readouterr()
    assert f"lost: cell {cells[1].id} counts as missing, and prunebench run runs it again" in told.err
    assert "record.json is damaged" in told.err and "1 of 6 cells recorded" in told.out
    (line,) = Path("reports/tiny/cells.jsonl").read_text().splitlines()
    assert json.loads(line)["cell_id"] == cells[0].id
    assert not list(Path("reports").glob("**/*.lock"))
    assert call(monkeypatch, "plan", "tiny.toml", "--json") == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {"failed": 1, "missing": 5}
    for command in (("show", cells[1].id), ("export", cells[1].id, "--out", "out")):
        assert call(monkeypatch, *command) == 2
        assert f"prunebench: cell {cells[1].id} is lost: " in capsys.readouterr().err
    agenda = make_agenda(cells[:2], read_states("sqlite:///mlflow.db", "tiny"))
    assert agenda.due == (cells[1],) and agenda.failed_before == (cells[0],) and not Path("out").exists()


def test_a_report_is_made_where_all_artifacts_are_gone_and_where_the_project_was_moved(
    cells: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for cell in cells:
        fail(cell)
    home = tmp_path / "home"
    home.mkdir()
    for name in ("mlflow.db", "mlartifacts", "tiny.toml"):
        shutil.move(name, home / name)
    monkeypatch.chdir(home)
    assert call(monkeypatch, "report", "tiny.toml") == 0
    assert "6 of 6 cells recorded" in capsys.readouterr().out
    assert call(monkeypatch, "show", cells[0].id) == 0 and "it broke" in capsys.readouterr().out
    shutil.rmtree("mlartifacts")
    assert call(monkeypatch, "report", "tiny.toml") == 0
    told = capsys.readouterr()
    assert "0 of 6 cells recorded" in told.out and told.err.splitlines()[-1] == "lost: 1 more cells"
    assert {file.name for file in tmp_path.iterdir()} == {"home"}


def test_a_model_that_is_gone_is_not_exported(
    cells: list[Cell], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Tracker("sqlite:///mlflow.db", "tiny").claim(cells[0].id, kind="cell", label="x")
    run.finish(failure(cells[0], run.run_id, status="finished"))
    assert call(monkeypatch, "export", cells[0].id, "--out", "out") == 2
    assert "model/model.safetensors is gone; prunebench run SUITE runs it again" in capsys.readouterr().err
    assert not Path("out").exists()


def test_records_of_a_later_release_are_refused_in_the_store_and_in_files(
    cells: list[Cell], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = fail(cells[0], schema_version=3, news={"x": 1})
    Path("old").mkdir()
    Path("old/cells.jsonl").write_text(file.read_text() + "\n")
    for command in (
        ("report", "tiny.toml"),
        ("plan", "tiny.toml"),
        ("run", "tiny.toml"),
        ("show", cells[0].id),
        ("report", "tiny.toml", "--from", "old/cells.jsonl"),
        ("merge", "old", "old", "--out", "both"),
        ("audit", "old"),
    ):
        assert call(monkeypatch, *command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "schema_version 3 is of a later release of prunebench, and this one reads records up to 2" in line
    assert not Path("reports").exists() and not Path("both").exists()


@pytest.mark.parametrize("uri", ["", " ", "sqlite:///mlflow.db\n"])
def test_the_store_of_the_environment_may_be_empty_or_end_in_a_new_line(
    uri: str, cells: list[Cell], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(cells[0])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert call(monkeypatch, "plan", "tiny.toml", "--json") == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {"failed": 1, "missing": 5}


@pytest.fixture
def theirs(cells: list[Cell]) -> TrackedRun:
    """A cell that another process runs, whose dense network is there."""
    tracker = Tracker("sqlite:///mlflow.db", "tiny")
    tracker.claim(cells[0].dense_id, kind="dense", label="d").finish("{}")
    return tracker.claim(cells[0].id, kind="cell", label="c")


def test_a_run_that_ends_while_others_work_has_an_exit_code_of_its_own(
    theirs: TrackedRun, cells: list[Cell], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "run", "tiny.toml", *ONLY) == 3
    told = capsys.readouterr().err
    assert f"elsewhere: {cells[0].label} is being run by another process (run {theirs.run_id}" in told
    assert "1 cells; the same command with --wait waits" in told

    def step(seconds: float) -> None:
        theirs.fail(failure(cells[0], theirs.run_id))

    monkeypatch.setattr(others.time, "sleep", step)
    assert call(monkeypatch, "run", "tiny.toml", *ONLY, "--wait") == 1
    told = capsys.readouterr().err
    assert f"failed: {cells[0].label}: failed in run {theirs.run_id}" in told and "elsewhere:" not in told
    assert len([s for s in Tracker("sqlite:///mlflow.db", "tiny").states() if s.kind == "cell"]) == 1
