"""Runs a matrix: checks it first, then runs its jobs, longest first, each once what it needs is there.

cells = load_suite("demo").cells
settings = Settings(suite="demo", tracking_uri="sqlite:///mlflow.db")
outcomes = run_matrix(make_agenda(cells, {}), settings, make_executor("local", 2))
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace

from bench.errors import RequestError
from bench.runs.agenda import Agenda
from bench.runs.cores import require_cores
from bench.runs.environment import environment_tags
from bench.runs.events import Emit, Say, ignore, untold
from bench.runs.executors.executor import Executor, run_jobs, started
from bench.runs.executors.machines import OnMachines, require_common_store
from bench.runs.job import Job, Outcome, Settings
from bench.runs.limit import TimeLimit
from bench.runs.order import alike
from bench.runs.others import run_beside_others
from bench.runs.preflight import preflight
from bench.runs.resources import Resources
from bench.runs.tracked import discard, open_tracker, sweep
from bench.tracking.connect import StoreError
from bench.tracking.mlflow_store import Tracker
from bench.training.device import resolve_device


def run_matrix(
    agenda: Agenda,
    settings: Settings,
    executor: Executor,
    display: AbstractContextManager[Emit] | None = None,
    *,
    say: Say = untold,
    wait: bool = False,
    time_limit: float | None = None,
) -> list[Outcome]:
    """Run every job of the agenda under one MLflow run of the invocation; how each ended.

    Args:
        display: shows progress; entered once the matrix has been checked.
        say: is told what is done until then.
        wait: whether to wait for what other invocations are running, and to take over what those leave that die.
        time_limit: seconds after which nothing is to be running any more: a job that would take longer is not started,
            and has the outcome `unstarted`, or none where it waited for what another process had.

    Raises:
        RequestError: something cannot be run as asked; nothing has been trained or recorded then.
    """
    estimator = agenda.estimator()
    limit = TimeLimit(time_limit, lambda job: estimator.of(job).seconds) if time_limit is not None else None
    check_all(agenda, settings, executor, say)
    tracker = open_tracker(settings.tracking_uri, settings.suite)
    discard(agenda.discarded, settings)
    sweep(settings, agenda.states)
    parent = tracker.begin_invocation(f"{settings.suite}: {len(agenda.due)} cells", environment_tags())
    settings = replace(settings, parent_run=parent)
    shown = display or nullcontext(ignore)
    with _closed_at_the_end(tracker, parent), shown as emit, started(executor, settings, emit) as ordered:

        def run(jobs: Sequence[Job]) -> Iterator[Outcome]:
            weigh = alike if executor.at_once == 1 else estimator.weight  # one at a time keep the suite's order
            by_id = {job.id: job for job in jobs}
            for outcome in run_jobs(executor, jobs, settings, ordered, weigh=weigh, limit=limit):
                if outcome.status == "finished":
                    estimator.observe(by_id[outcome.id], outcome.seconds)
                yield outcome

        outcomes = run_beside_others(
            [agenda.jobs],
            run,
            tracker,
            ordered,
            wait=wait,
            time_is_up=lambda: limit is not None and limit.left <= 0,
        )
        tracker.sweep()
    return outcomes


def check_all(agenda: Agenda, settings: Settings, executor: Executor, say: Say = untold) -> None:
    """Try what the jobs of the agenda need: store, devices, data, networks, budgets.

    Args:
        say: is told what is tried.

    Raises:
        RequestError: something cannot be run as asked.
    """
    require_common_store(executor, settings)
    here = settings
    if isinstance(executor, OnMachines):
        # Those have the devices, and each cell looks for itself: this machine tries the networks on what it has.
        here = replace(settings, device="auto", resources=Resources())
    else:
        require_cores(agenda.due, resolve_device(settings.device))
    preflight(agenda.due, here, agenda.made_with, say)


@contextmanager
def _closed_at_the_end(tracker: Tracker, parent: str) -> Iterator[None]:
    """Close the invocation's run, however the invocation ends."""
    try:
        yield
    except RequestError:
        with suppress(StoreError):  # it may be the store that failed: that is not waited for again
            tracker.end_invocation(parent, "KILLED", patience=0.0)
        raise
    except BaseException:
        tracker.end_invocation(parent, "KILLED")
        raise
    tracker.end_invocation(parent)
