"""Runs a matrix: checks it first, then dense networks, cells, and the cells that take over what others found.

cells = load_suite("demo").cells
settings = Settings(suite="demo", tracking_uri="sqlite:///mlflow.db")
outcomes = run_matrix(make_agenda(cells, {}), settings, make_executor("local", 2))
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from bench.runs.agenda import Agenda
from bench.runs.environment import environment_tags
from bench.runs.events import Emit, ignore
from bench.runs.executors.executor import Executor, run_jobs, started
from bench.runs.executors.machines import OnMachines, require_common_store
from bench.runs.job import Job, Outcome, Settings
from bench.runs.others import run_beside_others
from bench.runs.preflight import preflight
from bench.runs.resources import Resources
from bench.runs.tracked import discard, open_tracker


def run_matrix(
    agenda: Agenda,
    settings: Settings,
    executor: Executor,
    display: AbstractContextManager[Emit] | None = None,
    *,
    wait: bool = False,
) -> list[Outcome]:
    """Run every job of the agenda under one MLflow run of the invocation; how each ended.

    Args:
        display: shows progress; entered once the matrix has been checked.
        wait: whether to wait for what other invocations are running, and to take over what those leave that die.

    Raises:
        RequestError: something cannot be run as asked; nothing has been trained or recorded then.
    """
    require_common_store(executor, settings)
    # Where jobs run on other machines, those have the devices: this one tries the networks on what it has.
    here = replace(settings, device="auto", resources=Resources()) if isinstance(executor, OnMachines) else settings
    preflight(agenda.due, here, agenda.made_with)
    tracker = open_tracker(settings.tracking_uri, settings.suite)
    discard(agenda.discarded, settings)
    parent = tracker.begin_invocation(f"{settings.suite}: {len(agenda.due)} cells", environment_tags())
    settings = replace(settings, parent_run=parent)
    status = "KILLED"
    try:
        with display or nullcontext(ignore) as emit, started(executor, settings, emit) as ordered:

            def run(jobs: Sequence[Job]) -> Iterator[Outcome]:
                return run_jobs(executor, jobs, settings, ordered)

            outcomes = run_beside_others(agenda.stages, run, tracker, ordered, wait=wait)
        status = "FINISHED"
    finally:
        tracker.end_invocation(parent, status)
    return outcomes
