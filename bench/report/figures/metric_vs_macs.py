"""The main figure: the metric after recovery against measured MACs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.report.entry import Entry
from bench.report.figures.axes import dense_line
from bench.report.figures.drawing import Drawing
from bench.report.figures.panels import MAX_PAGES, beyond, panels, scatter
from bench.report.matrix import Matrix
from bench.report.ranking import pareto
from bench.report.workload import WorkloadSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PARETO_COLOUR = "#f0d264"


def metric_vs_macs(matrix: Matrix) -> Iterator[Drawing]:
    """One panel a workload, with the Pareto front of ranked entries."""

    def draw(axis: Axes, entries: list[Entry], workload: WorkloadSummary) -> None:
        dense_line(axis, workload)
        _pareto_line(axis, pareto(entries))
        scatter(axis, matrix, entries, workload, "macs_percent", dodge=0.55)
        axis.set_xlabel("MACs, % of dense")

    def usable(entry: Entry) -> bool:
        return bool(entry.n) and entry.prunes and entry.macs_ratio.n > 0

    for name, figure in panels(matrix, "metric_vs_macs", draw, usable, pages=MAX_PAGES):
        yield Drawing(
            name,
            "Metric against MACs",
            "Test metric after recovery against measured MACs. Bars: 95 % intervals over seeds (none for one seed; cut "
            "where they leave the panel); methods of one budget are set apart by half a percent. Dotted line and "
            "band: the dense network. Yellow: the Pareto front of ranked entries. Red crosses: off budget, not ranked."
            + beyond(matrix, MAX_PAGES),
            figure,
            interactive=True,
        )


def _pareto_line(axis: Axes, front: list[Entry]) -> None:
    if len(front) > 1:
        axis.plot(
            [e.macs_percent.mean or 0 for e in front],
            [e.final.mean or 0 for e in front],
            color=PARETO_COLOUR,
            linewidth=6,
            alpha=0.55,
            solid_capstyle="round",
            zorder=0,
        )
