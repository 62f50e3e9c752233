"""Disk that jobs need, from the folders of recorded ones. Imports no torch."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from bench.runs.job import Job
from bench.tracking.address import scheme, sqlite_path
from bench.tracking.places import MODEL, artifact_root
from bench.tracking.states import RunState

LOOKED_AT = 8
"""Recorded folders of a kind that are measured."""
CHECKPOINTS = 14
"""How many times its dense network's weights a running job's folder holds at most: of the search and of the recovery
the last checkpoint and the one before it, each with weights and up to two moments of the optimiser, and what was found,
with the searched weights."""


@dataclass(frozen=True)
class Footprint:
    """Bytes; None where nothing is recorded from which they could be told."""

    stored: float | None
    """What the jobs will add to the tracking store's artifacts."""
    at_work: float | None
    """What the checkpoints of one running job take at most."""


def footprint(
    uri: str, suite: str, jobs: Iterable[Job], due: Iterable[Job], states: Mapping[str, RunState]
) -> Footprint:
    """The disk that the jobs in `due` need.

    Args:
        jobs: of the suite: those that are recorded are measured where their files lie on this machine.
        states: what the tracking store knows, by id.
    """
    if scheme(uri) != "sqlite":
        return Footprint(None, None)
    root = artifact_root(sqlite_path(uri), suite)
    sizes: dict[Hashable, list[int]] = {}
    weights = 0
    for job in jobs:
        state, found = states.get(job.id), sizes.setdefault(_kind(job), [])
        if state is not None and state.status == "finished" and len(found) < LOOKED_AT:
            folder = root / state.run_id / "artifacts"
            found.append(_bytes(folder))
            if job.cell is None and (folder / MODEL).is_file():
                weights = max(weights, (folder / MODEL).stat().st_size)
    return Footprint(_stored(due, sizes), CHECKPOINTS * weights or None)


def _stored(due: Iterable[Job], sizes: Mapping[Hashable, list[int]]) -> float | None:
    means = {kind: fmean(found) for kind, found in sizes.items() if found}
    if not means:
        return None
    usual = fmean(means.values())
    return sum(means.get(_kind(job), usual) for job in due)


def _kind(job: Job) -> Hashable:
    return job.kind, job.workload.name


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
