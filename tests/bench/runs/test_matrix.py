"""The whole matrix through the command line: recorded once, resumable, reproducible, honest about failures."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

import methods
from bench.interface import registry
from bench.interface.record import Record
from bench.interface.task import Splits
from bench.runs import workload as workloads
from bench.runs.agenda import make_agenda
from bench.runs.events import Ended, Event, StageReached, Started
from bench.runs.executors.executor import make_executor
from bench.runs.job import Settings
from bench.runs.matrix import run_matrix
from bench.runs.recorded import recorded
from bench.runs.suite import load_suite, select
from bench.structure.graph import PruningGraph
from bench.tracking.mlflow_store import Tracker
from bench.tracking.quick_read import read_states
from tests.bench.runs.tiny import OUT, SUITE, call, figures, prunebench, records, results

COLUMNS = """cell_id, run_id, status, task, dataset, model, method, protocol, recovery, budget, seed, metric_name,
higher_is_better, dense_metric, pruned_metric, final_metric, macs_dense, macs_pruned, macs_ratio, params_dense,
params_pruned, native_macs_ratio, fitted_channels, latency_dense_ms, latency_pruned_ms, search_epochs,
recovery_epochs, search_seconds, recovery_seconds, error""".replace("\n", " ").split(", ")


EXPORTED = ("model.safetensors", "architecture.json", "card.json", "model.onnx", "model.pt2")


def test_a_matrix_runs_is_recorded_and_is_not_run_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    load = workloads.load_data

    def counted(workload: Any, root: Any, *, download: bool) -> Splits:
        data = load(workload, root, download=download)

        def test() -> Any:
            reads.append("test")
            return data.test()

        return Splits(data.train, data.val, test, data.info, data.fingerprint, data.notes)

    monkeypatch.setattr(workloads, "load_data", counted)
    assert prunebench(monkeypatch, "run", "tiny.toml") == 0
    rows = results(place)
    assert set(COLUMNS) <= set(rows[0])
    assert {(r["method"], r["budget"]) for r in rows} == {
        (m, b) for m in ("l1", "random", "uniform-scratch") for b in ("0.5", "0.3")
    }
    assert all(r["status"] == "finished" and abs(float(r["macs_ratio"]) - float(r["budget"])) <= 0.005 for r in rows)
    assert len({r["dense_metric"] for r in rows}) == 1
    assert len(reads) == 6 + 1  # once a cell, once for the dense network
    for record in records(place):
        total = record.ledger
        assert total and total.dense_epochs + total.search_epochs + total.recovery_epochs == 4
        assert record.macs_pruned / record.macs_dense == pytest.approx(record.audit.macs_ratio)  # pyright: ignore
        assert record.reference_metrics["majority class"]["accuracy"] < 15
        assert {"torch", "git_commit", "processor", "precision"} <= set(record.environment)
        assert record.data_fingerprint and record.input_shape == [1, 1, 16, 16]
    states = read_states("sqlite:///mlflow.db", "tiny")
    assert sum(s.kind == "dense" for s in states.values()) == 1
    assert not (place / ".prunebench" / "tiny").exists() or not list((place / ".prunebench" / "tiny").iterdir())

    before = {s.run_id for s in states.values()}
    page = (place / "reports/tiny/index.html").read_bytes()
    assert prunebench(monkeypatch, "run", "tiny.toml") == 0
    assert {s.run_id for s in read_states("sqlite:///mlflow.db", "tiny").values()} == before
    assert len(reads) == 7
    assert (place / "reports/tiny/index.html").read_bytes() == page


def test_a_matrix_is_run_from_python(place: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = select(load_suite("tiny.toml").cells, ["method=l1", "budget=0.5"])
    settings = Settings(suite="tiny", tracking_uri=store)
    events: list[Event] = []
    agenda = make_agenda(cells, read_states(store, "tiny"))
    outcomes = run_matrix(agenda, settings, make_executor("local", 1), nullcontext(events.append))
    assert [(o.kind, o.status) for o in outcomes] == [("dense", "finished"), ("cell", "finished")]
    kinds = [type(event) for event in events if event.id == cells[0].id]
    assert kinds[0] is Started and kinds[-1] is Ended and kinds.count(StageReached) == 5
    tracker = Tracker(store, "tiny")
    (record,) = recorded(tracker, cells)
    assert record.config == cells[0] and make_agenda(cells, read_states(store, "tiny")).jobs == ()
    (parent,) = (state for state in tracker.states() if state.kind == "invocation")
    assert {state.parent_run for state in tracker.states() if state.kind != "invocation"} == {parent.run_id}
    assert parent.status == "finished"

    # An invocation that is cut short says so in the store.
    def interrupted(*arguments: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.runs.run_job.run_job", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_matrix(make_agenda(cells, {}), settings, make_executor("local", 1))
    assert {tracker.client.get_run(s.run_id).info.status for s in tracker.states() if s.kind == "invocation"} == {
        "FINISHED",
        "KILLED",
    }


def test_the_store_and_the_structure_are_asked_once_and_not_once_a_cell(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()

    def count(kind: type[Any], name: str) -> None:
        original = getattr(kind, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            calls[name] += 1
            return original(*arguments, **options)

        monkeypatch.setattr(kind, name, counted)

    workloads._graphs.clear()
    count(Tracker, "records")
    count(Tracker, "find")
    count(PruningGraph, "trace")
    assert prunebench(monkeypatch, "run", "tiny.toml", "--set", 'controls=["random"]', "--quiet") == 0
    # Four cells ask for their dense network; the report reads all records at once.
    assert calls == {"trace": 1, "find": 4, "records": 1}


@pytest.mark.drawn
def test_a_records_pictures_of_the_search_reach_the_report(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = SUITE.replace('["l1"]', '["gdp"]').replace("budgets = [0.5, 0.3]", "budgets = [0.5]")
    (place / "tiny.toml").write_text(
        text.replace('["random", "uniform-scratch"]', "[]").replace("search = 1", "search = 2")
    )
    assert prunebench(monkeypatch, "run", "tiny.toml") == 0
    (record,) = records(place)
    assert {name: [row["epoch"] for row in rows] for name, rows in record.snapshots.items()} == {
        "gates": [1, 2],
        "widths": [1, 2],
    }
    phases = [row["phase"] for row in record.trajectory]
    assert phases == ["dense"] * 2 + ["search"] * 2 + ["recovery"]
    for name in ("gate_histograms", "widths_over_time"):
        assert (place / "reports" / "tiny" / "figures" / f"{name}.png").stat().st_size > 1000


def test_artifacts_hold_a_loadable_model_a_log_and_a_picture(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    from bench.structure.files import load_pruned
    from bench.structure.measure import count_macs
    from tasks.models.resnet import cifar_resnet

    assert prunebench(monkeypatch, "run", "tiny.toml", "--only", "method=l1", "--only", "budget=0.5", "--quiet") == 0
    (record,) = records(place)
    (folder,) = (place / "mlartifacts").glob(f"*/{record.run_id}/artifacts")
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert names == {"log.txt", "record.json", "widths.png", "model/model.safetensors", "model/architecture.json"}
    assert "recovery epoch 2" in (folder / "log.txt").read_text()
    model = load_pruned(folder / "model", cifar_resnet(8, 10, 1))
    assert count_macs(model, torch.randn(1, 1, 16, 16)) == record.macs_pruned

    capsys.readouterr()
    assert prunebench(monkeypatch, "show", record.cell_id[:6]) == 0
    text = capsys.readouterr().out
    assert record.run_id in text and "requested 0.5 ± 0.005" in text and "method     l1: fields at" in text
    assert "dense latency " in text and "over the runs of one cell" in text
    assert prunebench(monkeypatch, "show", record.cell_id, "--config") == 0
    assert json.loads(capsys.readouterr().out) == record.config.identity()
    assert prunebench(monkeypatch, "show", record.cell_id, "--json") == 0
    assert Record.model_validate_json(capsys.readouterr().out) == record

    assert prunebench(monkeypatch, "export", record.cell_id, "--out", "out") == 0
    assert {p.name for p in (place / "out").iterdir()} == set(EXPORTED)
    import onnxruntime

    session = onnxruntime.InferenceSession(place / "out" / "model.onnx")
    x = torch.randn(1, 1, 16, 16)
    expected = model.eval()(x).detach().numpy()
    (given,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert abs(given - expected).max() < 1e-4 * abs(expected).max()  # pyright: ignore


def test_the_same_seed_gives_the_same_table(place: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert prunebench(monkeypatch, "run", "tiny.toml", "--only", "budget=0.5", "--quiet") == 0
    first, second = figures([row for row in results(tiny_run) if row["budget"] == "0.5"]), figures(results(place))
    assert len(first) == 3 and first.keys() == second.keys()
    assert not {
        (name, k, v, second[name][k]) for name, row in first.items() for k, v in row.items() if v != second[name][k]
    }


@dataclass(frozen=True)
class Broken:
    """Fails at low budgets."""

    searches: ClassVar[bool] = False
    needs_dense: ClassVar[bool] = True
    recovery: ClassVar[str] = "finetune"
    standing: ClassVar[str] = "broken"
    cured: ClassVar[bool] = False

    def search(self, model: Any, graph: Any, task: Any, budget: Any, ctx: Any) -> Any:
        if budget.ratio < 0.4 and not Broken.cured:
            raise ZeroDivisionError("planted failure")
        return methods_l1().search(model, graph, task, budget, ctx)


def methods_l1() -> Any:
    return registry.make_method("l1", {})


def test_one_failed_cell_does_not_take_the_matrix_down(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(methods.CATALOGUE, "broken", f"{__name__}:Broken")
    registry.method_names.cache_clear()
    try:
        arguments = ("run", "tiny.toml", "--set", "methods=broken,l1", "--set", "controls=[]", *OUT)
        assert prunebench(monkeypatch, *arguments) == 1
        assert "failed: digits-resnet8 broken 0.3 seed 0: ZeroDivisionError: planted failure" in capsys.readouterr().err
        status = {(r["method"], r["budget"]): r["status"] for r in results(place)}
        assert status == {
            ("broken", "0.5"): "finished",
            ("broken", "0.3"): "failed",
            ("l1", "0.5"): "finished",
            ("l1", "0.3"): "finished",
        }
        failed = next(r for r in records(place) if r.status == "failed")
        assert "planted failure" in failed.traceback and "ZeroDivisionError" in failed.traceback
        assert prunebench(monkeypatch, "show", failed.cell_id) == 0
        assert "Traceback (most recent call last)" in capsys.readouterr().out
        # A failure stays recorded, is reported again, and is run again only when asked for.
        assert prunebench(monkeypatch, *arguments) == 1
        assert "failed earlier" in capsys.readouterr().err
        monkeypatch.setattr(Broken, "cured", True)
        assert prunebench(monkeypatch, *arguments, "--retry-failed") == 0
        assert {r["status"] for r in results(place)} == {"finished"}
    finally:
        registry.method_names.cache_clear()


def test_an_exploding_recovery_fails_its_cell_with_the_reason(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only = ("--only", "method=l1", "--only", "budget=0.5", "--quiet")
    change = ("--set", "recovery=finetune", "--set", "workloads.0.finetune.lr=1e30", *OUT)
    assert prunebench(monkeypatch, "run", "tiny.toml", *only, *change) == 1
    (record,) = records(place)
    assert record.error.startswith("the loss became ") and "learning rate 1e+30" in record.error


def test_report_shows_what_is_missing(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prunebench(monkeypatch, "report", "tiny.toml") == 2
    assert "nothing of suite 'tiny' is recorded" in capsys.readouterr().err
    assert prunebench(monkeypatch, "run", "tiny.toml", "--only", "method=l1", "--quiet") == 0
    assert prunebench(monkeypatch, "plan", "tiny.toml", "--json") == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["counts"] == {"done": 2, "missing": 4}
    # random: 1 + 1 recovery epochs; uniform-scratch: 2 more in place of the dense network's.
    assert planned["epochs_left"] == 2 * (2 + 4)
    text = (place / "reports/tiny/README.md").read_text()
    assert "missing" in text
    assert prunebench(monkeypatch, "report", "tiny.toml", "--out", "again") == 0
    assert (place / "again/README.md").read_text() == text
    assert prunebench(monkeypatch, "report", "tiny.toml", "--from", "again/cells.jsonl", "--out", "third") == 0
    assert (place / "third/results.csv").read_text() == (place / "again/results.csv").read_text()
    assert prunebench(monkeypatch, "audit", "again") == 0
    assert prunebench(monkeypatch, "merge", "again", "third", "--out", "both") == 0
    assert (place / "both/results.csv").read_text() == (place / "again/results.csv").read_text()
    # A number that does not follow from the records is found.
    tampered = place / "again" / "cells.jsonl"
    lines = [json.loads(line) for line in tampered.read_text().splitlines()]
    lines[0]["final_metrics"]["accuracy"] += 0.1
    tampered.write_text("".join(json.dumps(line) + "\n" for line in lines))
    capsys.readouterr()
    assert prunebench(monkeypatch, "audit", "again") == 1
    assert "contradictions" in capsys.readouterr().out


def test_pain_11_a_killed_run_goes_on_and_ends_with_the_same_table(place: Path, tiny_run: Path) -> None:
    rng, kills = random.Random(0), 0
    for _ in range(int(os.environ.get("PRUNEBENCH_KILLS", "3"))):
        process = call("run", "tiny.toml", "--quiet", cwd=place)
        # Wait until the run has begun, then a random moment longer.
        work = place / ".prunebench" / "tiny"
        deadline = time.monotonic() + 120
        while process.poll() is None and not (work.exists() and list(work.iterdir())) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(rng.uniform(0.0, 2.0))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills >= 2
    assert call("run", "tiny.toml", "--quiet", cwd=place).wait() == 0
    assert figures(results(place)) == figures(results(tiny_run))
    assert len(results(place)) == 6
    states = read_states(f"sqlite:///{place / 'mlflow.db'}", "tiny")
    assert {s.status for s in states.values()} == {"finished"} and len(states) == 7
