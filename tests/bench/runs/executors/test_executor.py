"""The loop that hands out jobs and collects how they ended, on executors that only pretend."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest

from bench.errors import RequestError
from bench.interface.record import Record
from bench.runs.events import Emit, Ended, Event
from bench.runs.executors import executor as executors
from bench.runs.executors.executor import EXECUTORS, make_executor, run_jobs, started
from bench.runs.executors.in_process import InProcess
from bench.runs.executors.worker_processes import WorkerProcesses
from bench.runs.job import Job, Outcome, Settings
from bench.runs.suite import load_suite
from bench.tracking.mlflow_store import Tracker

JOBS = [Job.of_cell(cell) for cell in load_suite("demo", ["seeds=[0]"]).cells[:5]]


class Pretending:
    """Ends jobs at once; the worker of those in `dying` is lost, each as often as it says."""

    def __init__(self, dying: dict[str, int], *, at_once: int | None, retries_alone: bool) -> None:
        self.dying, self.at_once, self.retries_alone = dict(dying), at_once, retries_alone
        self.batches: list[list[str]] = []
        self.stopped = False

    def start(self, settings: Settings, emit: Emit) -> Emit:
        return emit

    def submit(self, jobs: Sequence[Job]) -> list[Future[Outcome]]:
        self.batches.append([job.id for job in jobs])
        futures: list[Future[Outcome]] = []
        for job in jobs:
            future: Future[Outcome] = Future()
            if self.dying.get(job.id, 0) > 0:
                self.dying[job.id] -= 1
                future.set_exception(OSError("gone"))
            else:
                future.set_result(Outcome.of(job, "finished"))
            futures.append(future)
        return futures

    def reason(self, error: Exception) -> str:
        return f"the worker is {error}"

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def settings(store: str, tmp_path: Path) -> Settings:
    return Settings(
        suite="s", tracking_uri=store, work=tmp_path / "work", parent_run=Tracker(store, "s").begin_invocation("x", {})
    )


def run(executor: Pretending, settings: Settings) -> tuple[dict[str, Outcome], list[Event]]:
    events: list[Event] = []
    with started(executor, settings, events.append) as emit:
        outcomes = {outcome.id: outcome for outcome in run_jobs(executor, JOBS, settings, emit)}
    assert executor.stopped
    return outcomes, events


def ends(events: list[Event]) -> list[str]:
    return sorted(event.id for event in events if isinstance(event, Ended))


@pytest.mark.parametrize(("at_once", "sizes"), [(None, [5]), (1, [1] * 5)])
def test_an_executor_is_given_as_many_jobs_as_it_takes(
    settings: Settings, at_once: int | None, sizes: list[int]
) -> None:
    executor = Pretending({}, at_once=at_once, retries_alone=False)
    outcomes, events = run(executor, settings)
    assert [len(batch) for batch in executor.batches] == sizes
    assert [i for batch in executor.batches for i in batch] == [job.id for job in JOBS]
    assert {outcome.status for outcome in outcomes.values()} == {"finished"} and len(outcomes) == len(JOBS)
    assert ends(events) == sorted(job.id for job in JOBS)


@pytest.mark.parametrize("at_once", [None, 1, 2])
def test_a_lost_job_ends_and_is_recorded_with_its_reason(settings: Settings, at_once: int | None) -> None:
    victim = JOBS[1]
    outcomes, events = run(Pretending({victim.id: 4}, at_once=at_once, retries_alone=False), settings)
    assert (outcomes[victim.id].status, outcomes[victim.id].error) == ("failed", "the worker is gone")
    assert sum(outcome.status == "finished" for outcome in outcomes.values()) == len(JOBS) - 1
    assert ends(events) == sorted(job.id for job in JOBS)
    tracker = Tracker(settings.tracking_uri, "s")
    state = tracker.find(victim.id)
    assert state is not None and (state.status, state.parent_run) == ("failed", settings.parent_run)
    record = tracker.record(state)
    assert (record.status, record.error, record.cell_id) == ("failed", "the worker is gone", victim.id)
    assert record.config == victim.cell and record.environment["git_commit"] and record.traceback == ""


def test_lost_jobs_are_run_again_alone_as_often_as_the_settings_say(settings: Settings) -> None:
    unlucky, culprit = JOBS[0], JOBS[2]
    executor = Pretending({unlucky.id: 3, culprit.id: 4}, at_once=2, retries_alone=True)
    outcomes, events = run(executor, settings)
    assert {i for i, outcome in outcomes.items() if outcome.status == "failed"} == {culprit.id}
    again = executor.batches[-6:]
    assert [sorted(again[i : i + 2]) for i in (0, 2, 4)] == [sorted([[unlucky.id], [culprit.id]])] * 3
    assert ends(events) == sorted(job.id for job in JOBS)


def test_on_a_cluster_lost_jobs_are_run_again_together(settings: Settings) -> None:
    executor = Pretending({JOBS[0].id: 1, JOBS[2].id: 1}, at_once=None, retries_alone=False)
    outcomes, _ = run(executor, settings)
    assert {outcome.status for outcome in outcomes.values()} == {"finished"}
    assert [sorted(batch) for batch in executor.batches[1:]] == [sorted([JOBS[0].id, JOBS[2].id])]


def test_without_retries_a_lost_job_has_failed(settings: Settings) -> None:
    executor = Pretending({JOBS[0].id: 1}, at_once=2, retries_alone=True)
    outcomes, _ = run(executor, replace(settings, max_retries=0))
    assert outcomes[JOBS[0].id].status == "failed" and len(executor.batches) == 3


def test_executors_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(make_executor("local", 1), InProcess)
    assert isinstance(make_executor("local", 2), WorkerProcesses)
    with pytest.raises(RequestError, match="unknown executor 'kubernetes'; available: local, ray, slurm"):
        make_executor("kubernetes", 1)
    with pytest.raises(RequestError, match="--jobs 0 is not allowed"):
        make_executor("local", 0)
    added = {**EXECUTORS, "pretending": lambda workers: Pretending({}, at_once=workers, retries_alone=False)}
    monkeypatch.setattr(executors, "EXECUTORS", added)
    assert make_executor("pretending", 3).at_once == 3


@pytest.mark.parametrize(("name", "module"), [("ray", "ray"), ("slurm", "submitit")])
def test_an_extra_that_is_not_installed_is_named(name: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda wanted: None if wanted == module else object())
    with pytest.raises(RequestError, match=rf"pip install 'prunebench\[{name}\]'"):
        make_executor(name, 1)


def test_what_a_job_itself_raises_in_this_process_is_raised(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unusable(*arguments: object) -> Outcome:
        raise RequestError("the tracking store is gone")

    monkeypatch.setattr("bench.runs.run_job.run_job", unusable)
    executor = InProcess()
    with started(executor, settings, lambda event: None) as emit, pytest.raises(RequestError, match="store is gone"):
        list(run_jobs(executor, JOBS, settings, emit))


def test_records_of_lost_jobs_are_valid(settings: Settings) -> None:
    from bench.runs.tracked import failure_record

    dense = Job.of_dense(JOBS[0].cell)  # pyright: ignore[reportArgumentType]
    assert json.loads(failure_record(dense, settings, "r", "t", error="why", traceback="where")) == {
        "error": "why",
        "traceback": "where",
        "label": dense.label,
    }
    text = failure_record(JOBS[0], settings, "r", "t", error="why", traceback="where")
    record = Record.model_validate_json(text)
    assert (record.run_id, record.started_at, record.error, record.traceback) == ("r", "t", "why", "where")
