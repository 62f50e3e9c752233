"""The metric after recovery against all training behind the network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.report.entry import Entry
from bench.report.figures.axes import draw_unpruned, unpruned_lines
from bench.report.figures.drawing import Drawing
from bench.report.figures.panels import SECONDARY_PAGES, PanelKey, beyond, panels, scatter, usable_groups
from bench.report.matrix import Matrix
from bench.report.workload import WorkloadSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def cost_vs_quality(matrix: Matrix) -> Iterator[Drawing]:
    """One panel a workload; logarithmic where costs differ much."""

    def draw(axis: Axes, entries: list[Entry], workload: WorkloadSummary, key: PanelKey) -> None:
        draw_unpruned(axis, unpruned_lines(workload))
        scatter(axis, matrix, entries, workload, lambda e: e.total_seconds)
        seconds = [e.total_seconds.mean for e in entries if e.total_seconds.mean]
        if seconds and max(seconds) > 8 * min(seconds):
            axis.set_xscale("log")
        axis.set_xlabel("dense + search + recovery (device-seconds)")

    def usable(entry: Entry) -> bool:
        return bool(entry.n and entry.total_seconds.n)

    groups = usable_groups(matrix, usable)
    for name, page, shown in panels(matrix, "cost_vs_quality", draw, groups, pages=SECONDARY_PAGES):
        yield Drawing(
            name,
            "Cost against quality",
            "Test metric after recovery against all device-seconds behind the network, the shared dense training "
            "included; bars are 95 % intervals over seeds. Points of a method are its budgets."
            + beyond(len(groups), SECONDARY_PAGES),
            page,
            shown,
            interactive=True,
        )
