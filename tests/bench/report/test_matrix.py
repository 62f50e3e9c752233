from pathlib import Path

import pytest

from bench.report import write_report
from bench.report.audit import audit
from bench.report.matrix import build
from bench.report.tables.main import main_table
from bench.report.tables.recovery import recovery_table
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


def test_what_takes_a_method_apart_is_an_entry_outside_the_main_comparison():
    finals = {"dcss": [92.0, 92.1], "dcss blind": [99.0, 99.1], "dcss l1-channels": [91.0, 91.2], "l1": [90.0, 90.3]}
    made = build(synthetic.results(finals), suite="s")
    assert [e.label for e in made.entries] == ["dcss", "dcss blind", "dcss l1-channels", "l1"]
    assert [(e.label, e.rank) for e in made.main] == [("dcss", 1), ("l1", 2)]
    blind = made.entries[1]
    assert (blind.ablation, blind.control, blind.rank, blind.verdict, blind.final.values) == (
        "blind", False, None, "", (99.0, 99.1)
    )  # fmt: skip
    assert made.controls() == set() and made.methods() == ["dcss", "l1"]


def test_a_scratch_ablation_decides_nothing_about_the_recovery_of_the_main_table():
    finals = {"dcss": [92.0, 92.1], "dcss scratch": [99.0, 99.1], "uniform-scratch": [90.0, 90.3]}
    made = build(synthetic.results(finals), suite="s")
    assert [(e.label, e.recovery) for e in made.main] == [("dcss", "rewind"), ("uniform-scratch", "scratch")]
    assert recovery_table(made) is None


def test_equal_samples_and_equal_steps_share_no_section():
    records = synthetic.results({"gdp": [92.0, 92.1]}) + synthetic.results({"gdp": [93.0, 93.1]}, match="steps")
    table = main_table(build(records, suite="s"))
    assert table is not None
    titles = [s.title for s in table.sections]
    assert titles == ["digits-resnet8, protocol matched", "digits-resnet8, protocol matched (equal steps)"]
    assert [row["final_mean"] for row in table.raw] == pytest.approx([92.05, 93.05])


@pytest.mark.usefixtures("undrawn")
def test_a_network_from_scratch_has_nothing_after_pruning(tmp_path: Path):
    records = synthetic.matrix(methods=("gdp", "uniform-scratch", "dense-longer"), budgets=(0.5,), seeds=(0, 1))
    assert not any(r.pruned_metrics for r in records if r.config.from_scratch)
    write_report(records, tmp_path, suite="s")
    assert audit(tmp_path) == []
    lines = (tmp_path / "tables" / "main.md").read_text(encoding="utf-8").splitlines()
    scratch = next(line for line in lines if "uniform-scratch" in line)
    title = next(line for line in lines if "After pruning" in line)
    columns = [cell.strip() for cell in title.split("|")]
    assert scratch.split("|")[columns.index("After pruning")].strip() == "–"
    assert scratch.split("|")[columns.index("Recovery")].strip() == "scratch"


def test_protocols_are_not_mixed_in_a_table():
    records = synthetic.results({"gdp": [92.0, 92.1]}) + synthetic.results({"gdp": [93.0, 93.1]}, protocol="paper")
    table = main_table(build(records, suite="s"))
    assert table is not None
    assert [s.title for s in table.sections] == ["digits-resnet8, protocol matched", "digits-resnet8, protocol paper"]
