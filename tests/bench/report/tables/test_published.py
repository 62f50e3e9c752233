from pathlib import Path

from bench.report.matrix import build
from bench.report.tables.data import Text
from bench.report.tables.published import published_papers, published_table
from tests.bench.report import synthetic


def test_published_figures_stand_beside_ours_with_source_and_caveat(report: Path):
    text = (report / "tables" / "published.md").read_text(encoding="utf-8")
    assert "| resnet56, cifar10 | l1 B | 93.06 | +0.02 | 27.6 |" in text
    assert "arXiv 1608.08710" in text and "best test accuracy seen during retraining" in text


def test_every_published_source_has_protocol_and_caveat():
    sources = published_papers()
    assert {source["method"] for source in sources} == {"l1", "uniform-scratch", "tas", "gdp"}
    for source in sources:
        assert source["cite"] and source["protocol"] and source["caveat"] and source["results"]
        # TAS's accuracies were not read in the paper itself, and are not printed.
        assert source["method"] != "tas" or all("pruned" not in result for result in source["results"])


def test_a_variant_stands_beside_its_adapters_paper_only_for_want_of_another():
    """`[method.l1-global] base = "l1"` is l1 too, and is named where it is what a paper is compared with."""
    w = synthetic.workload("cifar10-resnet56", dataset="cifar10", model="resnet56")
    variant = [synthetic.record(synthetic.cell(w, "l1-global", 0.72, 0, base="l1", hyper={"scope": "global"}))]
    table = published_table(build(variant, suite="s"))
    assert table is not None
    assert {row["ours_method"] for row in table.raw} == {"l1-global"}
    assert Text("l1 B; ours: l1-global", link=table.sections[0].rows[0].link) in table.sections[0].rows[1].values
    both = [*variant, synthetic.record(synthetic.cell(w, "l1", 0.5, 0))]
    table = published_table(build(both, suite="s"))
    assert table is not None
    assert {row["ours_method"] for row in table.raw} == {"l1"}
