from pathlib import Path

from bench.report.matrix import build
from bench.report.tables.catalogue import all_tables
from tests.bench.report import synthetic


def test_tables_without_anything_to_say_are_left_out():
    made = all_tables(build(synthetic.matrix(methods=("l1",), budgets=(0.5,)), suite="s"))
    assert {t.name for t in made} == {"main", "budget_audit", "latency", "ledger", "metrics"}
    assert all_tables(build([], suite="s")) == []


def test_all_tables_of_a_rich_suite(report: Path):
    names = {path.stem for path in (report / "tables").iterdir()}
    expected = {
        "main",
        "contribution",
        "power",
        "ranks",
        "recovery",
        "transfer",
        "published",
        "budget_audit",
        "latency",
        "ledger",
        "metrics",
    }
    assert names == expected
    for name in names:
        assert {p.suffix for p in (report / "tables").glob(f"{name}.*")} == {".md", ".csv", ".tex"}
