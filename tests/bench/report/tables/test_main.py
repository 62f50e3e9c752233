from pathlib import Path

from bench.report.matrix import build
from bench.report.tables.main import main_table
from tests.bench.report import synthetic


def test_main_table_tells_controls_failures_and_misses(report: Path):
    text = (report / "tables" / "main.md").read_text(encoding="utf-8")
    assert "*random*" in text and "*uniform-scratch*" in text
    assert "⚠ 2 (1 failed)" in text and "⚠ 2 (1 missing)" in text
    assert "⚠ off budget (1/3)" in text


def test_peak_memory_is_shown_where_it_was_measured():
    records = synthetic.results({"gdp": [92.0, 92.1], "l1": [91.0, 91.1]})
    for record in records:
        record.peak_memory_dense, record.peak_memory_pruned = 400_000, 300_000
        if record.cell["method"] == "l1":
            record.peak_memory_pruned = 0
    table = main_table(build(records, suite="s"))
    assert table is not None
    place = [column.title for column in table.sections[0].columns].index("Memory ↓ %")
    assert [row.values[place].text for row in table.sections[0].rows] == ["–", "25.0", "–"]
    assert "0.400 MB peak memory at input" in table.sections[0].notes[0]
    assert [row["peak_memory_pruned_mean"] for row in table.raw] == [300_000, None]
