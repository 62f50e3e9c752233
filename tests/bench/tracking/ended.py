"""Runs in states that tests need."""

from __future__ import annotations

import time

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


def make_distant(tracker: Tracker, run_id: str, *, silent: float = 0.0, beat: str = "1") -> None:
    """As another machine's process has it, whose last sign of life was so many seconds ago by its clock."""
    heartbeat = f"{time.time() - silent:.0f} {beat}"
    for name, value in {"host": "elsewhere", "machine": "elsewhere/1", "heartbeat": heartbeat}.items():
        tracker.client.set_tag(run_id, TAG + name, value)
