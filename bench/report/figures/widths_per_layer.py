"""Kept share of every channel group: rows are methods, columns are layers, one panel a budget."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from bench.report.entry import Entry
from bench.report.figures import style
from bench.report.figures.axes import heat_map, layer_ticks, map_width, share_bar
from bench.report.figures.drawing import Drawing, max_deep, numbered
from bench.report.matrix import Matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_BUDGETS = 5
MAX_NUMBERS = 300
"""Squares of a figure that have their value written in them; more would be too small to read."""


def widths_per_layer(matrix: Matrix) -> Iterator[Drawing]:
    """One figure a workload; below a method's own pruning stand its blind search and one of another workload."""
    drawn = 0
    for (name, protocol), entries in matrix.groups().items():
        here = [e for e in matrix.entries if (e.workload, e.protocol) == (name, protocol)]
        others = [e for e in here if e.ablation == "blind" or (e.searched_on and not e.ablation)]
        shown = sorted([*entries, *others], key=lambda e: (e.control, e.method, e.ablation, e.searched_on))
        usable = [e for e in shown if any(r.groups for r in e.records) and e.prunes]
        if not usable or drawn == max_deep(matrix):
            continue
        yield Drawing(
            numbered("widths_per_layer", drawn),
            f"Widths per layer: {name}, protocol {protocol}",
            "Share of each channel group's channels that is kept, mean over seeds; layers from input to output.",
            partial(_figure, usable),
            usable,
            interactive=True,
        )
        drawn += 1


def _figure(entries: Sequence[Entry]) -> Figure:
    layers = [group.name for group in next(r for e in entries for r in e.records if r.groups).groups]
    budgets = sorted({e.budget for e in entries}, reverse=True)[:MAX_BUDGETS]
    shown = [[e for e in entries if e.budget == budget] for budget in budgets]
    heights = [len(group) for group in shown]
    width = map_width(layers, margin=2.4, least=6.0)
    figure = style.new_figure(width, 0.5 + 0.24 * sum(heights) + 0.34 * len(budgets) + 1.1)
    axes = figure.subplots(len(budgets), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for axis, budget, group in zip(axes, budgets, shown, strict=True):
        _panel(axis, group, layers, written=len(layers) * sum(heights) <= MAX_NUMBERS)
        axis.set_title(f"budget {budget:g}")
    layer_ticks(axes[-1], layers)
    bar = share_bar(figure, axes, "kept share of channels", fraction=0.025, pad=0.015)
    bar.outline.set_visible(False)
    return figure


def _panel(axis: Axes, entries: Sequence[Entry], layers: Sequence[str], *, written: bool) -> None:
    """One budget; `written` puts every share into its square."""
    image = [kept_shares(entry, layers) for entry in entries]
    if written:
        for row, shares in enumerate(image):
            for column, share in enumerate(shares):
                colour = "white" if share < 0.6 else "black"
                if not math.isnan(share):
                    axis.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=6, color=colour)
    heat_map(axis, image, limits=(0, 1))
    labels = [f"{e.label}, from {e.searched_on}" if e.searched_on else e.label for e in entries]
    axis.set_yticks(range(len(entries)), [style.label(label, 28) for label in labels])
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_xticks([i - 0.5 for i in range(1, len(layers))], minor=True)
    axis.set_yticks([i - 0.5 for i in range(1, len(entries))], minor=True)
    axis.grid(True, which="minor", color="white", linewidth=0.8)
    axis.tick_params(which="minor", length=0)


def kept_shares(entry: Entry, layers: Sequence[str]) -> list[float]:
    """Kept share of each layer, mean over seeds; NaN for a layer that no record has."""
    total = dict.fromkeys(layers, 0.0)
    count = dict.fromkeys(layers, 0)
    for record in entry.records:
        for group in record.groups:
            if group.name in total and group.size:
                total[group.name] += group.width / group.size
                count[group.name] += 1
    return [total[name] / count[name] if count[name] else math.nan for name in layers]
