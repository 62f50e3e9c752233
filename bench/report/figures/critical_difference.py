"""Mean ranks over workloads on a line, with bars over methods that the Nemenyi test cannot tell apart."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.report.figures import style
from bench.report.figures.drawing import Drawing
from bench.report.matrix import Matrix
from bench.report.ranking import rank_summaries
from bench.report.statistics import RankTest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE: dict[str, Any] = {"color": style.INK, "linewidth": 1}


def critical_difference(matrix: Matrix) -> Iterator[Drawing]:
    """One diagram a protocol, where there are enough workloads for the test."""
    for summary in rank_summaries(matrix.main):
        test = summary.test
        if test is None:
            continue
        yield Drawing(
            "critical_difference"
            if summary.protocol == "matched"
            else f"critical_difference_{_file(summary.protocol)}",
            f"Mean ranks, protocol {summary.protocol}",
            f"Mean ranks over {test.blocks} workloads (1 is best); bars join methods that the Nemenyi test at 5 % does "
            f"not tell apart. Friedman test: p = {test.friedman_p:.2g}. Controls in italics.",
            partial(_diagram, test, summary.controls),
            further=(test, summary.controls),
        )


def _file(protocol: str) -> str:
    """A protocol's label as part of a file's name."""
    return re.sub(r"\W+", "_", protocol).strip("_")


def _diagram(test: RankTest, controls: set[str]) -> Figure:
    count, cliques = len(test.names), test.cliques()
    half = math.ceil(count / 2)
    figure = style.new_figure(6.8, 1.0 + 0.2 * half + 0.11 * len(cliques))
    axis = figure.subplots()
    axis.set_axis_off()
    depth = 0.55 * len(cliques) + 0.6  # of the bars below the line, before the names begin
    axis.set_xlim(1 - 0.32 * count, count + 0.32 * count)
    axis.set_ylim(-(depth + half), 2.6)
    _scale(axis, count, test.critical_difference)
    ranks = dict(zip(test.names, test.mean_ranks, strict=True))
    for level, clique in enumerate(cliques):
        y = -0.55 * (level + 1)
        places = [ranks[name] for name in clique]
        axis.plot(
            [min(places) - 0.05, max(places) + 0.05], [y, y], color=style.INK, linewidth=2.6, solid_capstyle="round"
        )
    _names(axis, ranks, controls, depth=depth)
    return figure


def _scale(axis: Axes, count: int, difference: float) -> None:
    """The line of ranks from 1 to `count`, and above it the critical difference as a length."""
    axis.plot([1, count], [0.0, 0.0], **LINE)
    for place in range(1, count + 1):
        axis.plot([place, place], [0.0, 0.25], **LINE)
        axis.text(place, 0.4, str(place), ha="center", va="bottom", fontsize=7.5)
    axis.plot([1, 1 + difference], [2.0, 2.0], color=style.INK, linewidth=1.6, marker="|", markersize=5)
    axis.text(1 + difference + 0.1, 2.0, f"critical difference {difference:.2f}", va="center", fontsize=7.5)


def _names(axis: Axes, ranks: dict[str, float], controls: set[str], *, depth: float) -> None:
    """Methods with their mean ranks: the better half on the left, the others on the right."""
    count = len(ranks)
    half = math.ceil(count / 2)
    for index, name in enumerate(sorted(ranks, key=lambda name: (ranks[name], name))):
        rank, shown = ranks[name], style.label(name, 26)
        left = index < half
        y = -(depth + (index if left else count - 1 - index) + 0.5)
        edge = 1 - 0.08 * count if left else count + 0.08 * count
        axis.plot([rank, rank, edge], [0.0, y, y], color="#777777", linewidth=0.8)
        axis.text(
            edge + (-0.05 if left else 0.05),
            y,
            f"{shown}  {rank:.2f}" if left else f"{rank:.2f}  {shown}",
            ha="right" if left else "left",
            va="center",
            fontsize=8,
            style="italic" if name in controls else "normal",
        )
