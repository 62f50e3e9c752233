"""Where jobs run: the list of executors, and the one loop that hands out jobs and collects how they ended.

An executor only submits jobs; the job stores its own record in MLflow. To add one, write its class in a file of this
folder and name it in `EXECUTORS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from typing import Protocol

from bench.errors import RequestError, unknown
from bench.runs.events import Emit, Ended
from bench.runs.executors.in_process import InProcess
from bench.runs.executors.ray_cluster import RayCluster
from bench.runs.executors.slurm_cluster import SlurmCluster
from bench.runs.executors.worker_processes import WorkerProcesses
from bench.runs.job import Job, Outcome, Settings
from bench.runs.limit import TimeLimit
from bench.runs.order import Order, Weigh, alike


class Executor(Protocol):
    """A place where jobs run."""

    @property
    def at_once(self) -> int | None:
        """How many jobs it is given at a time; None: all of them, since it makes them wait itself."""
        ...

    @property
    def retries_alone(self) -> bool:
        """Whether jobs whose worker was lost are run again one at a time, after the others."""
        ...

    def start(self, settings: Settings, emit: Emit) -> Emit:
        """Get ready for jobs with these settings. Called once, before `submit`.

        Args:
            emit: gets what jobs tell while they run, where the executor can pass that on.

        Returns:
            Where the caller emits its own events, so that they come in order with those of the jobs.
        """
        ...

    def submit(self, jobs: Sequence[Job]) -> list[Future[Outcome]]:
        """Run these jobs; a future raises where a worker was lost."""
        ...

    def reason(self, error: Exception) -> str:
        """What happened to a worker, in a sentence, where its future raised `error`."""
        ...

    def stop(self) -> None:
        """Let go of the workers. Called once, when no job runs any more or the caller gives up."""
        ...


def _local(workers: int) -> Executor:
    return WorkerProcesses(workers) if workers > 1 else InProcess()


EXECUTORS: Mapping[str, Callable[[int], Executor]] = {"local": _local, "ray": RayCluster, "slurm": SlurmCluster}
"""By name: what makes an executor that runs so many jobs at a time."""


def make_executor(name: str, workers: int) -> Executor:
    """An executor by name.

    Args:
        workers: how many jobs run at a time.

    Raises:
        RequestError: an unknown name, or an extra that is not installed.
    """
    if workers < 1:
        raise RequestError(f"--jobs {workers} is not allowed; use 1 or more")
    if name not in EXECUTORS:
        raise unknown("executor", name, EXECUTORS)
    return EXECUTORS[name](workers)


@contextmanager
def started(executor: Executor, settings: Settings, emit: Emit) -> Iterator[Emit]:
    """An executor between its start and its stop; gives where the caller emits its own events."""
    ordered = executor.start(settings, emit)
    try:
        yield ordered
    finally:
        executor.stop()


def run_jobs(
    executor: Executor,
    jobs: Sequence[Job],
    settings: Settings,
    emit: Emit,
    *,
    weigh: Weigh = alike,
    limit: TimeLimit | None = None,
) -> Iterator[Outcome]:
    """Run jobs on an executor that was started, those that others need before those; their outcomes, as they end.

    The run of a job whose worker was lost is closed as failed, with the reason; the job is run again after the others,
    from its last checkpoint, up to `settings.max_retries` times. Every job that was submitted has one `Ended` event.
    A job has no outcome where one that it needs is being run elsewhere.

    Args:
        weigh: what jobs are ordered by (`Order`).
        limit: which jobs may be started; one that may not, and what waits for it, has the outcome `unstarted`.
    """
    from bench.runs.tracked import record_loss  # loads torch

    order, lost = Order(jobs, weigh), dict[str, int]()
    while order.go_on(one=executor.retries_alone):
        for job, end in _ends(executor, order, limit):
            outcome = end
            if not isinstance(outcome, Outcome):
                retries_left = settings.max_retries - lost.get(job.id, 0)
                outcome = record_loss(job, settings, executor.reason(outcome), again=retries_left > 0)
                if outcome.status == "failed" and retries_left:
                    lost[job.id] = lost.get(job.id, 0) + 1
                    order.lost(job)
                    continue
            if outcome.status == "unstarted":
                yield from (Outcome.of(other, "unstarted") for other in (job, *order.drop_after(job)))
                continue
            if outcome.status == "elsewhere":
                order.drop_after(job)
            else:
                order.ended(job)
            emit(Ended(id=job.id, outcome=outcome))
            yield outcome


def _ends(executor: Executor, order: Order, limit: TimeLimit | None) -> Iterator[tuple[Job, Outcome | Exception]]:
    """Each job that can be run with its outcome, or with the exception that says that its worker was lost.

    Raises:
        RequestError: a worker can record nothing.
    """
    running = dict[Future[Outcome], Job]()
    while True:
        batch: list[Job] = []
        while _has_room(executor, len(running), len(batch)):
            job = order.take()
            if job is None:
                break
            if limit is None or limit.allows(job):
                batch.append(job)
            else:
                yield job, Outcome.of(job, "unstarted")
        if batch:
            running |= dict(zip(executor.submit(batch), batch, strict=True))
        if not running:
            return
        ended, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in ended:
            job = running.pop(future)
            error = future.exception()
            if error is None:
                yield job, future.result()
            elif isinstance(error, RequestError):  # the store is away, or a disk is full: no job can go on
                raise error
            elif isinstance(error, Exception):
                yield job, error
            else:
                raise error


def _has_room(executor: Executor, running: int, more: int) -> bool:
    """Whether an executor can be given another job; one that makes jobs wait itself gets them in waves, each when the
    one before is through: how many run at a time is a limit of a wave there."""
    return not running if executor.at_once is None else running + more < executor.at_once
