"""Ten thousand cells, in seconds and bytes: alone on the machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COUNT = 10_000
MEASURE = """
import resource, sys, time
{setup}
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
{work}
spent, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(spent, before / 1024, peak / 1024, file=sys.stderr)
"""

pytestmark = pytest.mark.speed


def measured(work: str, setup: str = "", cwd: Path | None = None) -> tuple[float, float, float]:
    """Seconds of some work in a process of its own, and the peak of its memory in MiB before and after."""
    code = MEASURE.format(work=work, setup=setup)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=cwd)
    seconds, before, after = map(float, done.stderr.split()[-3:])
    return seconds, before, after


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.bench.scale.store import fill, large_cells, toml

    folder = tmp_path_factory.mktemp("large")
    (folder / "large.toml").write_text(toml(COUNT))
    fill(f"sqlite:///{folder / 'mlflow.db'}", large_cells(COUNT))
    return folder


def calling(*arguments: str) -> str:
    """Code of a call of the command line."""
    return (
        f"sys.argv = {['prunebench', *arguments]}\nfrom bench.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code"
    )


def test_a_plan_of_ten_thousand_recorded_cells(large: Path) -> None:
    seconds, _, peak = measured(calling("plan", "large.toml"), cwd=large)
    assert seconds < 3 and peak < 300


def test_a_plan_of_ten_thousand_missing_cells(large: Path) -> None:
    work = calling("plan", "large.toml", "--tracking-uri", "sqlite:///none.db")
    seconds, _, peak = measured(work, cwd=large)
    assert seconds < 3 and peak < 300


def test_handing_out_ten_thousand_cells() -> None:
    setup = (
        "from bench.runs.agenda import make_agenda\nfrom bench.runs.job import Settings\nimport bench.runs.tracked\n"
        "from bench.runs.executors.executor import run_jobs\n"
        "from tests.bench.scale.store import large_cells\nfrom tests.bench.scale.test_scale import Instant\n"
        "settings = Settings(suite='large', tracking_uri='sqlite:///unused.db')\n"
        f"cells = large_cells({COUNT})\n[cell.id for cell in cells]"
    )
    work = (
        "agenda = make_agenda(cells, {})\nweigh = agenda.estimator().weight\n"
        "count = sum(1 for _ in run_jobs(Instant(2), agenda.jobs, settings, lambda event: None, weigh=weigh))\n"
        f"assert count == {COUNT} + 200"
    )
    seconds, before, after = measured(work, setup)
    assert seconds < 0.005 * COUNT and after - before < 64


def test_a_report_of_ten_thousand_cells(large: Path) -> None:
    seconds, _, peak = measured(calling("report", "large.toml"), cwd=large)
    assert (large / "reports/large/index.html").is_file()
    assert seconds < 25 and peak < 1000


@pytest.mark.parametrize(("arguments", "most"), [("--help", 0.3), ("plan demo", 1.0)])
def test_the_command_line_answers_at_once(arguments: str, most: float, tmp_path: Path) -> None:
    import time

    command = [sys.executable, "-c", "from bench.cli.app import main; main()", *arguments.split()]
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
        times.append(time.perf_counter() - start)
    assert sorted(times)[2] < most
