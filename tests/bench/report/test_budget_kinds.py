"""Budgets of both kinds in one report, and latencies at several combinations."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.report import write_report
from bench.report.audit import audit
from bench.report.entry import within
from bench.report.figures.metric_vs_latency import metric_vs_latency
from bench.report.matrix import build
from bench.report.opening import opening
from bench.report.tables.latency import latency_table
from bench.report.tables.main import main_table
from tests.bench.report import synthetic

pytestmark = pytest.mark.usefixtures("undrawn")

W = synthetic.workload()
OF_MACS = [synthetic.record(synthetic.cell(W, method, 0.5, seed)) for method in ("gdp", "l1") for seed in (0, 1)]
OF_PARAMS = [synthetic.with_params_budget(record) for record in OF_MACS]


def test_budgets_of_macs_and_of_parameters_share_no_section(tmp_path: Path) -> None:
    matrix = build([*OF_MACS, *OF_PARAMS], suite="s")
    assert list(matrix.groups()) == [
        ("digits-resnet8", "matched"), ("digits-resnet8", "matched (equal parameters)")
    ]  # fmt: skip
    assert [entry.n for entry in matrix.main] == [2, 2, 2, 2]
    sentences = [paragraph.points[1] for paragraph in opening(matrix)]
    assert sentences[0].startswith("At 0.5 of the MACs: ") and sentences[1].startswith("At 0.5 of the parameters: ")
    table = main_table(matrix)
    assert table is not None and "at matched MACs or parameter budgets. " in table.caption
    write_report([*OF_MACS, *OF_PARAMS], tmp_path, suite="s")
    assert audit(tmp_path) == []
    assert {p.stem for p in (tmp_path / "figures").glob("metric_vs_*s.png")} == {"metric_vs_macs", "metric_vs_params"}
    assert "| Budgets | 0.5 of the MACs; 0.5 of the parameters |" in (tmp_path / "README.md").read_text()


def test_a_budget_of_parameters_is_judged_by_parameters_alone() -> None:
    record = OF_PARAMS[0].model_copy(update={"macs_pruned": 1})
    assert within(record)
    missed = record.model_copy(update={"params_pruned": record.params_pruned + round(0.006 * record.params_dense)})
    assert not within(missed)
    (entry,) = build([missed], suite="s").main
    assert (entry.budget_misses, entry.verdict) == (1, "off budget")
    assert entry.native_ratio.mean == pytest.approx(0.52, abs=1e-4)


def test_each_combination_has_its_section_and_its_panel() -> None:
    matrix = build([synthetic.timed_twice(record) for record in OF_MACS], suite="s")
    table = latency_table(matrix)
    assert table is not None and [section.title for section in table.sections] == [
        "digits-resnet8, protocol matched, batch 1, 1 thread",
        "digits-resnet8, protocol matched, batch 32, 1 thread",
    ]
    # (40 / 16 + 40 / 17) / 2
    rows = [row for row in table.raw if row["batch"] == 32]
    assert [row["speedup_mean"] for row in rows] == [pytest.approx((2.5 + 40 / 17) / 2)] * 2
    assert [row["latency_ms_mean"] for row in rows] == [16.5, 16.5]
    # Both are as fast; gdp is better by far, so that it alone is on the front.
    assert {row["method"]: row["front"] for row in rows} == {"gdp": True, "l1": False}
    assert (
        "dense latency 40.00 ms (median; interquartile range 0% over 4 cells; batch 32, 1 thread"
        in (table.sections[1].notes[0])
    )
    (drawing,) = metric_vs_latency(matrix)
    shown = [axis.get_xlabel() for axis in drawing.figure.axes if axis.axison]
    assert shown == ["measured latency (ms), batch 1, 1 thread", "measured latency (ms), batch 32, 1 thread"]


def test_cells_with_and_without_further_latencies_are_told_apart() -> None:
    matrix = build([*OF_MACS, *map(synthetic.timed_twice, OF_MACS)], suite="s")
    assert [entry.n for entry in matrix.main] == [2, 2, 2, 2]
    names = {entry.method for entry in matrix.main if entry.adapter == "l1"}
    assert names == {"l1", "l1 (latency_batch=[1, 32], latency_threads=[1])"}
