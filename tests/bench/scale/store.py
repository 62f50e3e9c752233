"""A tracking store with as many recorded cells as are asked for, made in seconds: rows and files as MLflow writes them.

python -m tests.bench.scale.store FOLDER [CELLS]    # FOLDER/large.toml and FOLDER/mlflow.db
"""

from __future__ import annotations

import sqlite3
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.interface.cell import Cell
from bench.interface.record import Record
from bench.runs.agenda import dense_jobs, search_jobs
from bench.runs.job import Job
from bench.runs.suite import suite_from_table
from bench.tracking.address import sqlite_path
from bench.tracking.mlflow_store import Tracker
from bench.tracking.places import RECORD, SEARCH, artifact_root, seal
from bench.tracking.states import FINAL, SEAL, TAG
from tests.bench.report import synthetic

NAME = "large"
MODELS = ("resnet8", "resnet20", "resnet32", "resnet56")
METHODS = ("l1", "fpgm", "taylor", "hrank", "dcss", "dais", "tas", "gdp")
BUDGETS = (0.8, 0.65, 0.5, 0.35, 0.2)
STARTED, LASTED = 1_700_000_000_000, 30_000
"""Milliseconds: when the first run began, and how long each lasted."""

TOML = f"""name = "{NAME}"
methods = {list(METHODS)}
controls = ["random", "uniform-scratch"]
budgets = {list(BUDGETS)}
seeds = [SEEDS]
""" + "".join(
    f"""
[[workloads]]
name = "{model}"
task = "classification"
dataset = "digits"
model = "{model}"
epochs = {{ dense = 12, search = 6, recovery = 8 }}
"""
    for model in MODELS
)
A_SEED = len(MODELS) * len(BUDGETS) * (len(METHODS) + 2)
"""Cells of one seed."""
SEARCHES = len(MODELS) * len(BUDGETS) * 4
"""Searches of one seed: those of DCSS, DAIS, TAS and GDP."""


def toml(count: int) -> str:
    """The suite file of so many cells, which must be a multiple of those of one seed."""
    assert count % A_SEED == 0, f"{count} is no multiple of {A_SEED}"
    return TOML.replace("SEEDS", ", ".join(map(str, range(count // A_SEED))))


def large_cells(count: int) -> Sequence[Cell]:
    import tomllib

    return suite_from_table(tomllib.loads(toml(count)), NAME).cells


def large_records(cells: Sequence[Cell]) -> Iterator[Record]:
    """A record for each cell, as long as those of a real study."""
    for cell in cells:
        yield synthetic.record(cell, suite=NAME, samples=400)


def fill(uri: str, cells: Sequence[Cell], *, files: bool = True) -> None:
    """Record all of these cells, their searches and their dense networks as finished.

    Args:
        files: whether to write their records; without, all of them are lost.
    """
    experiment = Tracker(uri, NAME).experiment
    root = artifact_root(sqlite_path(uri), NAME)
    runs: list[tuple[Any, ...]] = []
    tags: list[tuple[str, str, str]] = []
    metrics: list[tuple[Any, ...]] = []
    jobs = [*dense_jobs(cells), *search_jobs(cells), *map(Job.of_cell, cells)]
    for number, job in enumerate(jobs):
        run_id = uuid.UUID(int=number + 1).hex
        start = STARTED + number * LASTED
        folder = root / run_id / "artifacts"
        runs.append((run_id, job.label, start, start + LASTED, folder.as_uri(), experiment))
        own = {"kind": job.kind, "cell_id": job.id, "host": "elsewhere", "pid": "1", "heartbeat": str(start // 1000)}
        facts = {"dense.seconds": 0.5}
        text = '{"metrics": {"accuracy": 90.0}, "trajectory": [], "notes": []}'
        if job.search is not None:
            ledger = synthetic.record(job.search, suite=NAME, samples=400).ledger
            assert ledger is not None
            facts = {"search_seconds": ledger.search_seconds}
        if job.cell is not None:
            record = synthetic.record(job.cell, suite=NAME, samples=400).model_copy(update={"run_id": run_id})
            assert record.ledger is not None
            ledger = record.ledger
            facts = {FINAL: record.final_metrics["accuracy"], "dense_seconds": ledger.dense_seconds}
            facts |= {"search_seconds": ledger.search_seconds, "recovery_seconds": ledger.recovery_seconds}
            text = record.model_dump_json() if files else ""
        if files:
            (folder / "model").mkdir(parents=True)
            (folder / RECORD).write_text(text, "utf-8")
            (folder / "model/model.safetensors").write_bytes(b"")
            if job.search is not None:
                (folder / SEARCH).parent.mkdir()
                (folder / SEARCH).write_text("{}", "utf-8")
        tags += [(TAG + key, value, run_id) for key, value in own.items()] + [(SEAL, seal(text.encode()), run_id)]
        metrics += [(key, value, start, 0, 0, run_id) for key, value in facts.items()]
    with sqlite3.connect(sqlite_path(uri)) as database:
        database.executemany(
            "INSERT INTO runs (run_uuid, name, source_type, user_id, status, start_time, end_time, lifecycle_stage, "
            "artifact_uri, experiment_id) VALUES (?, ?, 'LOCAL', 'somebody', 'FINISHED', ?, ?, 'active', ?, ?)",
            runs,
        )
        database.executemany("INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", tags)
        database.executemany(
            "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, ?, ?)",
            metrics,
        )
    database.close()


def main() -> None:
    folder, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{NAME}.toml").write_text(toml(count), "utf-8")
    fill(f"sqlite:///{folder.resolve() / 'mlflow.db'}", large_cells(count))


if __name__ == "__main__":
    main()
