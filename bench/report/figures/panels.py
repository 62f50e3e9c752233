"""Small multiples: one panel a workload, methods as marked lines, one legend below."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.report.entry import Entry
from bench.report.figures import style
from bench.report.figures.axes import UnprunedLine, metric_label, metric_limits, unpruned_handles, unpruned_lines
from bench.report.figures.drawing import numbered
from bench.report.matrix import Matrix
from bench.report.statistics import Sample
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
LEGEND_ROW = 0.19
SINGLE_PANEL = (6.9, 3.3)
"""A figure of one panel, with its legend beside it."""
FEWEST_FOR_A_BAND = 3
"""Seeds. An interval of two is nine standard deviations wide: bands of several methods would cover the panel."""
OFF_BUDGET_COLOUR = "#b00020"

PanelKey = tuple[str, ...]
"""The workload and the protocol of a panel, and what else tells it from others, which its title then has."""
DrawPanel = Callable[["Axes", list[Entry], WorkloadSummary, PanelKey], None]


def method_styles(matrix: Matrix) -> dict[str, style.MethodStyle]:
    """One style a method for all figures of the report."""
    return style.styles(matrix.methods(), matrix.controls())


def several_protocols(matrix: Matrix) -> bool:
    """Whether a panel's title must name its protocol."""
    return len({protocol for _, protocol in matrix.groups()}) > 1


def usable_groups(matrix: Matrix, usable: Callable[[Entry], bool]) -> dict[tuple[str, str], list[Entry]]:
    """The entries of each workload and protocol that a figure can show, without those that have none."""
    return {
        key: found
        for key, entries in matrix.groups().items()
        if key[0] in matrix.workloads and (found := [entry for entry in entries if usable(entry)])
    }


def panels(
    matrix: Matrix,
    name: str,
    draw: DrawPanel,
    groups: Mapping[Any, list[Entry]],
    *,
    pages: int,
    unpruned_as_lines: bool = False,
) -> Iterator[tuple[str, Callable[[], Figure], list[Entry]]]:
    """Small multiples: one panel a workload and protocol, a shared legend below.

    A figure's name, how it is drawn, and the entries that it shows.

    Args:
        groups: the entries of each panel, by its `PanelKey`.
        unpruned_as_lines: whether `draw` shows networks that are not pruned as lines; the legend then does so too.
    """
    keys = list(groups)
    for page, start in enumerate(range(0, len(keys), PANELS)):
        if page == pages:
            return
        shown = {key: groups[key] for key in keys[start : start + PANELS]}
        whole = partial(_page, matrix, draw, shown, unpruned_as_lines=unpruned_as_lines)
        yield numbered(name, page), whole, [entry for entries in shown.values() for entry in entries]


def _page(matrix: Matrix, draw: DrawPanel, shown: Mapping[PanelKey, list[Entry]], *, unpruned_as_lines: bool) -> Figure:
    columns = min(3, len(shown))
    rows = math.ceil(len(shown) / columns)
    width = PANEL_WIDTH * columns
    figure = style.new_figure(*(SINGLE_PANEL if len(shown) == 1 else (width, PANEL_HEIGHT * rows)))
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, (key, of_panel) in zip(axes.flat, shown.items(), strict=False):
        workload, protocol, *further = key
        draw(axis, of_panel, matrix.workloads[workload], key)
        named = [workload, *[protocol] * several_protocols(matrix), *further]
        axis.set_title(style.label(" · ".join(named), 38))
    for axis in list(axes.flat)[len(shown) :]:
        axis.set_axis_off()
    entries = [entry for of_panel in shown.values() for entry in of_panel]
    lines: list[UnprunedLine] = []
    if unpruned_as_lines:
        lines = [line for key, of_panel in shown.items() for line in unpruned_lines(matrix.workloads[key[0]], of_panel)]
        entries = [entry for entry in entries if entry.prunes]
    if len(shown) == 1:
        legend(figure, matrix, entries, None, lines)
    else:
        rows_of_legend = legend(figure, matrix, entries, width, lines)
        figure.set_figheight(PANEL_HEIGHT * rows + LEGEND_ROW * rows_of_legend + 0.1)
    return figure


def beyond(workloads: int, pages: int) -> str:
    """What a caption says of workloads that a figure has no room for."""
    over = workloads - PANELS * pages
    return f" {over} more workloads are in the tables and the page." if over > 0 else ""


def legend(
    figure: Figure, matrix: Matrix, entries: Sequence[Entry], width: float | None, lines: Sequence[UnprunedLine] = ()
) -> int:
    """Methods, in the order of the tables, then lines: below the panels, or beside them.

    Args:
        width: of the figure, in inches; None puts the legend beside the panels.

    Returns:
        Its rows.
    """
    from matplotlib.lines import Line2D

    shown = {entry.method for entry in entries}
    styles = method_styles(matrix)
    handles: list[Any] = [
        Line2D([], [], label=style.label(method, 36), **styles[method].line())
        for method in matrix.methods()
        if method in shown
    ]
    handles += unpruned_handles(lines)
    if not handles:
        return 0
    if width is None:
        figure.legend(handles=handles, loc="outside right center", handlelength=2.6)
        return len(handles)
    longest = max(len(handle.get_label()) for handle in handles)
    together = sum(0.62 + 0.058 * len(handle.get_label()) for handle in handles)
    rows, columns = 1, len(handles)
    if together > width:
        rows = math.ceil(len(handles) / max(1, int(width / (0.62 + 0.058 * longest))))
        columns = math.ceil(len(handles) / rows)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=2.6, columnspacing=1.4)
    return rows


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
    seeds: int
    missed: bool


def scatter(
    axis: Axes,
    matrix: Matrix,
    entries: Sequence[Entry],
    workload: WorkloadSummary,
    x: Callable[[Entry], Sample],
    *,
    x_bars: bool = False,
    bands: bool = False,
    lines: Sequence[UnprunedLine] = (),
) -> None:
    """Means with 95 % intervals, joined by method; an entry off its budget is a cross.

    Args:
        x: what of an entry stands on the x-axis.
        x_bars: draw the intervals along x as well.
        bands: draw the intervals of a method as a band along its line, not as bars.
        lines: networks that are not pruned and must be inside the panel; the dense one by default.
    """
    styles = method_styles(matrix)
    whole = [line.sample for line in lines or unpruned_lines(workload)]
    axis.set_ylim(*metric_limits([entry.final for entry in entries], whole, workload.unit))
    for method, of_method in by_method(entries).items():
        points = _points(of_method, x)
        if points:
            _draw_points(axis, points, styles[method], x_bars=x_bars, bands=bands)
    axis.set_ylabel(metric_label(workload))


def _points(entries: Sequence[Entry], x: Callable[[Entry], Sample]) -> list[_Point]:
    found = []
    for entry in entries:
        across, final = x(entry), entry.final
        if across.mean is not None and final.mean is not None:
            missed = bool(entry.budget_misses)
            found.append(_Point(across.mean, final.mean, across.interval, final.interval, final.n, missed))
    return found


def _draw_points(
    axis: Axes, points: Sequence[_Point], method_style: style.MethodStyle, *, x_bars: bool, bands: bool
) -> None:
    axis.plot([p.x for p in points], [p.y for p in points], zorder=3, **method_style.line())
    barred = [(p.x, p.y, p.y_interval) for p in points if p.y_interval]
    if bands and len(barred) > 1 and all(p.seeds >= FEWEST_FOR_A_BAND for p in points):
        low, high = [y - half for _, y, half in barred], [y + half for _, y, half in barred]
        axis.fill_between([x for x, _, _ in barred], low, high, color=method_style.colour, alpha=0.13, lw=0, zorder=2)
    elif barred:
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
