"""Results of other data never stand in one table, and a dense network of other data is never started from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.errors import CellError
from bench.report.audit import audit_cells
from bench.report.records import ReportError, merge_records
from bench.runs.dense import load_dense
from bench.runs.suite import load_suite
from bench.tracking.mlflow_store import Tracker
from bench.tracking.quick_read import read_states
from tests.bench.runs.tiny import prunebench, records

SUITE = """
name = "tiny"
methods = ["l1"]
controls = []
budgets = [0.5]
seeds = [0, 1]

[[workloads]]
task = "classification"
dataset = "imagefolder:images"
model = "resnet8"
image_size = 16
epochs = { dense = 1, recovery = 1 }
train = { batch_size = 8, precision = "fp32" }
"""


@pytest.fixture
def folder(place: Path) -> Path:
    """A project with a suite on a folder of images."""
    (place / "tiny.toml").write_text(SUITE)
    random = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 4)):
        for kind in ("cat", "dog"):
            (place / "images" / part / kind).mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / "images" / part / kind / f"{i}.png")
    return place


def change(folder: Path) -> None:
    Image.new("RGB", (16, 16)).save(folder / "images" / "train" / "cat" / "0.png")


def forget() -> None:
    from bench.runs.workload import _read

    _read.cache_clear()


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    forget()  # a new process would read the folder again
    return prunebench(monkeypatch, "run", "tiny.toml", "--data", ".", *arguments)


def test_data_that_changed_since_a_result_are_refused_before_anything_is_trained(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--only", "seed=0") == 0
    change(folder)
    before = set(read_states("sqlite:///mlflow.db", "tiny"))
    assert run(monkeypatch) == 2
    (sentence,) = capfd.readouterr().err.strip().splitlines()[-1:]
    assert sentence.startswith("prunebench: workload imagefolder-images-resnet8: its data changed since results were ")
    assert "put the data back" in sentence
    assert set(read_states("sqlite:///mlflow.db", "tiny")) == before
    # --only does not hide what is on record, and another store begins anew.
    assert run(monkeypatch, "--only", "seed=1") == 2
    assert run(monkeypatch, "--tracking-uri", "sqlite:///other.db", "--out", "other") == 0


def test_a_dense_network_of_other_data_is_not_started_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "--only", "seed=0") == 0
    (cell,) = (c for c in load_suite("tiny.toml").cells if c.seed == 0)
    tracker = Tracker("sqlite:///mlflow.db", "tiny")
    (record,) = records(folder)
    from bench.interface import registry
    from bench.interface.task import DataInfo
    from bench.training.recovery import fresh_network

    task = registry.make_task("classification", {"dataset": "digits", "model": "resnet8"})
    like = fresh_network(task, DataInfo(3, 16, 16, ("cat", "dog")), 0)
    assert load_dense(cell, tracker, like=like, fingerprint=record.data_fingerprint).metrics == record.dense_metrics
    with pytest.raises(CellError, match=r"was trained on other data \(fingerprint [0-9a-f]{16}\) than lie there now"):
        load_dense(cell, tracker, like=like, fingerprint="another")


def test_records_of_different_data_share_no_table_and_the_audit_names_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch) == 0
    one, other = records(folder)
    assert one.data_fingerprint == other.data_fingerprint != ""
    changed = other.model_copy(update={"data_fingerprint": "0123456789abcdef"})
    with pytest.raises(ReportError, match="were made with different data and cannot share a table: 1 of fingerprint"):
        merge_records([one], [changed])
    plain = [json.loads(r.model_dump_json()) for r in (one, changed)]
    (finding,) = audit_cells(plain)
    assert finding.startswith(f"cell {changed.cell_id}: made with data 0123456789abcdef; 1 cells of the same workload")
    assert audit_cells([json.loads(r.model_dump_json()) for r in (one, other)]) == []
