"""One cell in two processes: recorded once, by the first; what becomes of it where one is lost."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from bench.errors import CellError
from bench.runs import run_job
from bench.runs.events import Emit, Event, StageReached
from bench.runs.executors.lost import RankLostError
from bench.runs.job import Job, Outcome, Settings
from bench.runs.ranks import Work, run_together
from bench.runs.resources import Resources
from bench.runs.stored import sealed
from bench.runs.suite import load_suite
from bench.tracking.mlflow_store import Tracker
from bench.training import parallel
from tests.bench.runs.tiny import OUT, SUITE, prunebench, records

JOB = Job.of_cell(load_suite("demo", ["seeds=[0]"]).cells[0])


def settings(folder: Path) -> Settings:
    return Settings(suite="s", tracking_uri="sqlite:///x.db", work=folder, resources=Resources(devices_per_cell=2))


def work(job: Job, settings: Settings, emit: Emit) -> Outcome | None:
    """Does in each process what the file in the work folder says, and then meets the other."""
    what = (settings.work / "what").read_text()
    emit(StageReached(id=job.id, stage=f"{what} in {parallel.rank()} of {parallel.size()}"))
    if what == "second dies" and parallel.rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "both fail":
        if parallel.first():
            return Outcome.of(job, "failed", error="nothing was found")
        raise CellError("nothing was found")
    if what == "second fails" and parallel.rank() == 1:
        raise ValueError("no memory is left")
    met = parallel.agreed({"from": parallel.rank()})
    return Outcome.of(job, "finished", summary=f"{met} {settings.device}") if parallel.first() else None


def run(what: str, folder: Path) -> tuple[Outcome, list[Event]]:
    (folder / "what").write_text(what)
    events: list[Event] = []
    return run_together(work, JOB, settings(folder), events.append), events


def test_the_first_process_tells_and_gives_the_outcome(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    outcome, events = run("all is well", tmp_path)
    assert (outcome.status, outcome.summary) == ("finished", "{'from': 0} cpu")
    assert events == [StageReached(id=JOB.id, stage="all is well in 0 of 2")]
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_failure_that_all_meet_is_the_first_ones_to_report(tmp_path: Path) -> None:
    start = time.monotonic()
    outcome, _ = run("both fail", tmp_path)
    assert (outcome.status, outcome.error) == ("failed", "nothing was found")
    assert time.monotonic() - start < 240


def test_a_process_that_dies_takes_the_job_with_it_and_is_named(tmp_path: Path) -> None:
    with pytest.raises(RankLostError, match=r"one of its 2 processes was lost: process 1 was killed by signal 9"):
        run("second dies", tmp_path)
    with pytest.raises(RankLostError, match=r"process 1: ValueError: no memory is left$"):
        run("second fails", tmp_path)


def test_a_damaged_stage_is_made_again_before_the_processes_of_a_cell_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    stage, tracker = Job.of_dense(load_suite("demo", ["seeds=[0]"]).cells[0]), Tracker(store, "s")
    (tmp_path / "out" / "model").mkdir(parents=True)
    weights = tmp_path / "out" / "model" / "model.safetensors"
    weights.write_bytes(b"as stored")
    record = sealed({"metrics": {}}, tmp_path / "out")
    weights.write_bytes(b"as_stored")
    made = tracker.claim(stage.id, kind="dense", label=stage.label)
    made.folder(tmp_path / "out")
    made.finish(record)
    given: list[tuple[str, str]] = []

    def together(work: Work, job: Job, settings: Settings, emit: Emit) -> Outcome:
        given.append((job.id, work.keywords["note"] if isinstance(work, partial) else ""))
        return Outcome.of(job, "finished")

    monkeypatch.setattr(run_job, "run_together", together)
    run_job.run_job(JOB, replace(settings(tmp_path), tracking_uri=store), [].append)
    reason = f"the checksum of model/model.safetensors of run {made.run_id} does not hold"
    assert given == [(stage.id, f"an earlier result was damaged and made again: {reason}"), (JOB.id, "")]
    assert [state.status for state in tracker.states()] == ["lost"]


def test_a_cell_in_two_processes_is_recorded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str) -> None:
    monkeypatch.chdir(tmp_path)
    suite = SUITE.replace('"l1"', '"dcss"').replace('controls = ["random", "uniform-scratch"]', "controls = []")
    suite = suite.replace("budgets = [0.5, 0.3]", "budgets = [0.5]").replace("dense = 2", "dense = 1")
    Path("tiny.toml").write_text(suite)
    two = ("--resource", "devices_per_cell=2", "--device", "cpu", "--checkpoint-every", "0")
    assert prunebench(monkeypatch, "run", "tiny.toml", *two, *OUT) == 0
    (record,) = records(tmp_path)
    assert record.status == "finished" and record.environment["devices"] == "2"
    assert [(row["phase"], row["samples"]) for row in record.trajectory] == [
        ("dense", 128),
        ("search", 128),
        ("recovery", 128),
    ]
    assert all("val_accuracy" in row for row in record.trajectory)
    states = [state for state in Tracker(store, "tiny").states() if state.kind != "invocation"]
    assert sorted((state.kind, state.status) for state in states) == [
        (kind, "finished") for kind in ("cell", "dense", "search")
    ]
    assert {state.tags["prunebench.where"].split(" of ")[0] for state in states} == {"cpu ×2"}
    assert not any(Path(".prunebench", "tiny").iterdir())
