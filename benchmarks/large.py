"""Plan, scheduling and report of matrices of 1,000 and 10,000 cells, in seconds and MiB.

python -m benchmarks.large [--cells 1000 10000]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.measure import calling, measured

SCHEDULE = """
from bench.runs.agenda import make_agenda
from bench.runs.executors.executor import run_jobs
from bench.runs.job import Settings
import bench.runs.tracked
from tests.bench.scale.store import large_cells
from tests.bench.scale.test_scale import Instant
settings = Settings(suite='large', tracking_uri='sqlite:///unused.db')
cells = large_cells({count})
[cell.id for cell in cells]
"""
HAND_OUT = """
agenda = make_agenda(cells, {})
weigh = agenda.estimator().weight
ended = sum(1 for _ in run_jobs(Instant(2), agenda.jobs, settings, lambda event: None, weigh=weigh))
assert ended == len(agenda.jobs)
"""


def of_size(count: int, folder: Path) -> dict[str, float]:
    """Figures of a matrix of so many recorded cells."""
    from tests.bench.scale.store import fill, large_cells, toml

    folder.mkdir()
    (folder / "large.toml").write_text(toml(count), "utf-8")
    fill(f"sqlite:///{folder / 'mlflow.db'}", large_cells(count))
    found: dict[str, float] = {}
    for name, work, setup in (
        ("plan", calling("plan", "large.toml"), ""),
        ("plan_of_missing", calling("plan", "large.toml", "--tracking-uri", "sqlite:///none.db"), ""),
        ("schedule", HAND_OUT, SCHEDULE.format(count=count)),
        ("report", calling("report", "large.toml"), ""),
    ):
        seconds, before, after = measured(work, setup, cwd=folder)
        found |= {f"{name}_seconds": round(seconds, 2), f"{name}_mib": round(after - (before if setup else 0))}
    found["schedule_ms_a_cell"] = round(1000 * found["schedule_seconds"] / count, 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[1000, 10_000], help="multiples of 200")
    sizes = parser.parse_args().cells
    with tempfile.TemporaryDirectory() as folder:
        found = {str(count): of_size(count, Path(folder, str(count))) for count in sizes}
    few, many = found[str(sizes[0])], found[str(sizes[-1])]
    growth = {name: round(many[name] / few[name], 2) for name in ("plan_seconds", "report_seconds", "report_mib")}
    print(json.dumps({**found, "growth": growth, "growth_of_cells": sizes[-1] / sizes[0]}))


if __name__ == "__main__":
    main()
