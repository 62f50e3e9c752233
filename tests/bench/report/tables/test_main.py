from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench.interface.cell import PaperPlan
from bench.report.matrix import build
from bench.report.tables.main import OUTPUT, main_table
from bench.structure.graph import PruningGraph
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


def main_of(finals: dict[str, list[float]], **changes: Any) -> Any:
    table = main_table(build(synthetic.results(finals, **changes), suite="s"))
    assert table is not None
    return table


def test_the_caption_says_what_was_held_equal():
    finals = {"gdp": [92.0, 92.1]}
    assert "the training samples seen are held equal (match = samples)" in main_of(finals).caption
    steps = main_of(finals, match="steps").caption
    assert "the steps of the weights are held equal (match = steps)" in steps and "match = samples" not in steps
    recipe = synthetic.workload().train
    plan = PaperPlan(search=recipe, search_epochs=6, recovery=recipe, recovery_epochs=30, scale=0.1)
    paper = main_of(finals, protocol="paper", plan=plan).caption
    assert "held equal (match" not in paper and "All published epochs are multiplied by 0.1" in paper
    whole = main_of(finals, protocol="paper", plan=plan.model_copy(update={"scale": 1.0})).caption
    assert "each method has its own recipe" in whole and "multiplied" not in whole


def test_what_is_protected_stands_under_the_table():
    records = synthetic.results({"gdp": [92.0, 92.1]})
    for record in records:
        record.cell["workload"]["protect"] = ["conv1", "layer3.*"]
    table = main_table(build(records, suite="s"))
    assert table is not None and "; protected conv1, layer3.*; " in table.sections[0].notes[0]
    plain = main_of({"gdp": [92.0, 92.1]})
    assert "protected" not in plain.sections[0].notes[0]


def test_each_entry_is_compared_with_its_best_rival():
    rows = {row["method"]: row for row in main_of({"gdp": [93.0, 94.0], "l1": [92.0, 92.0], "tas": [90.0, 92.5]}).raw}
    assert {name: row["rival"] for name, row in rows.items()} == {"gdp": "l1", "l1": "gdp", "tas": "gdp"}
    assert [rows[name]["rival_difference_mean"] for name in ("gdp", "l1", "tas")] == [1.5, -1.5, -2.25]
    # Differences 1 and 2: 1.5 ± 12.7062 · 0.70711 / √2.
    assert rows["gdp"]["rival_difference_low"] == pytest.approx(1.5 - 12.7062 / 2, abs=1e-3)
    assert rows["gdp"]["rival_over_samples_low"] is None


def test_the_interval_over_test_samples_stands_in_the_csv():
    records = synthetic.matrix(methods=("gdp", "l1"), budgets=(0.5,), samples=300, trajectory=False)
    table = main_table(build(records, suite="s"))
    assert table is not None
    for row in table.raw:
        assert row["rival_over_samples_low"] < row["rival_difference_mean"] < row["rival_over_samples_high"]
    assert "holds for these networks and not for new seeds" in table.caption


def test_layers_that_were_left_whole_stand_under_the_table():
    records = synthetic.results({"dais": [92.0, 92.1], "l1": [91.0, 91.2]})
    for record in records:
        record.left_whole |= {f"layer{i}": "a fixed width" for i in range(5)}
    table = main_table(build(records, suite="s"))
    assert table is not None and table.sections[0].notes[-1] == (
        "Left whole, or in part, in every pruned network: layer0 (a fixed width); layer1 (a fixed width); "
        "layer2 (a fixed width); and 2 more, which `prunebench show CELL` names."
    )


def test_the_last_layer_needs_no_note():
    """The report knows it by the structural engine's words, and imports nothing of that."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    assert PruningGraph.trace(model, torch.zeros(1, 1, 4, 4)).skipped == (("2", OUTPUT),)


def test_settings_and_versions_of_code_stand_under_the_table():
    records = synthetic.results({"dais": [92.0, 92.1], "l1": [91.0, 91.2]})
    plain = main_table(build(records, suite="s"))
    assert plain is not None and len(plain.sections[0].notes) == 1
    for record in records:
        seed = record.cell["seed"]
        record.environment["method_source"] = "aaa" if record.cell["method"] == "l1" or seed else "bbb"
        if record.cell["method"] == "dais":
            record.cell["hyper"] = {"sparsity_weight": 0.1, "travel": 16.0}
    table = main_table(build(records, suite="s"))
    assert table is not None and table.sections[0].notes[1:] == [
        "Settings other than the defaults: dais: sparsity_weight=0.1.",
        "Cells of dais were made by 2 versions of its code: aaa, bbb.",
    ]
    assert {row["method"]: row["settings"] for row in table.raw} == {"dais": "sparsity_weight=0.1", "l1": ""}
    assert {r.row()["settings"] for r in records} == {"sparsity_weight=0.1", ""}
    for record in records:
        if record.cell["method"] == "dais":  # as a sweep names it
            record.cell |= {"method": "dais(sparsity_weight=0.1)", "base": "dais"}
    swept = main_table(build(records, suite="s"))
    assert swept is not None and not any("Settings" in note for note in swept.sections[0].notes)
    assert {row["settings"] for row in swept.raw} == {"sparsity_weight=0.1", ""}
