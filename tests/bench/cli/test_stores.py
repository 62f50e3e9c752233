"""What the commands say of stores, of records that are gone, and of cells that others run."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from bench.interface.cell import Cell
from bench.interface.record import Record
from bench.runs import others
from bench.runs.agenda import make_agenda
from bench.runs.suite import load_suite
from bench.tracking.mlflow_store import TrackedRun, Tracker
from bench.tracking.quick_read import read_states
from bench.tracking.states import WHERE
from tests.bench.cli.calling import call
from tests.bench.report import synthetic
from tests.bench.runs.tiny import SUITE
from tests.bench.tracking.ended import make_dead

pytestmark = pytest.mark.usefixtures("undrawn")

ROOT = Path(__file__).resolve().parents[3]
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
    assert told.err.startswith("tiny: writing the report …\nlost: ")
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
        *steps, line = capsys.readouterr().err.splitlines()
        assert all(step.startswith("tiny: ") and step.endswith(" …") for step in steps)
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


def test_a_dead_run_is_told_from_a_live_one(
    theirs: TrackedRun, cells: list[Cell], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for dead, word, sentence in ((False, "running", "running since run"), (True, "stopped", "stopped, since the")):
        if dead:
            make_dead(Tracker("sqlite:///mlflow.db", "tiny"), theirs.run_id)
        assert call(monkeypatch, "plan", "tiny.toml", "--json") == 0
        assert json.loads(capsys.readouterr().out)["counts"] == {word: 1, "missing": 5}
        assert call(monkeypatch, "plan", "tiny.toml") == 0
        out = capsys.readouterr().out
        line = (
            f"stopped, since the process that ran it has ended: {cells[0].label}; prunebench run goes on from its last"
        )
        assert (line in out) == dead and f"1 {word}" in out
        assert call(monkeypatch, "show", cells[0].id) == 0
        assert f"cell {cells[0].id}: {sentence}" in capsys.readouterr().out


def test_a_plan_says_which_device_a_running_cell_is_on(
    theirs: TrackedRun, cells: list[Cell], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "plan", "tiny.toml") == 0
    assert f"running: {cells[0].label}\n" in capsys.readouterr().out
    theirs.tags({WHERE: "cuda:2 of node7"})
    assert call(monkeypatch, "plan", "tiny.toml") == 0
    assert f"running: {cells[0].label} on cuda:2 of node7\n" in capsys.readouterr().out
    assert call(monkeypatch, "plan", "tiny.toml", "--json") == 0
    places = {cell["cell_id"]: cell["where"] for cell in json.loads(capsys.readouterr().out)["cells"]}
    assert places.pop(cells[0].id) == "cuda:2 of node7" and set(places.values()) == {None}


def test_a_dense_network_is_shown_and_not_exported(
    theirs: TrackedRun, cells: list[Cell], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = Tracker("sqlite:///mlflow.db", "tiny")
    facts = {
        "metrics": {"accuracy": 91.234},
        "trajectory": [{"phase": "dense", "epoch": 1, "loss": 0.25}],
        "label": "tiny dense",
        "data_fingerprint": "abc",
    }
    identity = "0123456789ab"
    run = tracker.claim(identity, kind="dense", label="x")
    run.finish(json.dumps(facts))
    model = Path("mlartifacts/tiny", run.run_id, "artifacts/model")
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"")
    assert call(monkeypatch, "show", identity[:8]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"dense      {identity}  tiny dense",
        "status     finished",
        f"MLflow     run {run.run_id} in experiment 'tiny' of sqlite:///{Path('mlflow.db').resolve()}",
        "accuracy   91.23 on the test split",
        "epochs     1; the last: loss 0.25",
        "data       fingerprint abc",
    ]
    assert call(monkeypatch, "show", identity, "--json") == 0
    assert json.loads(capsys.readouterr().out) == facts
    for wrong, sentence in (((), "--config is for cells"), (("--json",), "--config and --json are not allowed")):
        assert call(monkeypatch, "show", identity, "--config", *wrong) == 2
        assert sentence in capsys.readouterr().err
    assert call(monkeypatch, "export", identity, "--out", "out") == 2
    assert f"{identity} is a dense network and no cell" in capsys.readouterr().err


def test_a_report_of_chosen_cells_speaks_of_them_and_leaves_the_whole_one(
    cells: list[Cell], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(cells[0])
    fail(cells[1])
    assert call(monkeypatch, "report", "tiny.toml") == 0
    assert capsys.readouterr().out == "2 of 6 cells recorded; report: reports/tiny/README.md\n"
    whole = Path("reports/tiny/cells.jsonl").read_text()
    chosen = ("--only", f"cell={cells[0].id},{cells[5].id}")
    assert call(monkeypatch, "report", "tiny.toml", *chosen) == 0
    told = capsys.readouterr().out
    folder = Path(f"reports/tiny--cell-{cells[0].id}-{cells[5].id}")
    assert told == f"1 of 2 chosen cells recorded (the suite has 6); report: {folder}/README.md\n"
    assert [json.loads(x)["cell_id"] for x in (folder / "cells.jsonl").read_text().splitlines()] == [cells[0].id]
    assert call(monkeypatch, "run", "tiny.toml", "--only", f"cell={cells[0].id}") == 1
    assert capsys.readouterr().out == "1 of 1 chosen cells recorded (the suite has 6); report: reports/tiny/README.md\n"
    assert Path("reports/tiny/cells.jsonl").read_text() == whole


def test_a_changed_suite_writes_over_no_other_report(
    cells: list[Cell], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(cells[0])
    assert call(monkeypatch, "report", "tiny.toml") == 0
    whole = Path("reports/tiny/cells.jsonl").read_text()
    for change, name in (
        (("--set", "budgets=0.3"), "tiny--budgets-0.3"),
        (("--seeds", "1"), "tiny--seeds-1"),
        (("--set", "methods=[l1]", "--set", "seeds=0"), "tiny--methods-l1-seeds-0"),
        (("--set", "name=tiny"), "tiny"),
        (("--set", "budgets=0.3", "--out", "mine"), None),
    ):
        assert call(monkeypatch, "report", "tiny.toml", *change) == 0
        where = f"reports/{name}" if name else "mine"
        assert f"report: {where}/README.md" in capsys.readouterr().out
    assert Path("reports/tiny/cells.jsonl").read_text() == whole
    Path("other.toml").write_text(SUITE.replace('"tiny"', '"other"').replace("seeds = [0]", "seeds = [7]"))
    assert call(monkeypatch, "report", "other.toml", "--set", "name=tiny") == 2
    assert "reports/tiny holds a report with 1 cells that are not of this one (tiny)" in capsys.readouterr().err
    assert Path("reports/tiny/cells.jsonl").read_text() == whole


def test_a_report_of_a_file_needs_no_suite_and_no_package_of_the_task(
    cells: list[Cell], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    workload = synthetic.workload("w", task="somebody-elses-task", dataset="theirs", model="net")
    records = synthetic.matrix([workload], methods=("their-method", "l1"), budgets=(0.5,))
    Path("old").mkdir()
    Path("old/cells.jsonl").write_text("".join(f"{r.model_dump_json()}\n" for r in records))
    assert call(monkeypatch, "report", "--from", "old/cells.jsonl") == 0
    assert capsys.readouterr().out == f"{len(records)} cells; report: reports/synthetic/README.md\n"
    assert "their-method" in Path("reports/synthetic/tables/main.md").read_text()
    Path("old/cells.jsonl").write_text(f"{records[0].model_dump_json()}\n")
    assert call(monkeypatch, "report", "--from", "old/cells.jsonl") == 2
    assert "give another folder with --out" in capsys.readouterr().err
    assert call(monkeypatch, "report") == 2
    assert "give the name or file of a SUITE" in capsys.readouterr().err
    assert call(monkeypatch, "report", "--from", "old/cells.jsonl", "--only", "method=l1") == 2
    assert "give the SUITE beside --from" in capsys.readouterr().err


def test_a_report_of_a_file_has_the_pictures_of_a_store_that_is_named(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copytree(tiny_run, tmp_path / "ran")
    monkeypatch.chdir(tmp_path)
    lines = [json.loads(line) for line in Path("ran/reports/tiny/cells.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        line["pictures"] = ["pictures/output_0.png"]
        (folder,) = Path("ran/mlartifacts").glob(f"*/{line['run_id']}/artifacts")
        (folder / "pictures").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (0, 0, 40 * number)).save(folder / "pictures/output_0.png")
    Path("cells.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    of_file = ("report", "--from", "cells.jsonl", "--out", "new")
    assert call(monkeypatch, *of_file, "--tracking-uri", "sqlite:///ran/mlflow.db") == 0
    assert {path.name for path in Path("new/figures").glob("samples*")} == {
        f"samples.{s}" for s in ("pdf", "png", "svg")
    }
    assert "--tracking-uri" not in capsys.readouterr().err
    assert call(monkeypatch, *of_file, "--tracking-uri", "sqlite:///none.db") == 0
    assert "name the store that has them with --tracking-uri" in capsys.readouterr().err
    assert not list(Path("new/figures").glob("samples*")) and not Path("none.db").exists()


def test_a_dry_run_checks_and_writes_nothing(
    cells: list[Cell], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fail(cells[1])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert call(monkeypatch, "run", "tiny.toml", "--dry-run", "--only", f"cell={cells[0].id},{cells[1].id}") == 0
    out, err = capsys.readouterr()
    assert out.startswith(
        f"{cells[0].dense_id}  digits-resnet8 dense seed 0: 2 epochs\n{cells[0].id}  {cells[0].label}: 2 epochs\n"
        "2 cells, 1 recorded; would run 1 dense networks, 0 searches and 1 cells, 4 epochs; nothing was run\n"
        "tried and found in order: data, networks, weights, budgets\ntime and disk: "
    )
    assert err.splitlines() == [
        f"tiny: {step} …"
        for step in (
            "reading what is recorded",
            "loading PyTorch",
            "reading data of digits-resnet8",
            "trying network and budgets of digits-resnet8",
        )
    ]
    assert call(monkeypatch, "run", "tiny.toml", "--dry-run", "--set", "budgets=0.001") == 2
    assert "budget 0.001 cannot be reached" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_ctrl_c_says_how_to_go_on(
    cells: list[Cell], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pressed(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.runs.matrix.run_matrix", pressed)
    assert call(monkeypatch, "run", "tiny.toml", "--set", 'methods=["l1"]') == 130
    assert capsys.readouterr().err.splitlines()[-1] == (
        "prunebench: interrupted; to go on where this stopped: prunebench run tiny.toml --set 'methods=[\"l1\"]'"
    )


@pytest.mark.parametrize("terminal", [True, False])
def test_something_is_shown_before_anything_heavy_is_loaded(tmp_path: Path, terminal: bool) -> None:
    Path(tmp_path, "tiny.toml").write_text(SUITE)
    script = (
        "import sys\n"
        "from bench.cli.app import main\n"
        "class Heavy:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('torch', 'mlflow'):\n"
        "            print('loading', name, file=sys.stderr, flush=True)\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Heavy())\n"
        "sys.argv = ['prunebench', 'run', 'tiny.toml']\n"
        "main()\n"
    )
    main, side = pty.openpty() if terminal else os.pipe()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "200"}
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, env=environment, stderr=side)
    os.close(side)
    shown = b""
    with contextlib.suppress(OSError), open(main, "rb", buffering=0) as screen:  # noqa: PTH123
        while part := screen.read(1024):
            shown += part
    assert process.wait() == 130
    before, _, after = shown.decode().partition("loading torch")
    assert "tiny: reading what is recorded …" in before and "tiny: loading PyTorch …" in before
    assert terminal or before == "tiny: reading what is recorded …\ntiny: loading PyTorch …\n"
    assert "to go on where this stopped: prunebench run tiny.toml" in after


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
