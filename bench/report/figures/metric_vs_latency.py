"""The metric after recovery against measured latency."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.report.entry import Entry
from bench.report.figures.axes import REFERENCE_LINE, draw_unpruned, unpruned_lines
from bench.report.figures.drawing import Drawing
from bench.report.figures.panels import SECONDARY_PAGES, PanelKey, beyond, panels, scatter, usable_groups
from bench.report.latency import Conditions
from bench.report.matrix import Matrix
from bench.report.workload import WorkloadSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def metric_vs_latency(matrix: Matrix) -> Iterator[Drawing]:
    """One panel a workload, batch size and number of threads, with intervals along both axes."""
    groups: dict[PanelKey, list[Entry]] = {}
    conditions_of: dict[PanelKey, Conditions] = {}
    for place, entries in usable_groups(matrix, lambda e: bool(e.n) and e.prunes).items():
        several = matrix.workloads[place[0]].conditions
        for conditions in several:
            timed = [e for e in entries if conditions in e.timed]
            if timed:
                key = (*place, conditions.words) if len(several) > 1 else place
                groups[key], conditions_of[key] = timed, conditions

    def draw(axis: Axes, entries: list[Entry], workload: WorkloadSummary, key: PanelKey) -> None:
        conditions = conditions_of[key]
        draw_unpruned(axis, unpruned_lines(workload))
        for latency in workload.latencies_at(conditions):
            axis.axvline(latency.median, zorder=1, **REFERENCE_LINE)
        scatter(axis, matrix, entries, workload, lambda e: e.timed[conditions].latency, x_bars=True)
        axis.set_xlim(left=max(0.0, axis.get_xlim()[0]))  # An interval of few seeds can reach below zero.
        axis.set_xlabel(f"measured latency (ms), {conditions.words}")

    for name, page, shown in panels(matrix, "metric_vs_latency", draw, groups, pages=SECONDARY_PAGES):
        yield Drawing(
            name,
            "Metric against measured latency",
            "Test metric after recovery against measured latency, a panel for each batch size and number of threads; "
            "bars are 95 % intervals over seeds. Dotted lines: the dense network. Red crosses: off budget."
            + beyond(len(groups), SECONDARY_PAGES),
            page,
            shown,
            interactive=True,
        )
