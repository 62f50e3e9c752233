"""Latencies at several batch sizes and numbers of threads, from the suite's file to the audited report."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.interface.cell import LatencyPlan
from bench.interface.log import TrainingLog
from bench.processes import cores
from bench.report.audit import audit
from bench.runs.cell import evaluation
from bench.runs.suite import suite_from_table
from bench.structure.measure import Latency
from bench.tracking.quick_read import read_states
from tests.bench.report import synthetic
from tests.bench.runs.tables import table
from tests.bench.runs.tiny import SUITE, prunebench, records, results

TIMED = (
    SUITE.replace('methods = ["l1"]', 'methods = ["l1"]\nlatency = { batch = [4, 1], threads = [1, 2] }')
    .replace('"random", "uniform-scratch"', "")
    .replace("[0.5, 0.3]", "[0.5]")
)


@pytest.mark.skipif(cores() < 2, reason="one core")
@pytest.mark.drawn
def test_every_combination_is_measured_and_reported(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[tuple[int, int | None]] = []
    compare = evaluation.compare_latencies

    def noted(models: Any, example: torch.Tensor, **named: Any) -> list[Latency]:
        passed.append((len(example), named["threads"]))
        return compare(models, example, **named)

    monkeypatch.setattr(evaluation, "compare_latencies", noted)
    (place / "tiny.toml").write_text(TIMED)
    assert prunebench(monkeypatch, "run", "tiny.toml", "--quiet") == 0
    (record,) = records(place)
    at = [(pair.dense.batch_size, pair.dense.threads) for pair in record.latencies]
    assert at == passed == [(4, 1), (4, 2), (1, 1), (1, 2)]
    assert all(pair.dense.median_ms > 0 and pair.pruned.median_ms > 0 for pair in record.latencies)
    (row,) = results(place)
    assert (row["latency_batch"], row["latency_threads"]) == ("4", "1")
    assert float(row["latency_pruned_ms"]) == record.latencies[0].pruned.median_ms
    assert float(row["latency_dense_ms_batch1_threads2"]) == record.latencies[3].dense.median_ms
    folder = place / "reports" / "tiny"
    with (folder / "tables" / "latency.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["batch"], r["threads"]) for r in rows] == [("4", "1"), ("4", "2"), ("1", "1"), ("1", "2")]
    assert [float(r["latency_ms_mean"]) for r in rows] == [pair.pruned.median_ms for pair in record.latencies]
    main = (folder / "tables" / "main.md").read_text()
    others = "batch 4, 2 threads; batch 1, 1 thread; batch 1, 2 threads"
    assert f"Speedups here are those at batch 4, 1 thread; the table by latency also has {others}." in main
    drawn = (folder / "figures" / "metric_vs_latency.svg").read_text()
    assert all(f"measured latency (ms), {words}" in drawn for words in ("batch 4, 1 thread", "batch 1, 2 threads"))
    assert audit(folder) == []
    text = (folder / "tables" / "latency.csv").read_text()
    (folder / "tables" / "latency.csv").write_text(text.replace(rows[3]["latency_ms_mean"], "0.001"))
    (finding,) = audit(folder)
    assert finding.startswith("latency.csv, digits-resnet8, l1 at 0.5, batch 1: latency_ms_mean is 0.001")


def test_more_threads_than_cores_are_refused_before_anything_runs(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prunebench(monkeypatch, "run", "tiny.toml", "--set", "latency.threads=1,4096", "--quiet") == 2
    sentence = capsys.readouterr().err.strip().splitlines()[-1]
    assert sentence.endswith(
        "workload digits-resnet8: latency.threads = 4096 is not allowed on this machine, which has "
        f"{cores()} core{'s' * (cores() != 1)}"
    )
    assert read_states(f"sqlite:///{place / 'mlflow.db'}", "tiny") == {}


def test_a_workload_can_have_combinations_of_its_own() -> None:
    given = table(latency={"batch": [1, 8]}, controls=["dense-longer"])
    (first,) = given["workloads"]
    given["workloads"] = [first, {**first, "name": "other", "latency": {"batch": [1]}}]
    found = {c.workload.name: c.latency for c in suite_from_table(given, "t").cells}
    assert found == {"digits-resnet8": LatencyPlan(batch=(1, 8)), "other": None}
    assert LatencyPlan(batch=(1, 8)).combinations == ((1, None), (8, None))


def test_on_a_gpu_the_batch_alone_is_measured_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int | None]] = []

    def measured(models: Any, example: Any, *, min_seconds: float, threads: int | None) -> list[Latency]:
        asked.append((example.batch, threads))
        return [Latency(2.0, 0.1, 0, "a GPU", 10), Latency(1.0, 0.1, 0, "a GPU", 10)]

    class OnGpu:
        device, shape = torch.device("cuda"), (1, 3, 8, 8)

        def repeat(self, *times: int) -> SimpleNamespace:
            assert times[1:] == (1, 1, 1)
            return SimpleNamespace(batch=times[0])

    monkeypatch.setattr(evaluation, "compare_latencies", measured)
    log = TrainingLog()
    inputs: Any = SimpleNamespace(log=log, cell=SimpleNamespace(latency=LatencyPlan(batch=(1, 32), threads=(1, 2))))
    pair: Any = (None, None)
    found = evaluation._latencies(inputs, pair, OnGpu())  # pyright: ignore[reportPrivateUsage, reportArgumentType]
    assert asked == [(1, None), (32, None)]
    assert [p.dense.conditions for p in found] == ["batch 1", "batch 32"]
    assert log.notes == ["latency.threads does not apply on a GPU: latencies were measured at each batch size alone"]


def test_records_of_earlier_releases_have_one_combination() -> None:
    record = synthetic.record(synthetic.cell(synthetic.workload(), "l1", 0.5, 0))
    plain = json.loads(record.model_dump_json())
    del plain["further_latencies"]
    for field in ("budget_kind", "latency"):
        assert plain["cell"].pop(field) is None
    for field in ("kind", "params_ratio", "native_params_ratio", "search_macs_ratio"):
        del plain["audit"][field]
    again = type(record).model_validate(plain)
    assert again.config.id == record.cell_id and len(again.latencies) == 1
    assert again.audit and again.audit.ratio == record.macs_pruned / record.macs_dense
