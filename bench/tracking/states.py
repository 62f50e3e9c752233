"""What the tracking store says of a run, as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.tracking.places import loss

TAG = "prunebench."
"""Prefix of the tags that the suite sets on its runs."""
WORKLOAD, DATA = "workload", "data"
"""Tags that name a run's workload by its identity, and the data that it read by their fingerprint."""
WHERE = "where"
"""Tag that says on which devices of which machine a run is computed."""
SOURCE = "source"
"""Tag with the hash of the source of a cell's method."""
STAGES = ("cell", "dense", "search")
"""Kinds of runs that have a result: a cell, and the stages that cells share."""
LOST = TAG + "lost"
"""Tag of a run on a server whose record was found to be gone, with the reason."""
SEAL = TAG + "record"
"""Tag with the seal of a run's record (`bench.tracking.places`)."""
PARENT_TAG = "mlflow.parentRunId"
"""MLflow's own tag for the run that a run belongs to."""


@dataclass(frozen=True, kw_only=True)
class RunState:
    """One tracked run of a cell, of a dense network or of a search."""

    run_id: str
    cell_id: str
    kind: str
    """One of `STAGES`, or `invocation`."""
    status: str
    """`finished`, `failed`, `running`, or `lost`: it has ended, and its record is gone or damaged."""
    started: int = 0
    """Milliseconds since 1970."""
    ended: int = 0
    """The same; 0 while it runs."""
    tags: Mapping[str, str] = field(default_factory=dict)
    final: float | None = None
    """The metric that the cell ended with, where it is recorded."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """What training took, where it is recorded: `dense`, `search` and `recovery` of a cell as a whole, and
    `dense_epoch`, the last epoch of a dense network."""
    problem: str = ""
    """Why it is lost."""
    folder: Path | None = None
    """Of its artifacts, where they are on this machine."""

    @property
    def parent_run(self) -> str | None:
        """The invocation's run, where the state comes from a `Tracker`; the quick read leaves that tag out."""
        return self.tags.get(PARENT_TAG)


FINAL = "final_metric"
"""MLflow's name of the metric that a cell ends with."""
SECONDS: Mapping[str, str] = {
    "dense_seconds": "dense",
    "search_seconds": "search",
    "recovery_seconds": "recovery",
    "dense.seconds": "dense_epoch",
}
"""MLflow's names of what training took, and those of `RunState.seconds`."""
_STATUS = {"FINISHED": "finished", "FAILED": "failed", "RUNNING": "running", "KILLED": "failed"}


def run_state(
    run_id: str,
    status: str,
    times: tuple[int | None, int | None],
    tags: Mapping[str, str],
    folder: Path | None = None,
    metrics: Mapping[str, float] = {},
) -> RunState | None:
    """The state of a tracked run; None for a run that is not the suite's.

    Args:
        times: of its start and its end, in milliseconds since 1970.
        folder: of its artifacts, where they are on this machine: without its record, a run is lost.
        metrics: the last value of each that is known, by MLflow's names.

    Raises:
        RequestError: its record is of a later release.
    """
    if TAG + "kind" not in tags:
        return None
    kind, ended, problem = tags[TAG + "kind"], _STATUS.get(status, "running"), ""
    if kind != "invocation" and ended != "running":
        problem = tags.get(LOST, "") or (loss(folder, kind, ended, tags.get(SEAL, "")) if folder is not None else "")
    return RunState(
        run_id=run_id,
        cell_id=tags.get(TAG + "cell_id", ""),
        kind=kind,
        status="lost" if problem else ended,
        started=times[0] or 0,
        ended=times[1] or 0,
        tags=dict(tags),
        final=metrics.get(FINAL),
        seconds={name: metrics[key] for key, name in SECONDS.items() if key in metrics},
        problem=problem,
        folder=folder,
    )


def best_of(states: Iterable[RunState]) -> dict[str, RunState]:
    """One run for each cell: the first that finished, else one that runs, else the last that failed, else the last that
    was lost."""
    order = {"finished": 0, "running": 1, "failed": 2, "lost": 3}
    best: dict[str, RunState] = {}
    for state in sorted(states, key=lambda s: (s.started, s.run_id)):
        known = best.get(state.cell_id)
        newer = known is not None and known.status == state.status and state.status in ("failed", "lost")
        if known is None or newer or order[state.status] < order[known.status]:
            best[state.cell_id] = state
    return best
