"""Ten thousand cells, in seconds and bytes: alone on the machine."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.large import HAND_OUT, SCHEDULE
from benchmarks.measure import calling, in_turn, measured, timed

COUNT = 10_000

pytestmark = pytest.mark.speed


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.bench.scale.store import fill, large_cells, toml

    folder = tmp_path_factory.mktemp("large")
    (folder / "large.toml").write_text(toml(COUNT))
    fill(f"sqlite:///{folder / 'mlflow.db'}", large_cells(COUNT))
    return folder


def test_a_plan_of_ten_thousand_recorded_cells(large: Path) -> None:
    seconds, _, peak = measured(calling("plan", "large.toml"), cwd=large)
    assert seconds < 3 and peak < 300


def test_a_plan_of_ten_thousand_missing_cells(large: Path) -> None:
    work = calling("plan", "large.toml", "--tracking-uri", "sqlite:///none.db")
    seconds, _, peak = measured(work, cwd=large)
    assert seconds < 3 and peak < 300


def test_handing_out_ten_thousand_cells() -> None:
    seconds, before, after = measured(HAND_OUT, SCHEDULE.format(count=COUNT))
    assert seconds < 0.005 * COUNT and after - before < 64


def test_a_report_of_ten_thousand_cells(large: Path) -> None:
    seconds, _, peak = measured(calling("report", "large.toml"), cwd=large)
    assert (large / "reports/large/index.html").is_file()
    assert seconds < 25 and peak < 1000


@pytest.mark.parametrize(("arguments", "most"), [("--help", 0.3), ("plan demo", 1.0)])
def test_the_command_line_answers_at_once(arguments: str, most: float, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from bench.cli.program import main; main()", *arguments.split()]

    def call() -> float:
        return timed(lambda: subprocess.run(command, check=True, capture_output=True, cwd=tmp_path))

    assert statistics.median(in_turn({"call": call}, rounds=5)["call"]) < most
