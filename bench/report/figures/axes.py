"""What several figures do to their axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from bench.report.entry import Entry
from bench.report.figures import style
from bench.report.workload import WorkloadSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REFERENCE_LINE: dict[str, Any] = {"color": style.INK, "linewidth": 0.9, "linestyle": (0, (2, 2))}
"""How the dense network and a budget are drawn."""


def metric_label(workload: WorkloadSummary) -> str:
    unit = f" ({workload.unit})" if workload.unit else ""
    return f"{workload.metric}{unit}"


def dense_line(axis: Axes, workload: WorkloadSummary) -> None:
    """The dense network: a line, and its interval as a band."""
    dense = workload.dense
    if dense.mean is None:
        return
    axis.axhline(dense.mean, zorder=1, **REFERENCE_LINE)
    if dense.interval is not None:
        axis.axhspan(dense.mean - dense.interval, dense.mean + dense.interval, color="#000000", alpha=0.06, lw=0)


def fit_metric_axis(axis: Axes, entries: Sequence[Entry], workload: WorkloadSummary) -> None:
    """Limits from means and standard deviations: a two-seed interval can be far wider than all differences."""
    low, high = [], []
    for sample in [entry.final for entry in entries] + [workload.dense]:
        if sample.mean is not None:
            reach = sample.std or 0.0
            if sample.interval is not None:
                reach = min(sample.interval, 3 * reach)
            low.append(sample.mean - reach)
            high.append(sample.mean + reach)
    if low:
        margin = 0.06 * (max(high) - min(low)) or 0.5
        axis.set_ylim(min(low) - margin, max(high) + margin)


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
