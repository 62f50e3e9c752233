"""What the tracking store says of a run, as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

TAG = "prunebench."
"""Prefix of the tags that the suite sets on its runs."""
WORKLOAD, DATA = "workload", "data"
"""Tags that name a run's workload by its identity, and the data that it read by their fingerprint."""
PARENT_TAG = "mlflow.parentRunId"
"""MLflow's own tag for the run that a run belongs to."""


@dataclass(frozen=True, kw_only=True)
class RunState:
    """One tracked run of a cell or of a dense network."""

    run_id: str
    cell_id: str
    kind: str
    """`cell`, `dense` or `invocation`."""
    status: str
    """`finished`, `failed` or `running`."""
    started: int = 0
    """Milliseconds since 1970."""
    tags: Mapping[str, str] = field(default_factory=dict)
    final: float | None = None
    """The metric that the cell ended with, where it is recorded."""

    @property
    def parent_run(self) -> str | None:
        """The invocation's run, where the state comes from a `Tracker`; the quick read leaves that tag out."""
        return self.tags.get(PARENT_TAG)


FINAL = "final_metric"
"""MLflow's name of the metric that a cell ends with."""
_STATUS = {"FINISHED": "finished", "FAILED": "failed", "RUNNING": "running", "KILLED": "failed"}


def run_state(
    run_id: str, status: str, started: int, tags: Mapping[str, str], final: float | None = None
) -> RunState | None:
    """The state of a tracked run; None for a run that is not the suite's."""
    if TAG + "kind" not in tags:
        return None
    return RunState(
        run_id=run_id,
        cell_id=tags.get(TAG + "cell_id", ""),
        kind=tags[TAG + "kind"],
        status=_STATUS.get(status, "running"),
        started=started,
        tags=dict(tags),
        final=final,
    )


def best_of(states: Iterable[RunState]) -> dict[str, RunState]:
    """One run for each cell: the first that finished, else one that runs, else the last that failed."""
    order = {"finished": 0, "running": 1, "failed": 2}
    best: dict[str, RunState] = {}
    for state in sorted(states, key=lambda s: (s.started, s.run_id)):
        known = best.get(state.cell_id)
        newer_failure = known is not None and known.status == state.status == "failed"
        if known is None or newer_failure or order[state.status] < order[known.status]:
            best[state.cell_id] = state
    return best
