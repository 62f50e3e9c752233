from pathlib import Path


def test_main_table_tells_controls_failures_and_misses(report: Path):
    text = (report / "tables" / "main.md").read_text(encoding="utf-8")
    assert "*random*" in text and "*uniform-scratch*" in text
    assert "⚠ 2 (1 failed)" in text and "⚠ 2 (1 missing)" in text
    assert "⚠ off budget (1/3)" in text
