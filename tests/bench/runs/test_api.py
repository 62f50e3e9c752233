"""`prunebench.run`, what it gives, and records that are read again."""

from __future__ import annotations

from pathlib import Path

import pytest

import prunebench
from bench.report import write_report
from tests.bench.report import synthetic
from tests.bench.runs.tiny import SUITE

SMALL = ("train_size = 128", "train_size = 64"), ("dense = 2", "dense = 1"), ("budgets = [0.5, 0.3]", "budgets = [0.5]")


@pytest.fixture
def small(place: Path) -> Path:
    """A suite of three cells, one epoch each."""
    text = SUITE
    for old, new in SMALL:
        text = text.replace(old, new)
    (place / "tiny.toml").write_text(text)
    return place


def test_a_suite_is_run_from_python(small: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = prunebench.run("tiny.toml", only="method=l1", set="seeds=3", quiet=True)
    assert capfd.readouterr() == ("", "")
    assert (result.suite, result.failed, result.missing) == ("tiny", [], [])
    (record,) = result.records
    assert record.status == "finished" and record.cell["seed"] == 3
    frame = result.frame()
    assert list(frame["method"]) == ["l1"] and list(frame["final_metric"]) == [record.final_metrics["accuracy"]]
    assert "| 0.50 | l1 | 1 |" in result.table()
    assert result.report and result.report.is_file() and result.report == Path("reports/tiny--seeds-3/README.md")
    again = prunebench.read("reports/tiny--seeds-3")
    assert again.suite == "tiny" and [r.run_id for r in again.records] == [record.run_id]
    # What is recorded is not run again.
    assert prunebench.run(small / "tiny.toml", only=["method=l1"], set=["seeds=3"]).records == result.records
    assert capfd.readouterr().err == "tiny: reading what is recorded …\ntiny: writing the report …\n"


def test_a_wrong_request_raises_the_sentence(small: Path) -> None:
    for arguments, sentence in (
        ({"only": "method=l2"}, "did you mean 'l1'"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"jobs": 0}, "--jobs 0 is not allowed"),
        ({"only": [1]}, r"\[1\] is not allowed; use KEY=VALUE in quotes"),
    ):
        with pytest.raises(prunebench.RequestError, match=sentence):
            prunebench.run("tiny.toml", **arguments)  # pyright: ignore[reportArgumentType]


def test_records_are_read_and_shown_as_in_their_report(tmp_path: Path) -> None:
    records = synthetic.matrix([synthetic.workload()], methods=("l1", "random"), budgets=(0.5,))
    write_report(records, tmp_path, suite="synthetic")
    result = prunebench.read(tmp_path / "cells.jsonl")
    assert result.table() == (tmp_path / "tables/main.md").read_text().replace("# Main", "## Main", 1).replace(
        "\n## digits", "\n### digits"
    )
    assert list(result.frame().columns) == (tmp_path / "results.csv").read_text().splitlines()[0].split(",")
    assert prunebench.Result(suite="s", records=[]).table() == "s: no cell has finished (0 failed, 0 missing)\n"
