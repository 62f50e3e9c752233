"""Latencies that can be believed, and those that cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.interface.record import Record
from bench.report import write_report
from bench.report.audit import audit
from bench.report.formats.markdown import to_markdown
from bench.report.matrix import build
from bench.report.page_data import page_data
from bench.report.tables.latency import latency_table
from bench.report.tables.main import main_table
from tests.bench.report import synthetic

pytestmark = pytest.mark.usefixtures("undrawn")


def measured(dense: list[float], *, pruned: float = 2.0) -> list[Record]:
    """Two seeds each of l1, random and the unpruned network; these dense latencies, in milliseconds."""
    w = synthetic.workload()
    cells = [synthetic.cell(w, method, 0.5, seed) for method in ("l1", "random") for seed in (0, 1)]
    cells += [synthetic.cell(w, "dense-longer", 1.0, seed) for seed in (0, 1)]
    records = [synthetic.record(cell) for cell in cells]
    for record, value in zip(records, dense, strict=True):
        assert record.latency_dense and record.latency_pruned
        record.environment = {"device": "cpu", "processor": "Some CPU"}
        whole = record.cell["method"] == "dense-longer"
        record.latency_dense = record.latency_dense.model_copy(update={"median_ms": value, "threads": 2})
        record.latency_pruned = record.latency_pruned.model_copy(
            update={"median_ms": value / 1.25 if whole else pruned, "threads": 2}
        )
    return records


def test_the_dense_latency_is_pooled_and_stated_with_its_range() -> None:
    # Sorted 4.0, 4.0, 4.2, 4.4, 4.6, 4.6: median 4.3; quartiles at places 1.25 and 3.75, 4.05 and 4.55; 0.5 / 4.3.
    matrix = build(measured([4.0, 4.4, 4.2, 4.6, 4.0, 4.6]), suite="s")
    (latency,) = matrix.workloads["digits-resnet8"].latencies.values()
    assert (latency.median, latency.steady) == (pytest.approx(4.3), True)
    assert (latency.iqr, latency.relative) == (pytest.approx(0.5), pytest.approx(0.5 / 4.3))
    line = "dense latency 4.30 ms (median; interquartile range 12% over 6 cells; batch 1, 2 threads, on Some CPU)"
    table, main = latency_table(matrix), main_table(matrix)
    assert table is not None and main is not None
    assert table.sections[0].notes == [
        f"{line}.",
        "Null check: dense-longer 1.25 ± 0.00 (n 2), where 1 is right; what it is off by is the error of every speedup "
        "here.",
    ]
    assert line in main.sections[0].notes[0]
    # (4.0 / 2 + 4.4 / 2) / 2 = 2.1 and (4.2 / 2 + 4.6 / 2) / 2 = 2.2
    assert {row["method"]: pytest.approx(row["speedup_mean"]) for row in table.raw} == {
        "l1": 2.1,
        "random": 2.2,
        "dense-longer": 1.25,
    }
    assert [row["method"] for row in table.raw] == ["l1", "random", "dense-longer"]  # fastest first
    assert main.raw[0]["dense_latency_ms_median"] == pytest.approx(4.3)
    assert main.raw[0]["dense_latency_ms_iqr"] == pytest.approx(0.5)
    assert "| dense | – | 6 | 4.30 |" in to_markdown(table)


def test_speedups_are_left_out_where_the_dense_latency_scatters(tmp_path: Path) -> None:
    # Sorted 3.0, 3.0, 4.0, 4.0, 5.0, 5.0: median 4; quartiles 3.25 and 4.75; 1.5 / 4 = 37.5 %.
    records = measured([3.0, 5.0, 4.0, 4.0, 3.0, 5.0])
    matrix = build(records, suite="s")
    assert all(entry.speedup.n == 0 and entry.latency.n == 2 for entry in matrix.entries)
    table = latency_table(matrix)
    assert table is not None
    first, null = table.sections[0].notes
    assert "interquartile range 38% over 6 cells; above 20%, so that speedups are left out; batch 1" in first
    assert null == "Null check: no unpruned network's speedup is there (the control dense-longer gives one)."
    cells = page_data(matrix, runs="")["cells"]
    place = cells["fields"].index("speedup")
    assert {row[place] for row in cells["rows"]} == {None}
    write_report(records, tmp_path, suite="s")
    assert audit(tmp_path) == [] and "above 20%" in (tmp_path / "README.md").read_text()
    text = (tmp_path / "tables/main.csv").read_text()
    (tmp_path / "tables/main.csv").write_text(
        text.replace("speedup_mean", "x").replace("latency_ms_mean", "speedup_mean")
    )
    assert any("speedup_mean is 2" in finding for finding in audit(tmp_path))


def test_machines_are_not_pooled() -> None:
    records = measured([4.0, 9.0, 4.2, 9.1, 4.1, 9.2])
    for record in records[1::2]:
        record.environment["processor"] = "Another CPU"
    matrix = build(records, suite="s")
    found = matrix.workloads["digits-resnet8"].latencies
    assert {machine.processor: latency.median for machine, latency in found.items()} == {
        "Another CPU": pytest.approx(9.1),
        "Some CPU": pytest.approx(4.1),
    }
    assert all(latency.steady for latency in found.values())
    table = latency_table(matrix)
    assert table is not None and [row["dense_latency_ms_median"] for row in table.raw] == [None] * 3


def test_of_one_cell_the_range_is_that_of_its_runs() -> None:
    (record, *_) = measured([4.0] * 6)
    assert record.latency_dense
    for own, steady in ((0.8, True), (0.81, False)):
        record.latency_dense = record.latency_dense.model_copy(update={"iqr_ms": own})
        (latency,) = build([record], suite="s").workloads["digits-resnet8"].latencies.values()
        assert latency.steady == steady
