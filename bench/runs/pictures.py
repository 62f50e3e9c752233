"""Pictures that a cell stores beside its record."""

from __future__ import annotations

from pathlib import Path

from bench.interface.record import Record


def save_widths(record: Record, path: Path) -> None:
    """Channels kept of each group, as a bar chart, in the order of the network."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [g.name for g in record.groups]
    figure = Figure(figsize=(max(5.0, 0.22 * len(names) + 1.5), 3.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.add_subplot()
    places = range(len(names))
    axis.bar(places, [g.size for g in record.groups], color="#dddddd", label="dense")
    axis.bar(places, [g.width for g in record.groups], color="#0072B2", width=0.55, label="kept")
    axis.set_xticks(list(places), names, rotation=90, fontsize=7)
    axis.set_ylabel("channels")
    axis.set_title(f"{record.config.label}: {record.macs_pruned / record.macs_dense:.3f} of the MACs", fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path)
