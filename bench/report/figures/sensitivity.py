"""The metric as one layer at a time is thinned, from records that hold such a scan.

A scan is a snapshot `sensitivity` with one row a layer and kept share:
`{"group": "layer1.0.conv1", "kept": 0.5, "metric": 88.1}`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from bench.interface.record import Record
from bench.report.figures import style
from bench.report.figures.axes import heat_map, layer_ticks, map_width, metric_label
from bench.report.figures.drawing import Drawing, by_workload, numbered
from bench.report.figures.recorded import number
from bench.report.matrix import Matrix

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def sensitivity(matrix: Matrix) -> Iterator[Drawing]:
    """One figure a workload, of the first record that holds a scan."""
    for index, (name, _), entries in by_workload(
        matrix, lambda e: any(r.snapshots.get("sensitivity") for r in e.records)
    ):
        record = next(r for e in entries for r in e.records if r.snapshots.get("sensitivity"))
        scan = _scan(record)
        if scan:
            metric = metric_label(matrix.workloads[name])
            yield Drawing(
                numbered("sensitivity", index),
                f"Sensitivity of layers: {name}",
                f"Validation metric as one layer at a time is thinned to the given share, before any recovery "
                f"({style.label(matrix.labels[record.cell_id][1])}, seed {record.cell['seed']}).",
                partial(_figure, scan, metric),
                further=(scan, metric),
            )


def _scan(record: Record) -> dict[str, dict[float, float]]:
    """Layer -> kept share -> metric."""
    found: dict[str, dict[float, float]] = {}
    for row in record.snapshots["sensitivity"]:
        kept, value = number(row.get("kept")), number(row.get("metric"))
        if kept is not None and value is not None:
            found.setdefault(str(row.get("group", "")), {})[kept] = value
    return found


def _figure(scan: Mapping[str, Mapping[float, float]], metric: str) -> Figure:
    layers = list(scan)
    shares = sorted({kept for row in scan.values() for kept in row}, reverse=True)
    figure = style.new_figure(map_width(layers, margin=1.6, least=5.6), 1.5 + 0.26 * len(shares))
    axis = figure.subplots()
    drawn = heat_map(axis, [[scan[layer].get(kept, math.nan) for layer in layers] for kept in shares])
    axis.set_yticks(range(len(shares)), [f"{100 * kept:g} %" for kept in shares])
    axis.set_ylabel("kept channels")
    layer_ticks(axis, layers)
    axis.tick_params(length=0)
    bar = figure.colorbar(drawn, ax=axis, fraction=0.05, pad=0.015)
    bar.set_label(metric)
    return figure
