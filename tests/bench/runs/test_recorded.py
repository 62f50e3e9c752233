"""Names that a suite has changed since its cells ran are shown as they are today, wherever records come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.interface.record import Record
from bench.report import relabelled
from bench.runs.recorded import without_record
from bench.runs.suite import suite_from_table
from tests.bench.runs.tiny import SUITE, prunebench

TABLE = {
    "name": "t",
    "methods": ["old"],
    "controls": [],
    "budgets": [0.5, 0.25],
    "seeds": [0],
    "method": {"old": {"base": "l1"}},
    "workloads": [
        {"task": "classification", "dataset": "digits", "model": "resnet8", "epochs": {"dense": 1, "recovery": 1}}
    ],
}


def test_labels_are_todays_and_nothing_else_changes() -> None:
    before = suite_from_table(TABLE, "t").cells
    renamed = {**TABLE, "methods": ["new"], "method": {"new": {"base": "l1"}}}
    renamed["workloads"] = [{**TABLE["workloads"][0], "name": "another"}]  # pyright: ignore[reportIndexIssue]
    after = suite_from_table(renamed, "t").cells
    records = [
        Record(suite="t", cell_id=c.id, run_id="r", status="failed", cell=c.model_dump(mode="json")) for c in before
    ]
    shown = relabelled(records, after[:1])
    assert [r.config for r in shown] == [after[0], before[1]]
    assert shown[0].model_copy(update={"cell": records[0].cell}) == records[0]
    assert [r.config for r in records] == list(before)  # the given ones are untouched
    assert without_record(after, shown[:1]) == [after[1]]


def test_a_renamed_workload_has_one_name_in_both_ways_of_reporting(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prunebench(monkeypatch, "run", "tiny.toml", "--only", "method=l1", "--only", "budget=0.5", "--quiet") == 0
    (place / "tiny.toml").write_text(SUITE.replace('model = "resnet8"', 'model = "resnet8"\nname = "renamed"'))
    cells = "reports/tiny/cells.jsonl"
    assert '"digits-resnet8"' in (place / cells).read_text()
    assert prunebench(monkeypatch, "report", "tiny.toml", "--out", "stored") == 0
    assert prunebench(monkeypatch, "report", "tiny.toml", "--from", cells, "--out", "file") == 0
    for name in ("README.md", "cells.jsonl", "results.csv"):
        text = (place / "stored" / name).read_text()
        assert (place / "file" / name).read_text() == text
        assert "renamed" in text and "digits-resnet8" not in text
