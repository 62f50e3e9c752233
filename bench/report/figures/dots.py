"""A panel for one budget: methods down the side, the metric across."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.report.entry import Entry
from bench.report.figures import style
from bench.report.figures.axes import (
    draw_unpruned,
    label_unpruned,
    metric_label,
    metric_limits,
    unpruned_lines,
)
from bench.report.figures.panels import OFF_BUDGET_COLOUR, PANELS, method_styles
from bench.report.matrix import Matrix
from bench.report.statistics import Sample
from bench.report.workload import WorkloadSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW_HEIGHT = 0.23
"""In inches."""
GAP = 0.55
"""Rows between methods and controls."""


def dot_panels(
    matrix: Matrix,
    groups: dict[tuple[str, str], list[Entry]],
    title: Callable[[tuple[str, str]], str],
    *,
    pages: int,
) -> Iterator[tuple[Callable[[], Figure], list[Entry]]]:
    """One panel a workload and protocol, in as many figures as there must be, up to `pages`.

    How a figure is drawn, and the entries that it shows.

    Args:
        groups: entries with a result, pruned ones of one budget and references that are not pruned.
    """
    keys = list(groups)
    for page, start in enumerate(range(0, len(keys), PANELS)):
        if page == pages:
            return
        shown = {key: groups[key] for key in keys[start : start + PANELS]}
        yield partial(_page, matrix, shown, title), [entry for entries in shown.values() for entry in entries]


def _page(matrix: Matrix, shown: dict[tuple[str, str], list[Entry]], title: Callable[[tuple[str, str]], str]) -> Figure:
    columns = min(3, len(shown))
    keys = list(shown)
    grid = [keys[i : i + columns] for i in range(0, len(keys), columns)]
    heights = [max(_height(shown[key]) for key in row) for row in grid]
    width = 5.6 if columns == 1 else 4.1 * columns
    figure = style.new_figure(width, sum(heights) + 0.35)
    axes = figure.subplots(len(grid), columns, squeeze=False, height_ratios=heights)
    for axis, (key, entries) in zip(axes.flat, shown.items(), strict=False):
        _panel(axis, matrix, entries, matrix.workloads[key[0]])
        axis.set_title(style.label(title(key), 46 if columns == 1 else 34))
    for axis in list(axes.flat)[len(shown) :]:
        axis.set_axis_off()
    lines = [line for key, entries in shown.items() for line in unpruned_lines(matrix.workloads[key[0]], entries)]
    label_unpruned(figure, lines)
    return figure


def _height(entries: Sequence[Entry]) -> float:
    return 0.85 + ROW_HEIGHT * (sum(entry.prunes for entry in entries) + GAP)


def _panel(axis: Axes, matrix: Matrix, entries: Sequence[Entry], workload: WorkloadSummary) -> None:
    lines = unpruned_lines(workload, entries)
    rows = _rows([entry for entry in entries if entry.prunes])
    low, high = metric_limits([entry.final for entry, _ in rows], [line.sample for line in lines], workload.unit)
    inset = 0.015 * (high - low)
    axis.set_xlim(low - inset, high + inset)  # room for the arrows of what is cut
    draw_unpruned(axis, lines, upright=True)
    styles = method_styles(matrix)
    for entry, place in rows:
        _row(axis, entry, place, styles[entry.method], (low, high))
    if controls := [place for entry, place in rows if entry.control]:
        axis.axhspan(min(controls) - 0.5, max(controls) + 0.5, color="#000000", alpha=0.035, lw=0, zorder=0)
    axis.set_yticks([place for _, place in rows], [style.label(entry.method, 30) for entry, _ in rows])
    for label, (entry, _) in zip(axis.get_yticklabels(), rows, strict=True):
        label.set_fontstyle("italic" if entry.control else "normal")
    axis.set_ylim(max(place for _, place in rows) + 0.6, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.grid(False, axis="y")
    axis.spines["left"].set_visible(False)
    axis.set_xlabel(metric_label(workload))


def _rows(entries: Sequence[Entry]) -> list[tuple[Entry, float]]:
    """Entries with their places from the top: methods, then controls, the best mean first."""
    sign = -1 if entries[0].higher_is_better else 1
    ordered = sorted(entries, key=lambda e: (e.control, sign * (e.final.mean or 0.0), e.method))
    methods = sum(not entry.control for entry in ordered)
    gap = GAP if 0 < methods < len(ordered) else 0.0
    return [(entry, place + gap * (place >= methods)) for place, entry in enumerate(ordered)]


def _row(axis: Axes, entry: Entry, place: float, method_style: style.MethodStyle, limits: tuple[float, float]) -> None:
    """Mean, interval cut at the panel's ends, and single seeds; an entry off its budget is crossed."""
    colour, sample = method_style.colour, entry.final
    assert sample.mean is not None
    ends = cut(sample, limits)
    if ends is not None:
        axis.hlines(place, *ends, color=colour, linewidth=1.2, zorder=2)
        for end, limit, marker in zip(ends, limits, ("<", ">"), strict=True):
            if end == limit:
                axis.plot([end], [place], marker=marker, color=colour, markersize=4, zorder=2)
    axis.plot([sample.mean], [place], zorder=3, **method_style.line() | {"linestyle": "none", "markersize": 6.5})
    if sample.n > 1:
        seeds: dict[str, Any] = {"marker": "o", "markersize": 3.4, "color": colour}
        axis.plot(
            sample.values,
            [place] * sample.n,
            linestyle="none",
            markeredgecolor="white",
            markeredgewidth=0.5,
            zorder=4,
            **seeds,
        )
    if entry.budget_misses:
        axis.plot([sample.mean], [place], marker="x", markersize=10, color=OFF_BUDGET_COLOUR, zorder=5)


def cut(sample: Sample, limits: tuple[float, float]) -> tuple[float, float] | None:
    """The ends of a sample's interval, inside the limits; None for one seed."""
    if sample.mean is None or sample.interval is None or not math.isfinite(sample.interval):
        return None
    return max(limits[0], sample.mean - sample.interval), min(limits[1], sample.mean + sample.interval)
