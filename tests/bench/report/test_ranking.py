import pytest

from bench.report.formats.markdown import section_markdown
from bench.report.matrix import Matrix, build
from bench.report.opening import opening
from bench.report.ranking import pareto, rank_summaries
from bench.report.tables.main import main_table
from tests.bench.report import synthetic


def test_bold_only_beyond_the_interval():
    clear = synthetic.results({"gdp": [92.0, 92.2, 92.1], "l1": [90.0, 90.1, 90.2], "random": [85.0, 85.3, 85.2]})
    assert synthetic.entry_of(clear, "gdp").verdict == "best"
    assert synthetic.entry_of(clear, "l1").verdict == "worse"
    close = synthetic.results({"gdp": [92.0, 91.0, 92.5], "l1": [91.5, 92.0, 91.0], "random": [85.0, 85.3, 85.2]})
    assert [synthetic.entry_of(close, m).verdict for m in ("gdp", "l1", "random")] == ["tied", "tied", "worse"]
    assert not any(e.bold for e in build(close, suite="s").main)


def test_a_control_can_be_the_best():
    records = synthetic.results({"gdp": [85.0, 85.1, 85.3], "random": [92.0, 92.2, 92.1]})
    assert synthetic.entry_of(records, "random").bold and synthetic.entry_of(records, "random").control
    assert synthetic.entry_of(records, "gdp").rank == 2


def test_one_seed_has_no_verdict_and_no_spread():
    records = synthetic.results({"gdp": [92.0], "l1": [80.0]})
    matrix = build(records, suite="s")
    assert {e.verdict for e in matrix.main} == {"untested"}
    assert not any(e.bold for e in matrix.main)
    table = main_table(matrix)
    assert table is not None
    assert "±" not in "\n".join(section_markdown(table.sections[0], 2))


def test_lower_is_better():
    records = synthetic.results({"gdp": [0.50, 0.52, 0.49], "l1": [0.90, 0.93, 0.88]})
    for record in records:
        record.higher_is_better = False
    assert synthetic.entry_of(records, "gdp").rank == 1 and synthetic.entry_of(records, "gdp").bold


def test_pareto_front():
    records = synthetic.results({"gdp": [92.0], "l1": [91.0]}, budget=0.25)
    records += synthetic.results({"gdp": [91.5], "l1": [91.9]}, budget=0.5)
    records += synthetic.results({"l1": [93.0]}, budget=0.75)
    front = pareto(build(records, suite="s").main)
    assert [(e.method, e.budget) for e in front] == [("gdp", 0.25), ("l1", 0.75)]


def test_rank_summary_over_workloads():
    names = [synthetic.workload(f"w{i}", dataset=f"d{i}") for i in range(6)]
    matrix = build(synthetic.matrix(names, methods=("gdp", "l1", "random"), budgets=(0.25,), noise=0.01), suite="s")
    summary = rank_summaries(matrix.main)[0]
    assert [summary.mean_rank(m) for m in ("gdp", "l1", "random")] == [1.0, 2.0, 3.0]
    assert summary.test is not None and summary.test.blocks == 6
    # q(0.05; 3) = 2.343
    assert summary.test.critical_difference == pytest.approx(2.343 * (3 * 4 / 36) ** 0.5, abs=2e-3)
    few = build(synthetic.matrix(names[:3], methods=("gdp", "l1", "random"), budgets=(0.25,)), suite="s")
    assert rank_summaries(few.main)[0].test is None


def test_an_unpruned_control_is_a_reference():
    records = synthetic.results({"gdp": [92.0, 92.1, 92.3]}, budget=0.5)
    records += synthetic.results({"dense-longer": [99.0, 99.1, 99.3]}, budget=1.0)
    longer = synthetic.entry_of(records, "dense-longer")
    assert (longer.verdict, longer.rank, longer.budget_misses) == ("reference", None, 0)


def test_a_variant_of_an_unpruned_control_is_a_reference():
    """`[method.longer] base = "dense-longer"`: the adapter says what it is, not the label."""
    records = synthetic.results({"gdp": [92.0, 92.1, 92.3]}, budget=0.5)
    records += synthetic.results({"longer": [99.0, 99.1, 99.3]}, budget=1.0, base="dense-longer")
    longer = synthetic.entry_of(records, "longer")
    assert (longer.control, longer.prunes, longer.verdict, longer.rank) == (True, False, "reference", None)


def test_a_control_is_known_by_its_adapter():
    records = synthetic.results({"random-2": [85.0, 85.1]}, base="random")
    records += synthetic.results({"uniform-scratch": [92.0, 92.2]}, base="l1")
    records += synthetic.results({"of-a-package-that-is-not-installed": [91.0, 91.1]})
    assert synthetic.entry_of(records, "random-2").control
    assert not synthetic.entry_of(records, "uniform-scratch").control
    unknown = synthetic.entry_of(records, "of-a-package-that-is-not-installed")
    assert (unknown.control, unknown.prunes) == (False, True)


def test_an_entry_off_its_budget_is_shown_and_not_ranked():
    records = synthetic.results({"gdp": [95.0, 95.1, 95.3], "l1": [90.0, 90.4, 90.1]})
    missed = synthetic.record(records[0].config, miss=0.03)
    records[0] = missed
    gdp, l1 = synthetic.entry_of(records, "gdp"), synthetic.entry_of(records, "l1")
    assert (gdp.verdict, gdp.rank, gdp.budget_misses, gdp.n) == ("off budget", None, 1, 3)
    assert (l1.verdict, l1.rank) == ("only", 1)


def test_a_network_at_the_majority_class_is_flagged_and_not_ranked():
    records = synthetic.results({"gdp": [92.0, 91.0], "l1": [10.0, 90.0], "dcss": [9.5, 10.0]})  # the majority has 10
    gdp, l1, dcss = (synthetic.entry_of(records, m) for m in ("gdp", "l1", "dcss"))
    assert (gdp.verdict, gdp.rank) == ("only", 1)
    assert (l1.verdict, l1.rank, l1.ailments) == ("collapsed", None, {"majority class": 1})
    assert (dcss.verdict, dcss.rank, dcss.ailments) == ("collapsed", None, {"majority class": 2})
    matrix = build(records, suite="s")
    table = main_table(matrix)
    assert table is not None
    text = "\n".join(section_markdown(table.sections[0], 2))
    assert "| ⚠ majority class (1/2) |" in text and "| ⚠ majority class (2/2) |" in text
    fields = {row["method"]: (row["at_majority_class"], row["diverged"], row["rank"]) for row in table.raw}
    assert fields == {"gdp": (0, 0, 1), "l1": (1, 0, None), "dcss": (2, 0, None)}
    assert "l1 has networks that learned nothing: majority class (1/2)" in _opening(matrix)
    assert "dense network of seed" not in text
    idle = synthetic.results({"gdp": [92.0, 91.0]}, dense=9.0)
    table = main_table(build(idle, suite="s"))
    assert table is not None
    assert "the dense network of seeds 0, 1 is no better than the majority class" in table.sections[0].notes[0]


def test_a_network_whose_training_diverged_is_flagged_and_not_ranked():
    records = synthetic.results({"gdp": [92.0, 91.0], "l1": [91.0, 90.0], "dcss": [91.0, 90.0], "tas": [91.0, 90.0]})
    by_cell = {(r.cell["method"], r.cell["seed"]): r for r in records}
    for method, factor in (("l1", 2.01), ("tas", 1.99)):
        rows = by_cell[method, 0].trajectory
        assert rows[0]["phase"] == "dense" and rows[-1]["phase"] == "recovery"
        rows[-1]["loss"] = factor * rows[0]["loss"]
    other = by_cell["dcss", 1]
    records[records.index(other)] = synthetic.record(other.config, fail="the loss became nan in epoch 3 of recovery")
    found = {m: synthetic.entry_of(records, m) for m in ("gdp", "l1", "dcss", "tas")}
    assert {m: (e.verdict == "collapsed", dict(e.ailments)) for m, e in found.items()} == {
        "gdp": (False, {}),
        "l1": (True, {"diverged": 1}),
        "dcss": (True, {"diverged": 1}),
        "tas": (False, {}),
    }
    # A cell that never trained, since its dense network failed, says nothing of its method.
    records[-1] = synthetic.record(records[-1].config, fail="the dense network of w failed: the loss became nan")
    assert not synthetic.entry_of(records, "tas").ailments


def test_a_teachers_loss_is_not_compared_with_the_dense_networks():
    records = synthetic.results({"gdp": [92.0, 91.0]}, recovery="distil")
    for record in records:
        record.trajectory[-1]["loss"] = 1000.0
    assert not synthetic.entry_of(records, "gdp").ailments


def _opening(matrix: Matrix) -> str:
    return " ".join(point for paragraph in opening(matrix) for point in paragraph.points)
