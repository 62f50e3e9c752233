"""What several figures do to their axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.report.entry import Entry
from bench.report.figures import style
from bench.report.statistics import Sample
from bench.report.workload import WorkloadSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REFERENCE_LINE: dict[str, Any] = {"color": style.INK, "linewidth": 0.9, "linestyle": (0, (2, 2))}
"""How the dense network and a budget are drawn."""
UNPRUNED_DASHES: tuple[Any, ...] = ((0, (2, 2)), (0, (7, 2)), (0, (7, 2, 2, 2)))
"""Of the dense network, and of those that are trained for longer."""
MAX_REACH = 3
"""Standard deviations of an interval that a panel makes room for."""


def metric_label(workload: WorkloadSummary) -> str:
    unit = f" ({workload.unit})" if workload.unit else ""
    return f"{workload.metric}{unit}"


@dataclass(frozen=True)
class UnprunedLine:
    """A network that is not pruned, as a line across a panel with its interval as a band."""

    name: str
    sample: Sample
    dash: Any

    @property
    def look(self) -> dict[str, Any]:
        """Keywords of the line."""
        return REFERENCE_LINE | {"linestyle": self.dash}


def unpruned_lines(workload: WorkloadSummary, entries: Sequence[Entry] = ()) -> list[UnprunedLine]:
    """The dense network, and those of `entries` that are not pruned either."""
    lines = [UnprunedLine("dense", workload.dense, UNPRUNED_DASHES[0])]
    whole = [entry for entry in entries if not entry.prunes]
    lines += [
        UnprunedLine(entry.method, entry.final, UNPRUNED_DASHES[1 + index % (len(UNPRUNED_DASHES) - 1)])
        for index, entry in enumerate(whole)
    ]
    return [line for line in lines if line.sample.mean is not None]


def draw_unpruned(axis: Axes, lines: Sequence[UnprunedLine], *, upright: bool = False) -> None:
    """Lines across a panel; `upright` where the metric stands on the x-axis."""
    draw, band = (axis.axvline, axis.axvspan) if upright else (axis.axhline, axis.axhspan)
    for line in lines:
        mean, interval = line.sample.mean, line.sample.interval
        assert mean is not None
        draw(mean, zorder=1, **line.look)
        if interval is not None:
            band(mean - interval, mean + interval, color="#000000", alpha=0.05, lw=0, zorder=0)


def label_unpruned(figure: Figure, lines: Sequence[UnprunedLine]) -> None:
    """A legend of the lines below the panels."""
    handles = unpruned_handles(lines)
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), handlelength=2.6)


def unpruned_handles(lines: Sequence[UnprunedLine]) -> list[Any]:
    """One entry of a legend for each name."""
    from matplotlib.lines import Line2D

    named = {line.name: line for line in lines}
    return [Line2D([], [], label=style.label(name, 36), **line.look) for name, line in named.items()]


def metric_limits(samples: Sequence[Sample], lines: Sequence[Sample], unit: str = "") -> tuple[float, float]:
    """Limits that hold every seed and, up to a reach, every interval; lines need their mean alone inside.

    An interval of two seeds is nine standard deviations wide to each side, far wider than all differences: its reach
    ends at three. It also ends at 0 and 100 %.
    """
    low, high = [], []
    for sample in samples:
        if sample.mean is not None:
            reach = min(sample.interval or 0.0, MAX_REACH * (sample.std or 0.0))
            low.append(min(sample.mean - reach, *sample.values))
            high.append(max(sample.mean + reach, *sample.values))
    means = [line.mean for line in lines if line.mean is not None]
    if not low and not means:
        return 0.0, 1.0
    least, most = min(low + means), max(high + means)
    if unit == "%":
        least, most = max(0.0, least), min(100.0, most)
    margin = 0.06 * (most - least) or 0.5
    return least - margin, most + margin


def whole_numbers(axis: Axes) -> None:
    """Epochs are counted in whole ones."""
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def heat_map(axis: Axes, image: Sequence[Sequence[float]], *, limits: tuple[float, float] | None = None) -> Any:
    """A map of values, one square each; returns what a colour bar is made from.

    Args:
        limits: the values at the ends of the colour scale; by default those of the image.
    """
    axis.grid(False)
    low, high = limits or (None, None)
    return axis.imshow(image, aspect="auto", cmap=style.HEAT, interpolation="nearest", vmin=low, vmax=high)


def share_bar(figure: Figure, axes: Iterable[Axes], label: str, *, fraction: float, pad: float) -> Any:
    """The colour bar of maps whose values are shares from 0 to 1."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    shares = ScalarMappable(Normalize(0, 1), style.HEAT)
    return figure.colorbar(shares, ax=list(axes), label=label, fraction=fraction, pad=pad)


def layer_ticks(axis: Axes, layers: Sequence[str]) -> None:
    """Layer names below a map of layers, thinned where there are many."""
    step = max(1, math.ceil(len(layers) / 60))
    axis.set_xticks(
        range(0, len(layers), step), [style.label(n, 26) for n in layers[::step]], rotation=90, fontsize=6.5
    )


def map_width(layers: Sequence[str], *, margin: float, least: float) -> float:
    """Width in inches of a map with a column a layer, `margin` of it beside the columns."""
    return min(14.0, max(least, margin + 0.24 * len(layers)))
