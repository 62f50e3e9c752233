"""A dot plot for one budget, curves for several; nothing is shifted and nothing leaves its panel."""

from typing import Any

import matplotlib
import pytest
from matplotlib.collections import LineCollection, PolyCollection

from bench.interface.record import Record
from bench.report.figures.axes import metric_limits
from bench.report.figures.dots import cut
from bench.report.figures.drawing import Drawing
from bench.report.figures.metric_vs_macs import metric_vs_macs
from bench.report.figures.style import RC, render
from bench.report.matrix import build
from bench.report.statistics import Sample
from tests.bench.report import synthetic

METHODS = ("gdp", "l1", "random", "uniform-scratch", "dense-longer")


def drawn(records: list[Record]) -> list[Drawing]:
    with matplotlib.rc_context(RC):
        return list(metric_vs_macs(build(records, suite="s")))


def matrix(budgets: tuple[float, ...], seeds: int, **options: Any) -> list[Record]:
    return synthetic.matrix(methods=METHODS, budgets=budgets, seeds=range(seeds), trajectory=False, **options)


def data(values: Any) -> list[float]:
    return [float(value) for value in values]


def segments(axis: Any) -> list[Any]:
    return [s for c in axis.collections if isinstance(c, LineCollection) for s in c.get_segments()]


def legend_texts(drawing: Drawing) -> list[str]:
    return [text.get_text() for legend in drawing.figure.legends for text in legend.get_texts()]


def test_one_budget_is_a_dot_plot():
    (drawing,) = drawn(matrix((0.5,), 3))
    assert drawing.name == "metric_vs_macs" and "small dots: single seeds" in drawing.caption
    (axis,) = drawing.figure.axes
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert set(names) == set(METHODS) - {"dense-longer"} and set(names[:2]) == {"gdp", "l1"}
    assert [label.get_fontstyle() for label in axis.get_yticklabels()] == ["normal"] * 2 + ["italic"] * 2
    places = axis.get_yticks()
    assert places[1] - places[0] == 1 and places[2] - places[1] > 1
    assert legend_texts(drawing) == ["dense", "dense-longer"]
    # In each row: the mean and all seeds, at one height.
    entries = {e.method: e for e in build(matrix((0.5,), 3), suite="s").main}
    for name, place in zip(names, places, strict=True):
        points = [line for line in axis.lines if data(line.get_ydata()) in ([place], [place] * 3)]
        assert [data(line.get_xdata()) for line in points] == [
            [entries[name].final.mean],
            list(entries[name].final.values),
        ]


def test_the_best_mean_stands_first_also_where_less_is_better():
    records = matrix((0.5,), 2)
    for record in records:
        record.higher_is_better = False
    entries = {e.method: e.final.mean or 0.0 for e in build(records, suite="s").main}
    (axis,) = drawn(records)[0].figure.axes
    means = [entries[label.get_text()] for label in axis.get_yticklabels()]
    assert means[:2] == sorted(means[:2]) and means[2:] == sorted(means[2:])


@pytest.mark.parametrize("seeds", [1, 2, 5])
@pytest.mark.parametrize("budgets", [(0.5,), (0.75, 0.5, 0.25)])
def test_intervals_stay_inside_the_panel(budgets: tuple[float, ...], seeds: int):
    (drawing,) = drawn(matrix(budgets, seeds, noise=1.0))
    render(drawing.figure, ("png",))
    (axis,) = drawing.figure.axes
    if len(budgets) == 1:
        low, high = axis.get_xlim()
        assert all(low <= x <= high for segment in segments(axis) for x, _ in segment)
        assert len(segments(axis)) == (4 if seeds > 1 else 0)
    assert all(item.get_clip_on() for item in (*axis.lines, *axis.collections))


def test_an_interval_makes_room_for_no_more_than_a_percentage_can_be():
    samples = [Sample((90.0, 99.0))]
    assert metric_limits(samples, [])[1] > 110
    assert metric_limits(samples, [], "%")[1] == pytest.approx(100 + 0.06 * (100 - (94.5 - 3 * 9 / 2**0.5)))


def test_an_interval_is_cut_at_the_panel():
    sample = Sample((90.0, 92.0))  # 91 ± 12.7
    assert cut(sample, (89.0, 95.0)) == (89.0, 95.0)
    assert cut(Sample((90.0,)), (89.0, 95.0)) is None
    inside = cut(Sample((90.0, 91.0, 92.0)), (80.0, 95.0))
    assert inside == pytest.approx((91 - 4.3027 / 3**0.5, 91 + 4.3027 / 3**0.5), abs=1e-3)


@pytest.mark.parametrize("seeds", [2, 5])
def test_several_budgets_are_curves_at_the_measured_macs(seeds: int):
    records = matrix((0.75, 0.5, 0.25), seeds)
    (drawing,) = drawn(records)
    (axis,) = drawing.figure.axes
    lines = [data(line.get_xdata()) for line in axis.lines]
    bands = [c for c in axis.collections if isinstance(c, PolyCollection)]
    for entry in {e.method: e for e in build(records, suite="s").main if e.prunes}.values():
        of_method = sorted(
            (e for e in build(records, suite="s").main if e.method == entry.method), key=lambda e: e.budget
        )
        assert [e.macs_percent.mean for e in of_method] in lines
    assert len(bands) == (4 if seeds > 2 else 0)
    assert legend_texts(drawing)[-2:] == ["dense", "dense-longer"]


def test_an_entry_off_its_budget_is_crossed():
    records = matrix((0.5,), 2)
    records[0] = synthetic.record(records[0].config, miss=0.03)
    crosses = [line for line in drawn(records)[0].figure.axes[0].lines if line.get_marker() == "x"]
    assert len(crosses) == 1


def test_workloads_of_one_budget_and_of_several_each_have_their_figure():
    one, several = synthetic.workload("one", dataset="a"), synthetic.workload("several", dataset="b")
    records = synthetic.matrix([one], methods=METHODS, budgets=(0.5,), trajectory=False)
    records += synthetic.matrix([several], methods=METHODS, budgets=(0.5, 0.25), trajectory=False)
    found = drawn(records)
    assert [d.name for d in found] == ["metric_vs_macs", "metric_vs_macs_2"]
    titles = [axis.get_title(loc="left") for d in found for axis in d.figure.axes]
    assert titles == ["several", "one, 0.5 of the MACs"]
