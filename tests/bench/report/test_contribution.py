import pytest
from scipy import stats

from bench.interface.record import Record
from bench.report.contribution import MEANING, Block, blocks
from bench.report.matrix import build
from bench.report.statistics import holm
from bench.report.tables.contribution import contribution_table
from bench.report.widths import between_entries, between_seeds
from tests.bench.report import synthetic

FINALS = {
    "dcss": [92.0, 93.0, 92.6],
    "dcss blind": [91.0, 91.5, 91.7],
    "dcss l1-channels": [92.1, 92.8, 92.5],
    "dcss scratch": [93.0, 94.2, 93.5],
    "random-widths": [90.0, 92.0, 90.9],
    "uniform-scratch": [91.0, 92.1, 91.3],
    "random": [80.0, 81.0, 82.0],
}


def only_block(records: list[Record]) -> Block:
    (found,) = blocks(build(records, suite="s"))
    return found


def test_a_block_is_the_method_against_each_of_its_controls():
    block = only_block(synthetic.results(FINALS))
    assert [c.other.label for c in block.controls] == list(FINALS)[1:-1]
    blind = block.controls[0]
    assert blind.gap.values == pytest.approx((1.0, 1.5, 0.9))
    # Mean 1.1333, standard deviation 0.3215, t(0.975, 2) = 4.3027: half width 4.3027 · 0.3215 / √3 = 0.7986.
    assert blind.over_seeds == pytest.approx((1.1333 - 0.7986, 1.1333 + 0.7986), abs=1e-3)
    expected = [stats.ttest_rel(FINALS["dcss"], FINALS[name]).pvalue for name in list(FINALS)[1:-1]]
    assert [c.p for c in block.controls] == pytest.approx(expected)
    assert [c.p_holm for c in block.controls] == pytest.approx(holm(expected))
    found = block.against("scratch")
    assert found is not None and found.gap.mean is not None and found.gap.mean < 0


def test_each_control_says_what_it_switches_off():
    table = contribution_table(build(synthetic.results(FINALS), suite="s"))
    assert table is not None
    for name, text in MEANING.items():
        assert f"*{name}* {text}." in table.caption
    few = contribution_table(build(synthetic.results({"dcss": [92.0], "dcss blind": [91.0]}), suite="s"))
    assert few is not None and "*blind*" in few.caption and "*scratch*" not in few.caption


def test_a_method_that_does_not_search_is_taken_apart_by_scratch_alone():
    records = synthetic.results({"l1": [92.0, 92.1], "l1 scratch": [91.0, 91.2], "random-widths": [90.0, 90.3]})
    assert [c.other.label for c in only_block(records).controls] == ["l1 scratch", "random-widths"]
    assert blocks(build(synthetic.results({"l1": [92.0], "random-widths": [90.0]}), suite="s")) == []


def test_a_search_without_ablations_stands_beside_random_widths():
    records = synthetic.results({"dcss": [92.0, 92.1], "random-widths": [90.0, 90.3]})
    assert [c.other.label for c in only_block(records).controls] == ["random-widths"]
    assert blocks(build(synthetic.results({"dcss": [92.0], "uniform-scratch": [90.0]}), suite="s")) == []


def test_the_method_is_that_of_the_source_where_it_has_several_recoveries():
    records = synthetic.results({"dcss": [92.0, 92.1], "dcss scratch": [91.0, 91.2]}, recovery="finetune")
    records += synthetic.results({"dcss": [93.0, 93.1]}, recovery="rewind")
    block = only_block(records)
    assert (block.own.recovery, block.controls[0].gap.values) == ("finetune", pytest.approx((1.0, 0.9)))


def test_budgets_and_seeds_are_not_mixed():
    records = synthetic.results({"dcss": [92.0, 93.0], "dcss blind": [91.0]})
    records += synthetic.results({"dcss": [82.0, 83.0], "dcss blind": [80.0, 80.0]}, budget=0.25)
    found = blocks(build(records, suite="s"))
    assert [(b.own.budget, b.controls[0].gap.values) for b in found] == [(0.5, (1.0,)), (0.25, (2.0, 3.0))]
    assert (found[0].controls[0].outcome, found[0].controls[0].over_seeds) == ("untested", None)


def test_a_control_off_its_budget_is_shown_and_not_tested():
    records = synthetic.results({"dcss": [92.0, 92.1, 92.3], "dcss blind": [91.0, 91.2, 91.1]})
    blind = records[3]
    blind.macs_pruned = blind.macs_dense
    comparison = only_block(records).controls[0]
    assert comparison.gap.n == 3 and comparison.p is None and comparison.outcome == "untested"
    table = contribution_table(build(records, suite="s"))
    assert table is not None
    assert table.sections[0].notes == ["dcss blind at 0.5 missed its budget in 1 of 3 cells."]


def test_differences_that_do_not_vary_have_no_interval():
    comparison = only_block(synthetic.results({"dcss": [92.0, 93.0], "dcss blind": [91.0, 92.0]})).controls[0]
    assert (comparison.gap.values, comparison.over_seeds, comparison.outcome) == ((1.0, 1.0), None, "untested")


def test_a_failed_control_is_counted():
    records = synthetic.results({"dcss": [92.0, 92.1], "dcss blind": [91.0, 91.2]})
    records[2:] = [synthetic.record(r.config, fail="diverged") for r in records[2:]]
    table = contribution_table(build(records, suite="s"))
    assert table is not None
    texts = [value.text for value in table.sections[0].rows[1].values]
    assert texts[1:6] == ["dcss blind", "0 (2 failed)", "–", "–", "–"]


def test_agreement_of_widths_by_hand():
    records = synthetic.results({"dcss": [92.0, 93.0, 92.5], "dcss blind": [91.0, 91.2, 91.0]})
    widths = {"dcss": [(4, 16), (6, 16), (4, 12)], "dcss blind": [(8, 16), (8, 16), (8, 16)]}
    made = build(records, suite="s")
    for record in records:
        name = "dcss blind" if record.cell["ablation"] else "dcss"
        for group, width in zip(record.groups[:2], widths[name][record.cell["seed"]], strict=True):
            group.size, group.width = 16, width
        del record.groups[2:]
    own, blind = made.entries
    # Pairs of seeds: (2/16 + 0)/2, (0 + 4/16)/2, (2/16 + 4/16)/2: 6.25 %, 12.5 %, 18.75 %.
    assert between_seeds(own) == pytest.approx(12.5)
    assert between_seeds(blind) == 0.0
    # Seed by seed: (4/16 + 0)/2, (2/16 + 0)/2, (4/16 + 4/16)/2: 12.5 %, 6.25 %, 25 %.
    assert between_entries(own, blind) == pytest.approx(14.583333)
    table = contribution_table(made)
    assert table is not None
    shown = [[value.text for value in row.values[-2:]] for row in table.sections[0].rows]
    assert shown == [["12.5", "–"], ["0.0", "14.6"]]


def test_the_csv_is_unrounded_and_names_the_control():
    table = contribution_table(build(synthetic.results(FINALS), suite="s"))
    assert table is not None
    assert [(row["ablation"], row["control"]) for row in table.raw] == [
        ("", ""), ("", "blind"), ("", "l1-channels"), ("", "scratch"), ("", "random-widths"), ("", "uniform-scratch"),
        ("scratch", ""), ("scratch", "uniform-scratch"),
    ]  # fmt: skip
    # The architecture alone, by hand: scratch minus uniform-scratch, seed by seed.
    gaps = [a - b for a, b in zip(FINALS["dcss scratch"], FINALS["uniform-scratch"], strict=True)]
    assert table.raw[-1]["difference_mean"] == pytest.approx(sum(gaps) / len(gaps))
    row = table.raw[1]
    assert (row["method"], row["difference_n"]) == ("dcss", 3)
    assert row["difference_mean"] == pytest.approx(3.4 / 3)
    assert row["p_holm"] >= row["p"]
