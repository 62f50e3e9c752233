"""A cell's wall time taken apart by stage, and cells an hour with one and with two jobs.

    python -m benchmarks.cell [--seeds 2]

Cells of the demo's digits, and longer ones, of which most is training as in a study. What a stage took comes from the
events of the run. "overhead" is what is neither training nor evaluation nor the measuring of latencies.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.runs.events import Ended, EpochEnded, Event, StageReached, Started

SET = ('methods=["l1", "gdp"]', 'controls=["random"]', "workloads.0.budgets=[0.5]", "workloads.0.epochs.dense=4")
LENGTHS = {"demo": (3, 3), "longer": (20, 40)}
"""Epochs of the search and of recovery."""


class Clock:
    """Wall time of jobs by stage, from their events."""

    def __init__(self) -> None:
        self.stages: dict[str, list[tuple[str, float]]] = defaultdict(list)
        self.trained: dict[str, float] = defaultdict(float)
        self.kinds: dict[str, str] = {}

    def __enter__(self) -> Clock:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, event: Event) -> None:
        now = time.perf_counter()
        match event:
            case Started(id=job):
                self.stages[job].append(("set-up", now))
            case StageReached(id=job, stage=stage):
                self.stages[job].append((stage, now))
            case EpochEnded(id=job, row=row):
                self.trained[job] += float(row["seconds"])
            case Ended(id=job, outcome=outcome):
                self.kinds[job] = outcome.kind
                self.stages[job].append(("end", now))
            case _:
                pass

    def of_cells(self) -> dict[str, Any]:
        """Median seconds of each stage of a cell, the share of training, and what is outside training."""
        by_stage: dict[str, list[float]] = defaultdict(list)
        outside: list[float] = []
        overhead: list[float] = []
        wholes: list[float] = []
        for job, marks in self.stages.items():
            if self.kinds.get(job) != "cell":
                continue
            took = {name: end - start for (name, start), (_, end) in pairwise(marks)}
            for name, seconds in took.items():
                by_stage[name].append(seconds)
            wholes.append(marks[-1][1] - marks[0][1])
            outside.append(wholes[-1] - self.trained[job])
            overhead.append(outside[-1] - took.get("test", 0.0) - took.get("latency", 0.0))
        return {
            "cells": len(wholes),
            "seconds": {name: round(statistics.median(times), 3) for name, times in by_stage.items()},
            "whole": round(statistics.median(wholes), 3),
            "outside_training": round(statistics.median(outside), 3),
            "share_outside_training": round(sum(outside) / sum(wholes), 3),
            "overhead": round(statistics.median(overhead), 3),
            "share_overhead": round(sum(overhead) / sum(wholes), 3),
        }


def run(folder: Path, seeds: int, jobs: int, epochs: tuple[int, int]) -> tuple[Clock, float, int]:
    """Run the matrix in a store of its own: its clock, its wall seconds from the first job on, and its cells."""
    from bench.runs.agenda import make_agenda
    from bench.runs.executors.executor import make_executor
    from bench.runs.job import Settings
    from bench.runs.matrix import run_matrix
    from bench.runs.suite import load_suite, select

    search, recovery = epochs
    lengths = (f"workloads.0.epochs.search={search}", f"workloads.0.epochs.recovery={recovery}")
    suite = load_suite("demo", (*SET, f"workloads.0.seeds={list(range(seeds))}", *lengths))
    cells = select(suite.cells, [f"workload={suite.cells[0].workload.name}"])
    uri = f"sqlite:///{folder / f'jobs-{jobs}.db'}"
    settings = Settings(suite="demo", tracking_uri=uri, work=folder / f"work-{jobs}", device="cpu", threads=1)
    clock, agenda = Clock(), make_agenda(cells, {})
    outcomes = run_matrix(agenda, settings, make_executor("local", jobs), clock)
    assert all(outcome.status == "finished" for outcome in outcomes), outcomes
    marks = [when for stages in clock.stages.values() for _, when in stages]
    return clock, max(marks) - min(marks), len(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=2)
    seeds = parser.parse_args().seeds
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    figures: dict[str, Any] = {}
    for name, epochs in LENGTHS.items():
        hourly, of_length = {}, {}
        for jobs in (1, 2):
            with tempfile.TemporaryDirectory() as folder:
                clock, wall, cells = run(Path(folder), seeds, jobs, epochs)
            hourly[jobs] = 3600 * cells / wall
            of_length[f"jobs_{jobs}"] = {**clock.of_cells(), "cells_an_hour": round(hourly[jobs], 1)}
        figures[name] = {**of_length, "two_jobs_over_one": round(hourly[2] / hourly[1], 3)}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
