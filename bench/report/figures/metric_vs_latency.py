"""The metric after recovery against measured latency."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.report.entry import Entry
from bench.report.figures.axes import REFERENCE_LINE, draw_unpruned, unpruned_lines
from bench.report.figures.drawing import Drawing
from bench.report.figures.panels import SECONDARY_PAGES, beyond, panels, scatter, usable_groups
from bench.report.matrix import Matrix
from bench.report.workload import WorkloadSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def metric_vs_latency(matrix: Matrix) -> Iterator[Drawing]:
    """One panel a workload, with intervals along both axes."""

    def draw(axis: Axes, entries: list[Entry], workload: WorkloadSummary) -> None:
        draw_unpruned(axis, unpruned_lines(workload))
        for latency in workload.latencies.values():
            axis.axvline(latency.median, zorder=1, **REFERENCE_LINE)
        scatter(axis, matrix, entries, workload, "latency", x_bars=True)
        axis.set_xlim(left=max(0.0, axis.get_xlim()[0]))  # An interval of few seeds can reach below zero.
        axis.set_xlabel("measured latency (ms)")

    def usable(entry: Entry) -> bool:
        return bool(entry.n and entry.latency.n) and entry.prunes

    groups = usable_groups(matrix, usable)
    for name, figure in panels(matrix, "metric_vs_latency", draw, groups, pages=SECONDARY_PAGES):
        yield Drawing(
            name,
            "Metric against measured latency",
            "Test metric after recovery against measured latency of the example batch; bars are 95 % intervals over "
            "seeds. Dotted lines: the dense network. Red crosses: off budget." + beyond(len(groups), SECONDARY_PAGES),
            figure,
            interactive=True,
        )
