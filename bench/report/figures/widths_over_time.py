"""The share of each group that a search keeps, epoch by epoch, from snapshots `widths`: one value a group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from bench.interface.record import Record
from bench.report.figures import style
from bench.report.figures.axes import heat_map, share_bar
from bench.report.figures.drawing import Drawing, at_smallest_budget, by_workload, numbered
from bench.report.figures.recorded import flat
from bench.report.matrix import Matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_METHODS = 4


def widths_over_time(matrix: Matrix) -> Iterator[Drawing]:
    """One figure a workload, at its smallest budget."""
    for index, (name, protocol), entries in by_workload(matrix, lambda e: any(map(_recorded, e.records))):
        budget, shown = at_smallest_budget(entries)
        records = {e.method: next(filter(_recorded, e.records)) for e in shown[:MAX_METHODS]}
        yield Drawing(
            numbered("widths_over_time", index),
            f"Widths over time: {name}, protocol {protocol}, budget {budget:g}",
            "Share of each group's channels that the search keeps, or expects to keep, at the end of each epoch; seed "
            f"{', '.join(sorted({str(r.cell['seed']) for r in records.values()}))}.",
            partial(_figure, list(records), list(records.values())),
            shown[:MAX_METHODS],
        )


def _recorded(record: Record) -> bool:
    """Whether every snapshot has one value a group."""
    rows = [flat(row.get("values")) for row in record.snapshots.get("widths", [])]
    return bool(rows and record.groups) and all(len(row) == len(record.groups) for row in rows)


def _figure(methods: Sequence[str], records: Sequence[Record]) -> Figure:
    layers = [group.name for group in records[0].groups]
    figure = style.new_figure(2.1 + 1.9 * len(records), 0.19 * len(layers) + 1.0)
    axes = figure.subplots(1, len(records), squeeze=False, sharey=True)[0]
    for axis, method, record in zip(axes, methods, records, strict=True):
        _panel(axis, record)
        axis.set_title(style.label(method, 22))
    share_bar(figure, axes, "share kept", fraction=0.03, pad=0.02)
    axes[0].set_yticks(range(len(layers)), [style.label(layer, 24) for layer in layers])
    return figure


def _panel(axis: Axes, record: Record) -> None:
    snapshots = record.snapshots["widths"]
    sizes = [max(1, group.size) for group in record.groups]
    image = [[flat(row.get("values"))[i] / size for row in snapshots] for i, size in enumerate(sizes)]
    heat_map(axis, image, limits=(0, 1))
    axis.set_xticks(range(len(snapshots)), [str(row.get("epoch", i + 1)) for i, row in enumerate(snapshots)])
    axis.set_xlabel("search epoch")
