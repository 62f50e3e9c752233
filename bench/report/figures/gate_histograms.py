"""All gate values of a search at its start, middle and end, from snapshots `gates`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from bench.report.entry import Entry
from bench.report.figures import style
from bench.report.figures.drawing import Drawing, at_smallest_budget, by_workload, numbered
from bench.report.figures.panels import method_styles
from bench.report.figures.recorded import flat
from bench.report.matrix import Matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_METHODS = 6


def gate_histograms(matrix: Matrix) -> Iterator[Drawing]:
    """One figure a workload, at its smallest budget."""
    for index, (name, protocol), entries in by_workload(
        matrix, lambda e: any(r.snapshots.get("gates") for r in e.records)
    ):
        budget, shown = at_smallest_budget(entries)
        shown = shown[:MAX_METHODS]
        yield Drawing(
            numbered("gate_histograms", index),
            f"Gates: {name}, protocol {protocol}, budget {budget:g}",
            f"Share of all gates by value, at the start, middle and end of the search; seed "
            f"{', '.join(sorted({str(e.records[0].cell['seed']) for e in shown}))}.",
            partial(_figure, matrix, shown),
            shown,
        )


def _figure(matrix: Matrix, entries: Sequence[Entry]) -> Figure:
    figure = style.new_figure(6.6, 1.55 * len(entries) + 0.6)
    axes = figure.subplots(len(entries), 3, squeeze=False, sharex=True, sharey="row")
    styles = method_styles(matrix)
    for row, entry in zip(axes, entries, strict=True):
        snapshots = next(r for r in entry.records if r.snapshots.get("gates")).snapshots["gates"]
        for axis, moment in zip(row, (0, (len(snapshots) - 1) // 2, len(snapshots) - 1), strict=True):
            snapshot = snapshots[moment]
            _histogram(axis, flat(snapshot.get("values")), styles[entry.method].colour)
            axis.set_title(f"epoch {snapshot.get('epoch', moment)}", fontweight="normal", loc="right", fontsize=7.5)
        row[0].set_ylabel(style.label(entry.method, 22) + "\n% of gates")
    for axis in axes[-1]:
        axis.set_xlabel("gate value")
    return figure


def _histogram(axis: Axes, values: list[float], colour: str) -> None:
    weights = [100 / len(values)] * len(values) if values else None
    limits = (min([0.0, *values]), max([1.0, *values]))
    axis.hist(values, bins=40, range=limits, weights=weights, color=colour, histtype="stepfilled")
