import pytest

from bench.report.matrix import build
from bench.report.tables.main import main_table
from tests.bench.report import synthetic


def test_a_budget_is_judged_by_the_macs_and_not_by_the_record():
    records = synthetic.results({"gdp": [95.0, 95.1, 95.3]})
    assert records[0].audit is not None
    records[0].macs_pruned = records[0].macs_dense
    records[0].audit.within = True
    assert synthetic.entry_of(records, "gdp").budget_misses == 1


def test_delta_is_taken_seed_by_seed():
    records = synthetic.results({"gdp": [92.0, 94.0]})
    records[0].dense_metrics["accuracy"], records[1].dense_metrics["accuracy"] = 91.0, 93.5
    found = synthetic.entry_of(records, "gdp")
    assert found.delta.values == (1.0, 0.5)
    assert found.delta.std == pytest.approx(0.5 / 2**0.5)


def test_failed_and_missing_cells_are_counted():
    records = synthetic.results({"gdp": [92.0, 92.1, 92.2]})
    records[1] = synthetic.record(records[1].config, fail="diverged")
    gone = records.pop(2).config
    found = next(e for e in build(records, [gone], suite="s").main)
    assert (found.n, found.failed, found.missing, found.planned) == (1, 1, 1, 3)
    assert build(records, [records[0].config], suite="s").missing == []


def test_protocols_are_not_mixed_in_a_table():
    records = synthetic.results({"gdp": [92.0, 92.1]}) + synthetic.results({"gdp": [93.0, 93.1]}, protocol="paper")
    table = main_table(build(records, suite="s"))
    assert table is not None
    assert [s.title for s in table.sections] == ["digits-resnet8, protocol matched", "digits-resnet8, protocol paper"]
