"""Large matrices: how often things are asked and computed, counted on small ones."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from bench.interface.cell import Cell
from bench.report.records import dump_line
from bench.runs.agenda import make_agenda
from bench.runs.events import Emit
from bench.runs.executors.executor import run_jobs
from bench.runs.job import Job, Outcome, Settings
from bench.runs.recorded import read_recorded
from bench.tracking import quick_read
from bench.tracking.mlflow_store import Tracker
from bench.tracking.quick_read import read_states
from tests.bench.runs.tiny import prunebench
from tests.bench.scale.store import A_SEED, NAME, SEARCHES, fill, large_cells, large_records, toml


class Instant:
    """An executor whose jobs end at once."""

    retries_alone = False

    def __init__(self, at_once: int) -> None:
        self.at_once: int | None = at_once
        self.largest = 0

    def start(self, settings: Settings, emit: Emit) -> Emit:
        return emit

    def submit(self, jobs: Sequence[Job]) -> list[Future[Outcome]]:
        self.largest = max(self.largest, len(jobs))
        futures = [Future[Outcome]() for _ in jobs]
        for job, future in zip(jobs, futures, strict=True):
            future.set_result(Outcome.of(job, "finished"))
        return futures

    def reason(self, error: Exception) -> str:
        return str(error)

    def stop(self) -> None:
        pass


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What SQLite is asked by quick reads."""
    asked: list[str] = []
    connected = quick_read.connected

    @contextlib.contextmanager
    def traced(path: Path) -> Iterator[sqlite3.Connection]:
        with connected(path) as database:
            database.set_trace_callback(asked.append)
            yield database

    monkeypatch.setattr(quick_read, "connected", traced)
    return asked


def counted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[Any]:
    """Calls of a method, each by what it was called on."""
    calls: list[Any] = []
    original: Callable[..., Any] = getattr(owner, name)

    def counting(self: Any, *arguments: Any, **named: Any) -> Any:
        calls.append(self)
        return original(self, *arguments, **named)

    monkeypatch.setattr(owner, name, counting)
    return calls


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_plan_asks_the_store_as_often_for_any_number_of_cells(
    seeds: int, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statements: list[str], capsys: Any
) -> None:
    count = seeds * A_SEED
    fill(store, large_cells(count))
    (tmp_path / "large.toml").write_text(toml(count))
    monkeypatch.chdir(tmp_path)
    identities = counted(monkeypatch, Cell, "identity")
    reads = counted(monkeypatch, Path, "read_bytes")
    assert prunebench(monkeypatch, "plan", "large.toml") == 0
    assert f"{count} cells: {count} done; dense networks: {4 * seeds} of {4 * seeds} done" in capsys.readouterr().out
    assert sum("SELECT" in text for text in statements) == 3 + 1  # of this suite, and what others have
    assert len(identities) == count  # each once
    assert len(reads) == count + (SEARCHES + 4) * seeds  # each record once, and no other file


def test_records_are_compared_with_their_seals_and_read_only_where_they_differ(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, large_cells(A_SEED))
    from bench.tracking import places

    read: list[str] = []
    original = places.read_record
    monkeypatch.setattr(places, "read_record", lambda text, where: read.append(where) or original(text, where))
    assert {state.status for state in read_states(store, NAME).values()} == {"finished"}
    assert read == []
    cell = large_cells(A_SEED)[3]
    state = read_states(store, NAME)[cell.id]
    file = tmp_path / "mlartifacts" / NAME / state.run_id / "artifacts/record.json"
    file.write_text(file.read_text().replace('"status":"finished"', '"status":"finishes"'))
    damaged = read_states(store, NAME)[cell.id]
    assert damaged.status == "lost" and read == [str(file)]


def test_each_job_is_handed_out_once_and_weighed_once() -> None:
    cells = large_cells(2 * A_SEED)
    jobs = make_agenda(cells, {}).jobs
    weighed: list[str] = []

    def weigh(job: Job) -> float:
        weighed.append(job.id)
        return float(job.epochs)

    executor = Instant(2)
    settings = Settings(suite=NAME, tracking_uri="sqlite:///unused.db")
    ended = [outcome.id for outcome in run_jobs(executor, jobs, settings, lambda event: None, weigh=weigh)]
    assert sorted(ended) == sorted(job.id for job in jobs) and len(jobs) == len(cells) + 2 * (SEARCHES + 4)
    assert sorted(weighed) == sorted(ended) and executor.largest == 2


def test_a_claim_reads_the_runs_of_its_cell_alone(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = large_cells(2 * A_SEED)
    fill(store, cells[:A_SEED])
    tracker = Tracker(store, NAME)
    search, found = tracker.client.search_runs, list[int]()

    def counting(*arguments: Any, **named: Any) -> Any:
        page = search(*arguments, **named)
        found.append(len(page))
        return page

    monkeypatch.setattr(tracker.client, "search_runs", counting)
    new = next(cell for cell in cells if cell.id not in {c.id for c in cells[:A_SEED]})
    tracker.claim(new.id, kind="cell", label=new.label).finish(dump_line(next(large_records([new]))))
    assert sum(found) <= 2 and len(found) <= 4
    assert read_states(store, NAME)[new.id].status == "finished"


@pytest.mark.parametrize("seeds", [1, 2])
def test_records_are_read_without_asking_mlflow_for_each(
    seeds: int, store: str, monkeypatch: pytest.MonkeyPatch, statements: list[str]
) -> None:
    cells = large_cells(seeds * A_SEED)
    fill(store, cells)
    tracker = Tracker(store, NAME)
    asked = [counted(monkeypatch, type(tracker.client), name) for name in ("get_run", "search_runs")]
    found = read_recorded(tracker, cells)
    assert len(found.records) == len(cells) and not found.lost
    assert asked == [[], []] and sum("SELECT" in text for text in statements) == 3
