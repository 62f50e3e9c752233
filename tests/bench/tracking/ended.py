"""Runs in states that tests need."""

from __future__ import annotations

from bench.tracking.mlflow_store import Tracker
from bench.tracking.states import TAG


def end(tracker: Tracker, cell_id: str, status: str = "finished", text: str = "{}") -> str:
    """The id of a new run of a cell that has ended like that."""
    run = tracker.claim(cell_id, kind="cell", label=cell_id)
    (run.finish if status == "finished" else run.fail)(text)
    return run.run_id


def make_dead(tracker: Tracker, run_id: str) -> None:
    """As a killed process leaves it: RUNNING, with a process number that is nobody's."""
    tracker.client.set_tag(run_id, TAG + "pid", "999999999")
