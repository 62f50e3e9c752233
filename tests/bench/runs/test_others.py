"""Several invocations of one suite: each cell runs once, waits for what it needs, and is taken over from the dead."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from bench.runs import others
from bench.runs.agenda import make_agenda
from bench.runs.events import Event, Waiting
from bench.runs.job import Job, Outcome
from bench.runs.others import run_beside_others
from bench.tracking.address import sqlite_path
from bench.tracking.mlflow_store import AlreadyRecorded, AlreadyRunning, TrackedRun, Tracker
from bench.tracking.quick_read import read_states
from tests.bench.runs.test_agenda import CELLS
from tests.bench.tracking.ended import end, make_dead

AGENDA = make_agenda(CELLS, {})


class Process:
    """An invocation that claims jobs as a real one does, and finishes them at once."""

    def __init__(self, store: str) -> None:
        self.tracker = Tracker(store, "t")
        self.parent = self.tracker.begin_invocation("x", {})
        self.ran: list[str] = []

    def run(self, jobs: Sequence[Job]) -> Iterable[Outcome]:
        for job in jobs:
            try:
                self.claim(job).finish("{}")
            except AlreadyRunning as other:
                yield Outcome.of(job, "elsewhere", error=str(other))
                continue
            for need in job.needs:
                state = self.tracker.find(need)
                assert state is not None and state.status == "finished", (job.label, need)
            self.ran.append(job.id)
            yield Outcome.of(job, "finished")

    def claim(self, job: Job) -> TrackedRun:
        return self.tracker.claim(job.id, kind=job.kind, label=job.label, parent_run=self.parent)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What happens in the pauses of one who waits, one by one; without any left, nobody would ever go on."""
    steps: list[Callable[[], object]] = []
    monkeypatch.setattr(others.time, "sleep", lambda seconds: steps.pop(0)())
    return steps


def labels(jobs: Iterable[str]) -> list[str]:
    known = {job.id: job.label for job in AGENDA.jobs}
    return [known[identity] for identity in jobs]


def test_cells_wait_for_a_dense_network_that_another_trains(store: str, pauses: list[Callable[[], object]]) -> None:
    mine, theirs = Process(store), Process(store)
    dense = AGENDA.dense[0]
    training = theirs.claim(dense)
    pauses += [lambda: None, lambda: training.finish("{}")]
    events: list[Event] = []
    outcomes = run_beside_others(AGENDA.stages, mine.run, mine.tracker, events.append)
    assert [o.id for o in outcomes] == [job.id for job in AGENDA.jobs]
    assert {o.status for o in outcomes} == {"finished"}
    assert sorted(mine.ran) == sorted(job.id for job in AGENDA.jobs if job is not dense)
    assert [(e.label, training.run_id in e.run) for e in events if isinstance(e, Waiting)] == [(dense.label, True)]
    # What did not need it came before it.
    assert {job.seed for job in AGENDA.jobs if job.id in mine.ran[:3]} == {1, 0} and not pauses


def test_what_a_dead_process_left_is_run_here(store: str, pauses: list[Callable[[], object]]) -> None:
    mine, theirs = Process(store), Process(store)
    training = theirs.claim(AGENDA.dense[0])
    pauses.append(lambda: make_dead(theirs.tracker, training.run_id))
    outcomes = run_beside_others(AGENDA.stages, mine.run, mine.tracker, lambda event: None)
    assert {o.status for o in outcomes} == {"finished"}
    assert sorted(mine.ran) == sorted(job.id for job in AGENDA.jobs)


def test_a_cell_that_another_runs_is_left_to_it_and_what_takes_it_up_waits(
    store: str, pauses: list[Callable[[], object]]
) -> None:
    mine, theirs = Process(store), Process(store)
    sources = [job for job in AGENDA.cells if any(job.id in transfer.needs for transfer in AGENDA.transfers)]
    alone = next(job for job in AGENDA.cells if job not in sources)
    source, other = theirs.claim(sources[0]), theirs.claim(alone)
    pauses.append(lambda: source.finish("{}"))
    outcomes = {o.id: o for o in run_beside_others(AGENDA.stages, mine.run, mine.tracker, lambda event: None)}
    assert {i for i, o in outcomes.items() if o.status == "elsewhere"} == {alone.id}
    assert other.run_id in outcomes[alone.id].error and outcomes[sources[0].id].status == "finished"
    assert {job.id for job in AGENDA.transfers} <= set(mine.ran) and alone.id not in mine.ran

    # Asked to wait, an invocation waits for that one as well, and says how it ended.
    pauses.append(lambda: other.fail("{}"))
    (outcome,) = run_beside_others([[alone]], mine.run, mine.tracker, lambda event: None, wait=True)
    assert (outcome.status, outcome.id) == ("failed", alone.id) and other.run_id in outcome.error


def test_a_source_that_is_no_job_of_ours_is_waited_for(store: str, pauses: list[Callable[[], object]]) -> None:
    mine, theirs = Process(store), Process(store)
    transfer = AGENDA.transfers[0]
    end(theirs.tracker, transfer.cell.dense_id)  # pyright: ignore[reportOptionalMemberAccess]
    (source,) = (job for job in AGENDA.cells if job.id in transfer.needs)
    run = theirs.claim(source)
    pauses.append(lambda: run.finish("{}"))
    (outcome,) = run_beside_others([[transfer]], mine.run, mine.tracker, lambda event: None)
    assert outcome.status == "finished" and mine.ran == [transfer.id] and not pauses


def test_what_another_has_run_meanwhile_is_not_run_again(store: str) -> None:
    before = Process(store)
    cell, failing = AGENDA.cells[:2]
    before.claim(failing).fail("{}")
    mine, theirs = Process(store), Process(store)
    # A failure of an earlier invocation is run again where that is asked for; one of our own worker as well.
    mine.claim(failing).fail("{}")
    mine.claim(failing).fail("{}")
    with pytest.raises(AlreadyRecorded):
        theirs.claim(failing)
    theirs.claim(cell).finish("{}")
    with pytest.raises(AlreadyRecorded):
        mine.claim(cell)
    assert read_states(store, "t")[cell.id].status == "finished"


@pytest.mark.parametrize("status", ["running", "finished", "failed"])
def test_of_several_who_ask_at_once_one_has_the_cell(status: str, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Process(store), Process(store)
    job = AGENDA.cells[0]
    create = first.tracker._create
    won: list[str] = []

    def overtaken(**facts: object) -> str:
        """The second has the cell before the run of the first is stored, whose clock is behind that of the second."""
        run = second.claim(job)
        won.append(run.run_id)
        if status != "running":
            (run.finish if status == "finished" else run.fail)("{}")
        run_id = create(**facts)  # pyright: ignore[reportArgumentType]
        with sqlite3.connect(sqlite_path(store)) as database:
            database.execute("UPDATE runs SET start_time = 1 WHERE run_uuid = ?", (run_id,))
        return run_id

    monkeypatch.setattr(first.tracker, "_create", overtaken)
    with pytest.raises(AlreadyRunning, match="run "):
        first.claim(job)
    (state,) = (s for s in first.tracker.states() if s.kind == "cell")
    assert (state.run_id, state.status) == (won[0], status)


def test_a_crowd_that_asks_has_one_winner(store: str) -> None:
    processes = [Process(store) for _ in range(4)]

    def ask(process: Process, job: Job) -> int:
        try:
            process.claim(job)
        except AlreadyRunning:
            return 0
        return 1

    with ThreadPoolExecutor(4) as pool:
        for job in AGENDA.cells[:3]:
            make_dead(processes[0].tracker, processes[0].claim(job).run_id)  # all find it, and one takes its place
            assert sum(pool.map(lambda process, job=job: ask(process, job), processes)) == 1
