"""What a plan will take: device-hours, wall time and disk, with what of it is guessed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bench.runs.agenda import dense_jobs, search_jobs
from bench.runs.estimate import Estimator
from bench.runs.footprint import Footprint, footprint
from bench.runs.job import Job
from bench.runs.order import makespan
from bench.runs.suite import Suite
from bench.tracking.states import RunState

SHOWN = (1, 2, 4, 8)
"""Jobs at a time for which the wall time is stated where none were asked for."""
MOST_GUESSES = 6
"""How many guesses are named one by one."""


@dataclass(frozen=True)
class Forecast:
    """What is left to run of a plan, and what that takes."""

    jobs: Sequence[Job]
    """Due, in the suite's order."""
    estimator: Estimator
    disk: Footprint
    workers: int | None = None
    """Jobs at a time that were asked for."""

    @cached_property
    def seconds(self) -> Mapping[str, float] | None:
        """Seconds of dense networks, searches and cells; None before anything is recorded."""
        found = {"dense": 0.0, "search": 0.0, "cell": 0.0}
        for job in self.jobs:
            seconds = self.estimator.of(job).seconds
            if seconds is None:
                return None
            found[job.kind] += seconds
        return found

    @cached_property
    def wall(self) -> dict[int, float]:
        """Seconds until the last job ends, by how many run at a time."""
        if self.seconds is None:
            return {}
        asked = SHOWN if self.workers is None else (self.workers,)
        return {workers: makespan(self.jobs, self.estimator.weight, workers) for workers in asked}

    @cached_property
    def guesses(self) -> Counter[str]:
        """What is guessed, and for how many jobs."""
        return Counter(words for job in self.jobs for words in self.estimator.of(job).guesses)

    def lines(self) -> list[str]:
        """The forecast for people."""
        if not self.jobs:
            return []
        if self.seconds is None:
            return ["time and disk: not known before a first cell is recorded (run with --only cell=ID for one)"]
        total = sum(self.seconds.values())
        searches = f"searches {duration(self.seconds['search'])}, " if self.seconds["search"] else ""
        by_jobs = ", ".join(f"{duration(wall)} with --jobs {n}" for n, wall in self.wall.items())
        return [
            f"time: {duration(total)} of one device (dense networks {duration(self.seconds['dense'])}, {searches}"
            f"cells {duration(self.seconds['cell'])}); {by_jobs}; as {self.estimator.learnt} recorded jobs took, with "
            "the device, threads and neighbours that those had",
            *self._guessed(),
            f"disk: {_size(self.disk.stored)} more in the store; checkpoints of each running job, at most: "
            f"{_size(self.disk.at_work)}",
        ]

    def _guessed(self) -> list[str]:
        named = self.guesses.most_common(MOST_GUESSES)
        lines = [f"guessed for {count} jobs: {words}" for words, count in named]
        rest = len(self.guesses) - len(named)
        return lines + [f"and {rest} more guesses (--json has all)"] * bool(rest)

    def payload(self) -> dict[str, Any]:
        """The forecast as JSON values."""
        return {
            "device_seconds": None if self.seconds is None else sum(self.seconds.values()),
            "seconds": self.seconds,
            "wall_seconds": {str(workers): wall for workers, wall in self.wall.items()},
            "recorded_jobs": self.estimator.learnt,
            "guesses": dict(self.guesses),
            "store_bytes": self.disk.stored,
            "checkpoint_bytes_per_job": self.disk.at_work,
        }


def forecast(
    uri: str, suite: Suite, due: Sequence[Job], states: Mapping[str, RunState], *, workers: int | None = None
) -> Forecast:
    """What the due jobs of a suite take.

    Args:
        uri: of the tracking store.
        states: what it knows of all of the suite's cells and dense networks, by id.
        workers: jobs at a time; None for the usual numbers.
    """
    jobs = [*dense_jobs(suite.cells), *search_jobs(suite.cells), *map(Job.of_cell, suite.cells)] if due else []
    disk = footprint(uri, suite.name, jobs, due, states)
    return Forecast(due, Estimator(suite.cells if due else (), states), disk, workers)


def duration(seconds: float) -> str:
    """`3 h 05 min`, `12 min`, `8 s`"""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def _size(count: float | None) -> str:
    """`1.2 GB`; words where it is not known."""
    if count is None:
        return "not known"
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
