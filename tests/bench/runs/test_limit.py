"""A time limit: what it may be, and what is not started."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

import pytest

from bench.errors import RequestError
from bench.runs.agenda import make_agenda
from bench.runs.executors.executor import run_jobs
from bench.runs.job import Job, Outcome, Settings
from bench.runs.limit import TimeLimit, seconds_of
from tests.bench.runs.test_agenda import CELLS

JOBS = make_agenda(CELLS, {}).jobs
SETTINGS = Settings(suite="t", tracking_uri="sqlite:///unused.db")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("8h", 28_800),
        ("90m", 5_400),
        ("1h30m", 5_400),
        ("1.5h", 5_400),
        ("45s", 45),
        ("2d", 172_800),
        ("1 h 5 m", 3_900),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "8", "8 hours", "-1h", "h", "0h", "1h30", "infh"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="is not allowed; use a time such as 8h"):
        seconds_of(text)


class Clockwork:
    """An executor on whose clock each job lasts as long as it says, one after another."""

    at_once: int | None = 1
    retries_alone = False

    def __init__(self, lasting: dict[str, float]) -> None:
        self.now, self.lasting = 0.0, lasting
        self.ran: list[Job] = []
        self.waves: list[int] = []

    def submit(self, jobs: Sequence[Job]) -> list[Future[Outcome]]:
        self.waves.append(len(jobs))
        found: list[Future[Outcome]] = []
        for job in jobs:
            self.ran.append(job)
            self.now += self.lasting[job.id]
            future: Future[Outcome] = Future()
            future.set_result(Outcome.of(job, "finished"))
            found.append(future)
        return found


def lasting(job: Job) -> float:
    return 10.0 if job.cell is None else 3.0


def test_nothing_is_started_that_cannot_end_in_time() -> None:
    executor = Clockwork({job.id: lasting(job) for job in JOBS})
    limit = TimeLimit(25.0, lasting, clock=lambda: executor.now)
    events: list[object] = []
    outcomes = {o.id: o for o in run_jobs(executor, JOBS, SETTINGS, events.append, limit=limit)}  # pyright: ignore
    # Two dense networks of 10 s; then there is time for one cell, and neither for a third network nor what needs it.
    assert [job.cell is None for job in executor.ran] == [True, True, False]
    assert executor.now == 23.0 and len(outcomes) == len(JOBS)
    ran = {job.id for job in executor.ran}
    assert {i for i, o in outcomes.items() if o.status == "finished"} == ran
    assert {o.status for i, o in outcomes.items() if i not in ran} == {"unstarted"}
    assert len(events) == 3  # a job that was not started has nothing to show


def test_a_job_of_unknown_length_is_started_while_time_is_left() -> None:
    executor = Clockwork({job.id: lasting(job) for job in JOBS})
    limit = TimeLimit(25.0, lambda job: None, clock=lambda: executor.now)
    outcomes = list(run_jobs(executor, JOBS, SETTINGS, lambda event: None, limit=limit))  # pyright: ignore
    assert executor.now == 30.0 and sum(o.status == "finished" for o in outcomes) == 3


def test_an_executor_with_a_queue_of_its_own_gets_its_jobs_in_waves() -> None:
    executor = Clockwork({job.id: 1.0 for job in JOBS})
    executor.at_once = None
    assert len(list(run_jobs(executor, JOBS, SETTINGS, lambda event: None))) == 20  # pyright: ignore
    # Dense networks, what starts from them, what starts from their searches, and what takes that up.
    assert executor.waves == [4, 8, 6, 2]
