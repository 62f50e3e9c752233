from bench.report.matrix import build
from tests.bench.report import synthetic


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
