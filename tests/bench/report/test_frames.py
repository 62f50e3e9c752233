import pytest

from bench.interface.record import Record
from bench.report import frames, tables
from bench.report.frames import Entry, build
from tests.bench.report import synthetic


def results(finals: dict[str, list[float]], *, dense: float = 92.0, budget: float = 0.5, **changes) -> list[Record]:
    """Records whose final metric is given, by method and seed."""
    w = synthetic.workload()
    records = []
    for method, values in finals.items():
        for seed, value in enumerate(values):
            record = synthetic.record(synthetic.cell(w, method, budget, seed, **changes))
            record.final_metrics["accuracy"] = value
            record.dense_metrics["accuracy"] = dense
            records.append(record)
    return records


def entry(records: list[Record], method: str) -> Entry:
    return next(e for e in build(records, suite="s").main if e.method == method)


def test_bold_only_beyond_the_interval():
    clear = results({"gdp": [92.0, 92.2, 92.1], "l1": [90.0, 90.1, 90.2], "random": [85.0, 85.3, 85.2]})
    assert entry(clear, "gdp").verdict == "best"
    assert entry(clear, "l1").verdict == "worse"
    close = results({"gdp": [92.0, 91.0, 92.5], "l1": [91.5, 92.0, 91.0], "random": [85.0, 85.3, 85.2]})
    assert [entry(close, m).verdict for m in ("gdp", "l1", "random")] == ["tied", "tied", "worse"]
    assert not any(e.bold for e in build(close, suite="s").main)


def test_a_control_can_be_the_best():
    records = results({"gdp": [85.0, 85.1, 85.3], "random": [92.0, 92.2, 92.1]})
    assert entry(records, "random").bold and entry(records, "random").control
    assert entry(records, "gdp").rank == 2


def test_one_seed_has_no_verdict_and_no_spread():
    records = results({"gdp": [92.0], "l1": [80.0]})
    matrix = build(records, suite="s")
    assert {e.verdict for e in matrix.main} == {"untested"}
    assert not any(e.bold for e in matrix.main)
    table = tables.main_table(matrix)
    assert table is not None
    assert "±" not in "\n".join(tables.section_markdown(table.sections[0], 2)).replace(table.caption, "")


def test_lower_is_better():
    records = results({"gdp": [0.50, 0.52, 0.49], "l1": [0.90, 0.93, 0.88]})
    for record in records:
        record.higher_is_better = False
    assert entry(records, "gdp").rank == 1 and entry(records, "gdp").bold


def test_an_entry_off_its_budget_is_shown_and_not_ranked():
    records = results({"gdp": [95.0, 95.1, 95.3], "l1": [90.0, 90.4, 90.1]})
    missed = synthetic.record(records[0].config, miss=0.03)
    records[0] = missed
    gdp, l1 = entry(records, "gdp"), entry(records, "l1")
    assert (gdp.verdict, gdp.rank, gdp.budget_misses, gdp.n) == ("off budget", None, 1, 3)
    assert (l1.verdict, l1.rank) == ("only", 1)


def test_a_budget_is_judged_by_the_macs_and_not_by_the_record():
    records = results({"gdp": [95.0, 95.1, 95.3]})
    assert records[0].audit is not None
    records[0].macs_pruned = records[0].macs_dense
    records[0].audit.within = True
    assert entry(records, "gdp").budget_misses == 1


def test_delta_is_taken_seed_by_seed():
    records = results({"gdp": [92.0, 94.0]})
    records[0].dense_metrics["accuracy"], records[1].dense_metrics["accuracy"] = 91.0, 93.5
    found = entry(records, "gdp")
    assert found.delta.values == (1.0, 0.5)
    assert found.delta.std == pytest.approx(0.5 / 2**0.5)


def test_failed_and_missing_cells_are_counted():
    records = results({"gdp": [92.0, 92.1, 92.2]})
    records[1] = synthetic.record(records[1].config, fail="diverged")
    gone = records.pop(2).config
    found = next(e for e in build(records, [gone], suite="s").main)
    assert (found.n, found.failed, found.missing, found.planned) == (1, 1, 1, 3)
    assert build(records, [records[0].config], suite="s").missing == []


def test_variants_are_told_apart_by_what_differs():
    w = synthetic.workload()
    records = [
        synthetic.record(synthetic.cell(w, "gdp", 0.5, 0, hyper={"epsilon": epsilon, "rounds": 2}))
        for epsilon in (0.1, 0.01)
    ]
    assert {e.method for e in build(records, suite="s").main} == {"gdp (epsilon=0.1)", "gdp (epsilon=0.01)"}


def test_workloads_that_share_a_name_are_told_apart():
    records = [
        synthetic.record(synthetic.cell(synthetic.workload(dataset=dataset), "l1", 0.5, 0)) for dataset in ("a", "b")
    ]
    assert set(build(records, suite="s").workloads) == {"digits-resnet8 (dataset=a)", "digits-resnet8 (dataset=b)"}


def test_protocols_are_not_mixed_in_a_table():
    records = results({"gdp": [92.0, 92.1]}) + results({"gdp": [93.0, 93.1]}, protocol="paper")
    table = tables.main_table(build(records, suite="s"))
    assert table is not None
    assert [s.title for s in table.sections] == ["digits-resnet8, protocol matched", "digits-resnet8, protocol paper"]


def test_pareto_front():
    records = results({"gdp": [92.0], "l1": [91.0]}, budget=0.25) + results({"gdp": [91.5], "l1": [91.9]}, budget=0.5)
    records += results({"l1": [93.0]}, budget=0.75)
    front = frames.pareto(build(records, suite="s").main)
    assert [(e.method, e.budget) for e in front] == [("gdp", 0.25), ("l1", 0.75)]


def test_rank_summary_over_workloads():
    names = [synthetic.workload(f"w{i}", dataset=f"d{i}") for i in range(6)]
    matrix = build(synthetic.matrix(names, methods=("gdp", "l1", "random"), budgets=(0.25,), noise=0.01), suite="s")
    summary = frames.rank_summaries(matrix)[0]
    assert [summary.mean_rank(m) for m in ("gdp", "l1", "random")] == [1.0, 2.0, 3.0]
    assert summary.test is not None and summary.test.blocks == 6
    # q(0.05; 3) = 2.343
    assert summary.test.critical_difference == pytest.approx(2.343 * (3 * 4 / 36) ** 0.5, abs=2e-3)
    few = build(synthetic.matrix(names[:3], methods=("gdp", "l1", "random"), budgets=(0.25,)), suite="s")
    assert frames.rank_summaries(few)[0].test is None


def test_an_unpruned_control_is_a_reference():
    records = results({"gdp": [92.0, 92.1, 92.3]}, budget=0.5)
    records += results({"dense-longer": [99.0, 99.1, 99.3]}, budget=1.0)
    longer = entry(records, "dense-longer")
    assert (longer.verdict, longer.rank, longer.budget_misses) == ("reference", None, 0)
