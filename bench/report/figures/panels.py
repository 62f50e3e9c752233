"""Small multiples: one panel a workload, methods as marked lines, one legend below."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.report.entry import Entry
from bench.report.figures import style
from bench.report.figures.axes import fit_metric_axis, metric_label
from bench.report.figures.drawing import numbered
from bench.report.matrix import Matrix
from bench.report.workload import WorkloadSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = 9
"""Workloads to a figure: more are continued in a further one."""
MAX_PAGES = 2
"""Figures of one kind; a suite of more workloads has the rest in its tables and its page."""
SECONDARY_PAGES = 1
"""The same, for figures of less weight."""
PANEL_WIDTH = 3.4
"""In inches."""
PANEL_HEIGHT = 2.7
OFF_BUDGET_COLOUR = "#b00020"

DrawPanel = Callable[["Axes", list[Entry], WorkloadSummary], None]


def method_styles(matrix: Matrix) -> dict[str, style.MethodStyle]:
    """One style a method for all figures of the report."""
    return style.styles(matrix.methods(), matrix.controls())


def panels(
    matrix: Matrix, name: str, draw: DrawPanel, usable: Callable[[Entry], bool], *, pages: int
) -> Iterator[tuple[str, Figure]]:
    """Small multiples: one panel a workload and protocol, a shared legend below."""
    groups = {
        key: found
        for key, entries in matrix.groups().items()
        if key[0] in matrix.workloads and (found := [entry for entry in entries if usable(entry)])
    }
    keys = list(groups)
    several_protocols = len({protocol for _, protocol in keys}) > 1
    for page, start in enumerate(range(0, len(keys), PANELS)):
        if page == pages:
            return
        shown = keys[start : start + PANELS]
        columns = min(3, len(shown))
        rows = math.ceil(len(shown) / columns)
        width = max(PANEL_WIDTH * columns, 5.2)
        figure = style.new_figure(width, PANEL_HEIGHT * rows + 0.5)
        axes = figure.subplots(rows, columns, squeeze=False)
        for axis, (workload, protocol) in zip(axes.flat, shown, strict=False):
            draw(axis, groups[(workload, protocol)], matrix.workloads[workload])
            axis.set_title(style.label(workload + (f" · {protocol}" if several_protocols else ""), 38))
        for axis in list(axes.flat)[len(shown) :]:
            axis.set_axis_off()
        legend(figure, matrix, [entry for key in shown for entry in groups[key]], width)
        yield numbered(name, page), figure


def beyond(matrix: Matrix, pages: int) -> str:
    """What a caption says of workloads that a figure has no room for."""
    over = len(matrix.groups()) - PANELS * pages
    return f" {over} more workloads are in the tables and the page." if over > 0 else ""


def legend(figure: Figure, matrix: Matrix, entries: Sequence[Entry], width: float) -> None:
    """Methods below the panels, in the order of the tables; `width` of the figure in inches."""
    from matplotlib.lines import Line2D

    shown = {entry.method for entry in entries}
    styles = method_styles(matrix)
    handles: list[Any] = [
        Line2D([], [], label=style.label(method, 36), **styles[method].line())
        for method in matrix.methods()
        if method in shown
    ]
    if not handles:
        return
    longest = max(len(handle.get_label()) for handle in handles)
    together = sum(0.62 + 0.058 * len(handle.get_label()) for handle in handles)
    columns = len(handles)
    if together > width:
        lines = math.ceil(len(handles) / max(1, int(width / (0.62 + 0.058 * longest))))
        columns = math.ceil(len(handles) / lines)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=2.6, columnspacing=1.4)


def by_method(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Entries of each method, from the smallest network to the largest."""
    found: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=lambda e: (e.control, e.method, e.budget)):
        found.setdefault(entry.method, []).append(entry)
    return found


@dataclass(frozen=True)
class _Point:
    """Mean metric of an entry over what stands on the x-axis, with half widths of the 95 % intervals."""

    x: float
    y: float
    x_interval: float | None
    y_interval: float | None
    missed: bool


def scatter(
    axis: Axes,
    matrix: Matrix,
    entries: Sequence[Entry],
    workload: WorkloadSummary,
    x: str,
    *,
    x_bars: bool = False,
    dodge: float = 0.0,
) -> None:
    """Means with 95 % intervals, joined by method; an entry off its budget is a cross.

    Args:
        x: attribute of `Entry` that stands on the x-axis.
        x_bars: draw the intervals along x as well.
        dodge: how far methods are set apart along x, so that the bars of one budget can be told apart.
    """
    styles = method_styles(matrix)
    methods = by_method(entries)
    for index, (method, of_method) in enumerate(methods.items()):
        points = _points(of_method, x, shift=dodge * (index - (len(methods) - 1) / 2))
        if points:
            _draw_points(axis, points, styles[method], x_bars=x_bars)
    fit_metric_axis(axis, entries, workload)
    axis.set_ylabel(metric_label(workload))


def _points(entries: Sequence[Entry], x: str, *, shift: float) -> list[_Point]:
    found = []
    for entry in entries:
        across, final = getattr(entry, x), entry.final
        if across.mean is not None and final.mean is not None:
            missed = bool(entry.budget_misses)
            found.append(_Point(across.mean + shift, final.mean, across.interval, final.interval, missed))
    return found


def _draw_points(axis: Axes, points: Sequence[_Point], method_style: style.MethodStyle, *, x_bars: bool) -> None:
    axis.plot([p.x for p in points], [p.y for p in points], zorder=3, **method_style.line())
    barred = [(p.x, p.y, p.y_interval) for p in points if p.y_interval]
    if barred:
        low, high = [y - half for _, y, half in barred], [y + half for _, y, half in barred]
        axis.vlines([x for x, _, _ in barred], low, high, color=method_style.colour, linewidth=0.9, zorder=2)
    if x_bars:
        for p in points:
            half = p.x_interval or 0
            axis.hlines(p.y, p.x - half, p.x + half, color=method_style.colour, linewidth=0.6, zorder=2)
    missed = [p for p in points if p.missed]
    axis.plot(
        [p.x for p in missed],
        [p.y for p in missed],
        linestyle="none",
        marker="x",
        markersize=9,
        color=OFF_BUDGET_COLOUR,
        zorder=4,
    )
