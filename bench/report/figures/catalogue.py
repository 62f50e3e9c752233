"""All figures, in the order in which a report lists them. A new one is a file beside this and a line in the list."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from bench.report.figures.cost_vs_quality import cost_vs_quality
from bench.report.figures.critical_difference import critical_difference
from bench.report.figures.drawing import Drawing
from bench.report.figures.gate_histograms import gate_histograms
from bench.report.figures.metric_vs_latency import metric_vs_latency
from bench.report.figures.metric_vs_macs import metric_vs_macs
from bench.report.figures.samples import LoadPicture, samples
from bench.report.figures.sensitivity import sensitivity
from bench.report.figures.trajectories import trajectories
from bench.report.figures.widths_over_time import widths_over_time
from bench.report.figures.widths_per_layer import widths_per_layer
from bench.report.matrix import Matrix

FIGURES: tuple[Callable[[Matrix], Iterator[Drawing]], ...] = (
    metric_vs_macs,
    metric_vs_latency,
    cost_vs_quality,
    critical_difference,
    widths_per_layer,
    trajectories,
    gate_histograms,
    widths_over_time,
    sensitivity,
)


def all_figures(matrix: Matrix, load: LoadPicture | None = None) -> Iterator[Drawing]:
    """Every figure that has something to show; each is drawn when it is asked for.

    Args:
        load: reads the bytes of a record's picture; without it no sample pictures are drawn.
    """
    makers = [*FIGURES, *([partial(samples, load=load)] if load is not None else [])]
    for make in makers:
        yield from make(matrix)
