"""What each search did over its epochs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.interface.record import Record
from bench.report.entry import Entry
from bench.report.figures import style
from bench.report.figures.axes import REFERENCE_LINE, whole_numbers
from bench.report.figures.drawing import Drawing, at_smallest_budget, by_workload, numbered
from bench.report.figures.panels import legend, method_styles
from bench.report.figures.recorded import NOT_DRAWN, number
from bench.report.matrix import Matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_CURVES = 4
"""Logged numbers that are drawn, a panel each."""


def trajectories(matrix: Matrix) -> Iterator[Drawing]:
    """One figure a workload, at the smallest budget that was searched."""
    for index, (name, protocol), entries in by_workload(matrix, _searched):
        budget, shown = at_smallest_budget(entries)
        keys = _common_keys(shown)
        if keys:
            yield Drawing(
                numbered("trajectories", index),
                f"Searches: {name}, protocol {protocol}, budget {budget:g}",
                "Figures logged once an epoch of each search: mean over seeds, single seeds faint. Dotted: the share "
                "of the MACs that the searches were asked for.",
                partial(_figure, matrix, shown, keys, _target(shown, budget)),
                shown,
            )


def _target(entries: Sequence[Entry], budget: float) -> float:
    """The share of the MACs that searches at a budget were asked for; earlier releases knew budgets of MACs alone."""
    asked = (r.audit.search_macs_ratio for e in entries for r in e.records if r.audit and r.audit.search_macs_ratio)
    return next(asked, budget)


def _searched(entry: Entry) -> bool:
    return any(row.get("phase") == "search" for record in entry.records for row in record.trajectory)


def _common_keys(entries: Sequence[Entry]) -> list[str]:
    """The logged numbers that most methods have, those that a search expects of the network first."""
    methods: dict[str, set[str]] = {}
    for entry in entries:
        for record in entry.records:
            for row in record.trajectory:
                if row.get("phase") == "search":
                    for key, value in row.items():
                        if key not in NOT_DRAWN and number(value) is not None:
                            methods.setdefault(key, set()).add(entry.method)
    return sorted(methods, key=lambda key: (not key.startswith("expected"), -len(methods[key]), key))[:MAX_CURVES]


def _figure(matrix: Matrix, entries: Sequence[Entry], keys: Sequence[str], budget: float) -> Figure:
    columns = min(2, len(keys))
    rows = math.ceil(len(keys) / columns)
    width = max(3.6 * columns, 5.2)
    figure = style.new_figure(width, 2.3 * rows + 0.7)
    axes = figure.subplots(rows, columns, squeeze=False)
    styles = method_styles(matrix)
    for axis, key in zip(axes.flat, keys, strict=False):
        for entry in entries:
            _curve(axis, entry, key, styles[entry.method])
        if key == "expected_macs_ratio":
            axis.axhline(budget, **REFERENCE_LINE)
        axis.set_title(style.label(key.replace("_", " "), 34))
        axis.set_xlabel("search epoch")
        whole_numbers(axis)
    for axis in list(axes.flat)[len(keys) :]:
        axis.set_axis_off()
    legend(figure, matrix, entries, width)
    return figure


def _curve(axis: Axes, entry: Entry, key: str, method_style: style.MethodStyle) -> None:
    """The mean over seeds, and each seed faint."""
    line: dict[str, Any] = method_style.line() | {"marker": None}
    by_epoch: dict[int, list[float]] = {}
    for record in entry.records:
        points = _points(record, key)
        if points:
            faint: dict[str, Any] = line | {"linewidth": 0.6, "alpha": 0.35}
            axis.plot(*zip(*points, strict=True), **faint)
        for epoch, value in points:
            by_epoch.setdefault(epoch, []).append(value)
    if by_epoch:
        epochs = sorted(by_epoch)
        means = [math.fsum(by_epoch[e]) / len(by_epoch[e]) for e in epochs]
        marked: dict[str, Any] = line | {"marker": method_style.marker, "markevery": max(1, len(epochs) // 6)}
        axis.plot(epochs, means, **marked)


def _points(record: Record, key: str) -> list[tuple[int, float]]:
    return [
        (int(row["epoch"]), value)
        for row in record.trajectory
        if row.get("phase") == "search" and (value := number(row.get(key))) is not None
    ]
