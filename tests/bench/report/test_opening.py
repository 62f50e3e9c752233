"""What the sentences say of matrices made by hand."""

from pathlib import Path

import pytest

from bench.interface.record import Record
from bench.report import write_report
from bench.report.matrix import build
from bench.report.opening import MAX_CONTESTS, opening
from tests.bench.report import synthetic


def points(records: list[Record]) -> list[str]:
    """The sentences of the only workload, without those on the dense network and on what can be told."""
    (paragraph,) = opening(build(records, suite="s"))
    assert paragraph.title == "digits-resnet8, protocol matched"
    assert paragraph.points[0].startswith("The dense network has 92.00 %")
    return paragraph.points[1:-1]


def last(records: list[Record]) -> str:
    return opening(build(records, suite="s"))[0].points[-1]


def test_a_winner_and_by_how_much():
    # gdp − l1: 2.0, 2.1, 1.9: mean 2, standard deviation 0.1, half width 4.3027 · 0.1 / √3 = 0.25.
    finals = {"gdp": [92.0, 92.2, 92.1], "l1": [90.0, 90.1, 90.2], "random": [85.0, 85.3, 85.2]}
    assert points(synthetic.results(finals)) == [
        "At 0.5 of the MACs: gdp (92.10 %) beats each of its 2 rivals; the next, l1, by 2.00 points (95 % interval "
        "+1.75 to +2.25, 3 seeds). gdp and l1 beat the control, random (85.17 %)."
    ]
    finals.pop("random")
    assert points(synthetic.results(finals)) == [
        "At 0.5 of the MACs: gdp (92.10 %) beats its only rival, l1, by 2.00 points (95 % interval +1.75 to +2.25, "
        "3 seeds)."
    ]


def test_a_tie():
    finals = {"gdp": [92.0, 91.0, 92.5], "l1": [91.5, 92.0, 91.0], "random": [85.0, 85.3, 85.2]}
    assert points(synthetic.results(finals)) == [
        "At 0.5 of the MACs: no winner: gdp (91.83 %) has the best mean, and l1 ties with it; random is worse. "
        "gdp and l1 beat the control, random (85.17 %)."
    ]


def test_all_are_tied():
    finals = {"gdp": [92.0, 91.0, 92.5], "l1": [91.5, 92.0, 91.0], "random": [91.0, 92.9, 91.1]}
    assert points(synthetic.results(finals)) == [
        "At 0.5 of the MACs: no winner: all 3 are tied, gdp (91.83 %) with the best mean. No method beats the control, "
        "random (91.67 %); gdp and l1 cannot be told from it."
    ]


def test_one_seed_tells_nothing():
    found = points(synthetic.results({"gdp": [92.0], "l1": [90.0], "random": [85.0]}))
    assert found == [
        "At 0.5 of the MACs: it cannot be told what is best: gdp (92.00 %) has the best mean; it cannot be tested "
        "against l1 and random (fewer than two common seeds). No method beats the control, random (85.00 %); gdp and "
        "l1 cannot be tested against it."
    ]
    assert last(synthetic.results({"gdp": [92.0], "l1": [90.0]})) == (
        "No two entries of a budget have two common seeds: no difference can be tested."
    )


def test_differences_without_a_spread():
    (found,) = points(synthetic.results({"gdp": [92.0, 93.0], "l1": [91.0, 92.0]}))
    assert "against l1 (all seeds differ by the same amount, which leaves no spread to test against)" in found


def test_a_control_that_beats_the_methods():
    finals = {
        "gdp": [90.0, 90.2, 90.1],
        "l1": [85.1, 85.0, 85.2],
        "uniform-scratch": [92.0, 92.3, 92.2],
        "random": [80.0, 80.2, 80.3],
    }
    (found,) = points(synthetic.results(finals))
    assert found.endswith("No method beats the best control, uniform-scratch (92.17 %); gdp and l1 are worse than it.")


def test_what_missed_its_budget_failed_or_is_missing():
    finals = {"gdp": [92.0, 92.2, 92.1], "l1": [90.0, 90.1, 90.2], "tas": [91.0, 91.1, 91.3]}
    records = synthetic.results(finals)
    records[0].macs_pruned = records[0].macs_dense
    records[3] = synthetic.record(records[3].config, fail="diverged")
    gone = records.pop().config
    (paragraph,) = opening(build(records, [gone], suite="s"))
    assert paragraph.points[1] == (
        "At 0.5 of the MACs: it cannot be told what is best: tas (91.05 %) has the best mean; it cannot be tested "
        "against l1 (fewer than two common seeds). gdp missed its budget in 1 of 3 cells, 1 of 3 cells of l1 failed "
        "and 1 of 3 cells of tas is missing."
    )


def test_what_the_search_contributed():
    finals = {
        "dcss": [92.0, 93.0, 92.6],
        "dcss blind": [91.0, 92.1, 91.7],  # 1.0, 0.9, 0.9
        "dcss scratch": [93.0, 94.1, 93.7],  # −1.0, −1.1, −1.1
        "gdp": [92.1, 92.2, 92.9],
        "gdp blind": [92.0, 92.6, 92.5],
        "gdp scratch": [92.6, 91.9, 92.8],
        "tas": [90.0, 91.0, 89.0],
        "tas blind": [91.0],
        "dais": [90.0, 91.0, 89.0],
        "dais blind": [88.0, 88.9, 87.1],  # 2.0, 2.1, 1.9
    }
    (found,) = points(synthetic.results(finals))
    assert found.partition("Taken apart: ")[2] == (
        "without the task in the search (blind), dais and dcss are worse by 2.00 and 0.93 points, no difference is "
        "shown for gdp, and tas cannot be tested; from fresh weights (scratch), dcss is better by 1.07 points, and no "
        "difference is shown for gdp."
    )


def test_the_architecture_alone():
    finals = {
        "dcss": [90.0, 91.0, 90.5],
        "dcss scratch": [93.0, 94.1, 93.7],  # 2.0, 2.1, 2.2 above uniform-scratch
        "gdp": [92.1, 92.2, 92.9],
        "gdp scratch": [91.6, 91.9, 91.3],  # 0.6, −0.1, −0.2
        "uniform-scratch": [91.0, 92.0, 91.5],
    }
    (found,) = points(synthetic.results(finals))
    assert found.endswith(
        "The architecture alone, trained from scratch: dcss is better than uniform-scratch by 2.10 points; no "
        "difference from uniform-scratch is shown for gdp."
    )


def test_lower_is_better():
    records = synthetic.results({"dcss": [0.50, 0.52, 0.49], "dcss blind": [0.90, 0.93, 0.88], "l1": [0.7, 0.73, 0.68]})
    for record in records:
        record.higher_is_better, record.metric_unit, record.dense_metrics = False, "", {"accuracy": 0.4}
    text = opening(build(records, suite="s"))[0].points[1]
    # dcss − l1: −0.20, −0.21, −0.19.
    assert "dcss (0.5033) beats its only rival, l1, by 0.2000 (95 % interval −0.2248 to −0.1752, 3 seeds)." in text
    assert "without the task in the search (blind), dcss is worse by 0.4000." in text


def test_what_can_be_told_at_all():
    # gdp − l1: 1, 2, 3: standard deviation 1; three seeds show 3.26, and one point takes ten seeds.
    assert last(synthetic.results({"gdp": [93.0, 94.0, 97.0], "l1": [92.0, 92.0, 94.0]})) == (
        "The difference of two entries varies from seed to seed, with a standard deviation of 1.00 points. With 3 "
        "seeds, only a true difference of 3.26 points or more would be found with 80 % probability; a smaller one may "
        "be there and stay unseen. To find 1 point would take 10 seeds."
    )


def test_the_dense_network_stands_first():
    records = synthetic.results({"gdp": [91.0, 91.5]})
    records += synthetic.results({"dense-longer": [93.0, 93.5]}, budget=1.0)
    (paragraph,) = opening(build(records, suite="s"))
    assert paragraph.points[0] == "The dense network has 92.00 %; dense-longer, trained for all epochs, has 93.25 %."
    assert paragraph.points[1] == "At 0.5 of the MACs: gdp (91.25 %) alone is ranked."


@pytest.mark.parametrize("count", [MAX_CONTESTS, MAX_CONTESTS + 1])
def test_many_workloads_get_a_summary(count: int):
    workloads = [synthetic.workload(f"w{i}", dataset=f"d{i}") for i in range(count)]
    records = []
    for w in workloads:
        finals = {"dcss": [92.0, 92.2, 92.1], "dcss blind": [90.0, 90.1, 90.2], "random": [91.0, 92.9, 92.1]}
        records += synthetic.results(finals, workload=w)
    found = opening(build(records, suite="s"))
    if count == MAX_CONTESTS:
        assert [paragraph.title for paragraph in found] == sorted(f"w{i}, protocol matched" for i in range(count))
        return
    (summary,) = found
    assert summary.title == ""
    assert summary.points[:3] == [
        f"Of {count} comparisons (workload, protocol and budget), one entry beats every rival in none, the best are "
        f"tied in {count}, and it cannot be told in 0, for want of common seeds or of spread; in 0 fewer than two "
        "entries are ranked.",
        f"Methods against the best control of their budget: better in 0, worse in 0, not told apart in {count}, not "
        "tested in 0.",
        f"Methods against blind: better in {count}, worse in 0, not told apart in 0, not tested in 0.",
    ]
    assert summary.points[3].startswith("Only a true difference of ")
    assert summary.points[3].endswith(
        " points or more would be found with 80 % probability, depending on the workload."
    )


@pytest.mark.usefixtures("undrawn")
def test_the_readme_and_the_page_open_with_them(tmp_path: Path):
    records = synthetic.results({"gdp": [92.0, 92.2, 92.1], "l1": [90.0, 90.1, 90.2]})
    readme = write_report(records, tmp_path, suite="demo").read_text(encoding="utf-8")
    sentence = "gdp (92.10 %) beats its only rival, l1, by 2.00 points"
    assert readme.index(sentence) < readme.index("## What was run")
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.index(sentence) < page.index('<section id="filters"')


def test_names_in_sentences_are_text(hostile_report: Path):
    readme = (hostile_report / "README.md").read_text(encoding="utf-8")
    assert "## In short" in readme and synthetic.HOSTILE[0] not in readme
    page = (hostile_report / "index.html").read_text(encoding="utf-8")
    start = page.index('<section id="opening">')
    assert "<img" not in page[start : page.index("</section>", start)]


def test_nothing_is_said_of_nothing():
    assert opening(build([], suite="s")) == []
