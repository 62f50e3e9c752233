"""What a plan says that the rest of a matrix takes, where some of it is recorded; and what a time limit leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.cli.forecast import duration
from bench.runs.suite import load_suite
from bench.tracking.quick_read import read_states
from tests.bench.runs.tiny import SUITE, prunebench
from tests.bench.scale.store import A_SEED, LASTED, NAME, SEARCHES, fill, large_cells, toml


@pytest.fixture
def half_done(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two seeds of a suite, of which the first is recorded: each of its runs lasted as long as any other."""
    cells = large_cells(2 * A_SEED)
    fill(store, [cell for cell in cells if cell.seed == 0])
    (tmp_path / "large.toml").write_text(toml(2 * A_SEED))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_rest_takes_as_long_as_what_is_recorded(
    half_done: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    each = LASTED / 1000
    assert prunebench(monkeypatch, "plan", "large.toml", "--json") == 0
    estimate = json.loads(capsys.readouterr().out)["estimate"]
    assert estimate["recorded_jobs"] == A_SEED + SEARCHES + 4 and estimate["guesses"] == {}
    # Training and the rest of a recorded job add up to its time; here the median of each is taken by itself.
    assert estimate["seconds"]["dense"] == pytest.approx(4 * each, rel=0.05)
    assert estimate["seconds"]["search"] == pytest.approx(SEARCHES * each, rel=0.1)
    assert estimate["seconds"]["cell"] == pytest.approx(A_SEED * each, rel=0.1)
    walls = estimate["wall_seconds"]
    assert list(walls) == ["1", "2", "4", "8"]
    assert walls["1"] == pytest.approx(estimate["device_seconds"])
    assert walls["8"] == pytest.approx(walls["1"] / 8, rel=0.05) and walls["2"] >= walls["1"] / 2
    states = read_states("sqlite:///mlflow.db", NAME)
    folders = half_done / "mlartifacts" / NAME
    sizes = [(folders / s.run_id / "artifacts/record.json").stat().st_size for s in states.values() if s.kind == "cell"]
    assert estimate["store_bytes"] == pytest.approx(sum(sizes), rel=0.1)

    assert prunebench(monkeypatch, "plan", "large.toml", "--jobs", "3") == 0
    said = capsys.readouterr().out
    whole, dense, searches = (
        duration(seconds)
        for seconds in (estimate["device_seconds"], *(estimate["seconds"][kind] for kind in ("dense", "search")))
    )
    assert f"time: {whole} of one device (dense networks {dense}, searches {searches}, cells" in said
    assert "with --jobs 3; as 284 recorded jobs took" in said and "--jobs 1" not in said and "guessed" not in said


def test_a_plan_names_what_it_guesses(
    half_done: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = ("--set", 'methods=["tas", "lamp"]', "--set", "budgets=[0.5, 0.1]", "--set", "controls=[]")
    assert prunebench(monkeypatch, "plan", "large.toml", *changed) == 0
    said = capsys.readouterr().out
    # Each of four networks has two seeds of both methods at the new budget.
    assert "guessed for 4 jobs: rewind at 0.1 on resnet8: as recoveries of other budgets and kinds there" in said


def test_before_anything_is_recorded_no_time_is_stated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert prunebench(monkeypatch, "plan", "demo") == 0
    said = capsys.readouterr().out
    assert "time and disk: not known before a first cell is recorded" in said and "time: " not in said
    assert prunebench(monkeypatch, "plan", "demo", "--json") == 0
    estimate = json.loads(capsys.readouterr().out)["estimate"]
    assert (estimate["device_seconds"], estimate["wall_seconds"], estimate["store_bytes"]) == (None, {}, None)


def test_a_limit_that_nothing_can_meet_starts_nothing_and_says_so(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(SUITE)
    left = tmp_path / ".prunebench/tiny" / load_suite("tiny.toml").cells[0].id
    left.mkdir(parents=True)
    assert prunebench(monkeypatch, "run", "tiny.toml", "--time-limit", "0.000001s") == 4
    assert "not started within the time limit: 6 cells; the same command goes on with them" in capsys.readouterr().err
    assert read_states(store, "tiny") == {}
    assert left.is_dir()  # of a cell that is not recorded
    assert (tmp_path / "reports/tiny/README.md").is_file()


def test_slurm_has_a_queue_of_its_own(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(SUITE)
    assert prunebench(monkeypatch, "run", "tiny.toml", "--executor", "slurm", "--time-limit", "8h") == 2
    assert "--time-limit is not allowed with --executor slurm" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "words"), [(8.2, "8 s"), (99.4, "99 s"), (720, "12 min"), (3599, "1 h 00 min"), (11_100, "3 h 05 min")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
