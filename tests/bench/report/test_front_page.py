from pathlib import Path


def test_readme_says_what_is_not_there(report: Path):
    text = (report / "README.md").read_text(encoding="utf-8")
    assert "**Of 69 cells, 1 cell failed, 1 is missing, 1 missed the budget" in text
    assert "the loss became inf in epoch 3 of search" in text
    assert "- missing: " in text
    assert "![Metric against MACs](figures/metric_vs_macs.png)" in text
    assert "| Protocol version | 2 |" in text
    assert "| Budgets | 0.5, 0.25 |" in text
