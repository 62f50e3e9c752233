"""The figures of a report, drawn with matplotlib in the one style of `style.py`."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from bench.interface.record import Record
from bench.report import style
from bench.report.frames import UNPRUNED, Entry, Matrix, Workload, pareto, rank_summaries

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = 9
"""Workloads to a figure: more are continued in a further one."""
MAX_PAGES = 2
"""Figures of one kind; a suite of more workloads has the rest in its tables and its page."""
SECONDARY_PAGES = 1
"""Of the figures that the page draws as well."""
MAX_DEEP = 3
"""Workloads of which searches, gates, widths, sensitivity and samples are drawn; of a larger suite, the first alone."""
COLUMN = 3.4
"""Width of a panel, in inches."""


@dataclass(frozen=True)
class Drawing:
    """A figure, where it goes and what it says."""

    name: str
    title: str
    caption: str
    figure: Figure
    interactive: bool = False
    """Whether the page draws it itself, from its data."""


def all_figures(matrix: Matrix, load: Callable[[Record, str], bytes | None] | None = None) -> Iterator[Drawing]:
    """Every figure that has something to show. One at a time, so that a large suite stays small in memory."""
    import matplotlib

    for make in FIGURES:
        with matplotlib.rc_context(style.RC):
            yield from make(matrix)
    if load is not None:
        with matplotlib.rc_context(style.RC):
            yield from samples(matrix, load)


def metric_label(workload: Workload) -> str:
    unit = f" ({workload.unit})" if workload.unit else ""
    return f"{workload.metric}{unit}"


def panels(
    matrix: Matrix,
    name: str,
    draw: Callable[[Axes, list[Entry], Workload], bool],
    usable: Callable[[Entry], bool],
    height: float = 2.7,
    pages: int = MAX_PAGES,
) -> Iterator[tuple[str, Figure]]:
    """Small multiples: one panel a workload and protocol, a shared legend below."""
    groups = {
        key: entries
        for key, entries in matrix.groups().items()
        if key[0] in matrix.workloads and any(map(usable, entries))
    }
    keys = list(groups)
    for page, start in enumerate(range(0, len(keys), PANELS)):
        if page == pages:
            return
        shown = keys[start : start + PANELS]
        columns = min(3, len(shown))
        rows = math.ceil(len(shown) / columns)
        width = max(COLUMN * columns, 5.2)
        figure = style.new_figure(width, height * rows + 0.5)
        axes = figure.subplots(rows, columns, squeeze=False)
        used: list[Entry] = []
        for axis, key in zip(axes.flat, shown, strict=False):
            entries = [entry for entry in groups[key] if usable(entry)]
            draw(axis, entries, matrix.workloads[key[0]])
            several = len({protocol for _, protocol in keys}) > 1
            axis.set_title(style.label(key[0] + (f" · {key[1]}" if several else ""), 38))
            used += entries
        for axis in list(axes.flat)[len(shown) :]:
            axis.set_axis_off()
        legend(figure, matrix, used, width)
        yield (name if page == 0 else f"{name}_{page + 1}"), figure


def legend(figure: Figure, matrix: Matrix, entries: Sequence[Entry], width: float, extra: Sequence[Any] = ()) -> None:
    """Methods below the panels, in the order of the tables."""
    from matplotlib.lines import Line2D

    shown = {entry.method for entry in entries}
    looks = method_looks(matrix)
    handles: list[Any] = [
        Line2D([], [], label=style.label(method, 36), **looks[method].line())
        for method in matrix.methods()
        if method in shown
    ]
    handles += extra
    if not handles:
        return
    longest = max(len(handle.get_label()) for handle in handles)
    together = sum(0.62 + 0.058 * len(handle.get_label()) for handle in handles)
    columns = len(handles)
    if together > width:
        lines = math.ceil(len(handles) / max(1, int(width / (0.62 + 0.058 * longest))))
        columns = math.ceil(len(handles) / lines)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=2.6, columnspacing=1.4)


def method_looks(matrix: Matrix) -> dict[str, style.Look]:
    """One look a method for all figures of the report."""
    return style.looks(matrix.methods(), {entry.method for entry in matrix.main if entry.control})


def by_method(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Entries of each method, from the smallest network to the largest."""
    found: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=lambda e: (e.control, e.method, e.budget)):
        found.setdefault(entry.method, []).append(entry)
    return found


def dense_line(axis: Axes, workload: Workload) -> None:
    """The dense network: a line, and its interval as a band."""
    dense = workload.dense
    if dense.mean is None:
        return
    axis.axhline(dense.mean, color=style.INK, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
    if dense.interval is not None:
        axis.axhspan(dense.mean - dense.interval, dense.mean + dense.interval, color="#000000", alpha=0.06, lw=0)


def fit_metric_axis(axis: Axes, entries: Sequence[Entry], workload: Workload) -> None:
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


def scatter(
    axis: Axes,
    matrix: Matrix,
    entries: Sequence[Entry],
    workload: Workload,
    x: str,
    bars: bool = False,
    dodge: float = 0.0,
) -> None:
    """Means with 95 % intervals, joined by method; an entry off its budget is a cross.

    `dodge` sets methods apart along x, so that the bars of one budget can be told apart.
    """
    looks = method_looks(matrix)
    methods = by_method(entries)
    for index, (method, points) in enumerate(methods.items()):
        shift = dodge * (index - (len(methods) - 1) / 2)
        drawn = [p for p in points if getattr(p, x).mean is not None and p.final.mean is not None]
        if not drawn:
            continue
        xs: list[float] = [getattr(p, x).mean + shift for p in drawn]
        ys: list[float] = [p.final.mean or 0.0 for p in drawn]
        axis.plot(xs, ys, zorder=3, **looks[method].line())
        colour = looks[method].colour
        reach = [(place, y, p.final.interval) for place, y, p in zip(xs, ys, drawn, strict=True) if p.final.interval]
        if reach:
            places, middles, halves = zip(*reach, strict=True)
            low = [y - half for y, half in zip(middles, halves, strict=True)]
            high = [y + half for y, half in zip(middles, halves, strict=True)]
            axis.vlines(places, low, high, color=colour, linewidth=0.9, zorder=2)
        if bars:
            wide = [(y, place, getattr(p, x).interval) for place, y, p in zip(xs, ys, drawn, strict=True)]
            for y, place, half in wide:
                axis.hlines(y, place - (half or 0), place + (half or 0), color=colour, linewidth=0.6, zorder=2)
        missed = [p for p in drawn if p.budget_misses]
        axis.plot(
            [getattr(p, x).mean + shift for p in missed],
            [p.final.mean or 0.0 for p in missed],
            linestyle="none",
            marker="x",
            markersize=9,
            color="#b00020",
            zorder=4,
        )
    fit_metric_axis(axis, entries, workload)
    axis.set_ylabel(metric_label(workload))


def metric_vs_macs(matrix: Matrix) -> Iterator[Drawing]:
    def draw(axis: Axes, entries: list[Entry], workload: Workload) -> bool:
        dense_line(axis, workload)
        front = pareto(entries)
        if len(front) > 1:
            axis.plot(
                [e.macs_percent.mean or 0 for e in front],
                [e.final.mean or 0 for e in front],
                color="#f0d264",
                linewidth=6,
                alpha=0.55,
                solid_capstyle="round",
                zorder=0,
            )
        scatter(axis, matrix, entries, workload, "macs_percent", dodge=0.55)
        axis.set_xlabel("MACs, % of dense")
        return True

    for name, figure in panels(
        matrix, "metric_vs_macs", draw, lambda e: bool(e.n) and e.base_method not in UNPRUNED and e.macs_ratio.n > 0
    ):
        yield Drawing(
            name,
            "Metric against MACs",
            "Test metric after recovery against measured MACs. Bars: 95 % intervals over seeds (none for one seed; cut "
            "where they leave the panel); methods of one budget are set apart by half a percent. Dotted line and "
            "band: the dense network. Yellow: the Pareto front of ranked entries. Red crosses: off budget, not ranked."
            + beyond(matrix, MAX_PAGES),
            figure,
            interactive=True,
        )


def widths_per_layer(matrix: Matrix) -> Iterator[Drawing]:
    """Kept share of every channel group: rows are methods, columns are layers, one panel a budget.

    A pruning that was searched elsewhere stands below the method's own.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    pages = 0
    for (name, protocol), entries in matrix.groups().items():
        moved = [e for e in matrix.entries if e.source and (e.workload, e.protocol) == (name, protocol)]
        both = sorted([*entries, *moved], key=lambda e: (e.control, e.method, e.source))
        usable = [e for e in both if any(r.groups for r in e.records) and e.base_method not in UNPRUNED]
        if not usable or pages == deep(matrix):
            continue
        pages += 1
        layers = [group.name for group in next(r for e in usable for r in e.records if r.groups).groups]
        budgets = sorted({e.budget for e in usable}, reverse=True)[:5]
        shown = [[e for e in usable if e.budget == budget] for budget in budgets]
        heights = [len(group) for group in shown]
        width = min(14.0, max(6.0, 2.4 + 0.24 * len(layers)))
        figure = style.new_figure(width, 0.5 + 0.24 * sum(heights) + 0.34 * len(budgets) + 1.1)
        axes = figure.subplots(len(budgets), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
        for axis, budget, group in zip(axes, budgets, shown, strict=True):
            image = [_kept(entry, layers) for entry in group]
            if len(layers) * sum(heights) <= 300:
                for row, shares in enumerate(image):
                    for column, share in enumerate(shares):
                        colour = "white" if share < 0.6 else "black"
                        if not math.isnan(share):
                            axis.text(
                                column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=6, color=colour
                            )
            axis.imshow(image, aspect="auto", cmap=style.HEAT, vmin=0, vmax=1, interpolation="nearest")
            labels = [f"{e.method}, from {e.source}" if e.source else e.method for e in group]
            axis.set_yticks(range(len(group)), [style.label(label, 28) for label in labels])
            axis.set_title(f"budget {budget:g}")
            axis.grid(False)
            axis.tick_params(length=0)
            for spine in axis.spines.values():
                spine.set_visible(False)
            axis.set_xticks([i - 0.5 for i in range(1, len(layers))], minor=True)
            axis.set_yticks([i - 0.5 for i in range(1, len(group))], minor=True)
            axis.grid(True, which="minor", color="white", linewidth=0.8)
            axis.tick_params(which="minor", length=0)
        layer_ticks(axes[-1], layers)
        bar = figure.colorbar(ScalarMappable(Normalize(0, 1), style.HEAT), ax=list(axes), fraction=0.025, pad=0.015)
        bar.set_label("kept share of channels")
        bar.outline.set_visible(False)  # type: ignore[operator]
        suffix = "" if pages == 1 else f"_{pages}"
        yield Drawing(
            f"widths_per_layer{suffix}",
            f"Widths per layer: {name}, protocol {protocol}",
            "Share of each channel group's channels that is kept, mean over seeds; layers from input to output.",
            figure,
            interactive=True,
        )


def _kept(entry: Entry, layers: Sequence[str]) -> list[float]:
    total = dict.fromkeys(layers, 0.0)
    count = dict.fromkeys(layers, 0)
    for record in entry.records:
        for group in record.groups:
            if group.name in total and group.size:
                total[group.name] += group.width / group.size
                count[group.name] += 1
    return [total[name] / count[name] if count[name] else math.nan for name in layers]


def metric_vs_latency(matrix: Matrix) -> Iterator[Drawing]:
    def draw(axis: Axes, entries: list[Entry], workload: Workload) -> bool:
        dense_line(axis, workload)
        if workload.latency_dense.mean is not None:
            axis.axvline(workload.latency_dense.mean, color=style.INK, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
        scatter(axis, matrix, entries, workload, "latency", bars=True)
        axis.set_xlim(left=max(0.0, axis.get_xlim()[0]))  # An interval of few seeds can reach below zero.
        axis.set_xlabel("measured latency (ms)")
        return True

    for name, figure in panels(
        matrix,
        "metric_vs_latency",
        draw,
        lambda e: bool(e.n and e.latency.n) and e.base_method not in UNPRUNED,
        pages=SECONDARY_PAGES,
    ):
        yield Drawing(
            name,
            "Metric against measured latency",
            "Test metric after recovery against measured latency of the example batch; bars are 95 % intervals over "
            "seeds. Dotted lines: the dense network. Red crosses: off budget." + beyond(matrix, SECONDARY_PAGES),
            figure,
            interactive=True,
        )


def cost_vs_quality(matrix: Matrix) -> Iterator[Drawing]:
    def draw(axis: Axes, entries: list[Entry], workload: Workload) -> bool:
        dense_line(axis, workload)
        scatter(axis, matrix, entries, workload, "total_seconds")
        seconds = [e.total_seconds.mean for e in entries if e.total_seconds.mean]
        if seconds and max(seconds) > 8 * min(seconds):
            axis.set_xscale("log")
        axis.set_xlabel("dense + search + recovery (device-seconds)")
        return True

    for name, figure in panels(
        matrix,
        "cost_vs_quality",
        draw,
        lambda e: bool(e.n and e.total_seconds.n),
        pages=SECONDARY_PAGES,
    ):
        yield Drawing(
            name,
            "Cost against quality",
            "Test metric after recovery against all device-seconds behind the network, the shared dense training "
            "included; bars are 95 % intervals over seeds. Points of a method are its budgets."
            + beyond(matrix, SECONDARY_PAGES),
            figure,
            interactive=True,
        )


def deep(matrix: Matrix) -> int:
    """Of how many workloads the figures that look into a network are drawn."""
    return MAX_DEEP if len(matrix.groups()) <= MAX_DEEP else 1


def beyond(matrix: Matrix, pages: int) -> str:
    """What a caption says of workloads that a figure has no room for."""
    over = len(matrix.groups()) - PANELS * pages
    return f" {over} more workloads are in the tables and the page." if over > 0 else ""


def trajectories(matrix: Matrix) -> Iterator[Drawing]:
    """What each search did over its epochs, at the smallest budget that was searched."""
    for index, ((name, protocol), entries) in enumerate(_by_workload(matrix, _searched)):
        if index == deep(matrix):
            return
        budget = min(entry.budget for entry in entries)
        shown = [entry for entry in entries if entry.budget == budget]
        keys: dict[str, set[str]] = {}
        for entry in shown:
            for record in entry.records:
                for row in record.trajectory:
                    if row.get("phase") == "search":
                        for key, value in row.items():
                            if key not in ("epoch", "seconds", "lr") and number(value) is not None:
                                keys.setdefault(key, set()).add(entry.method)
        if not keys:
            continue
        common = sorted(keys, key=lambda key: (not key.startswith("expected"), -len(keys[key]), key))[:4]
        columns = min(2, len(common))
        rows = math.ceil(len(common) / columns)
        width = max(3.6 * columns, 5.2)
        figure = style.new_figure(width, 2.3 * rows + 0.7)
        axes = figure.subplots(rows, columns, squeeze=False)
        looks = method_looks(matrix)
        for axis, key in zip(axes.flat, common, strict=False):
            for entry in shown:
                line = looks[entry.method].line() | {"marker": None}
                by_epoch: dict[int, list[float]] = {}
                for record in entry.records:
                    points = [
                        (int(row["epoch"]), value)
                        for row in record.trajectory
                        if row.get("phase") == "search" and (value := number(row.get(key))) is not None
                    ]
                    if points:
                        axis.plot(*zip(*points, strict=True), **(line | {"linewidth": 0.6, "alpha": 0.35}))
                    for epoch, value in points:
                        by_epoch.setdefault(epoch, []).append(value)
                if by_epoch:
                    epochs = sorted(by_epoch)
                    means = [math.fsum(by_epoch[e]) / len(by_epoch[e]) for e in epochs]
                    marker = {"marker": looks[entry.method].marker, "markevery": max(1, len(epochs) // 6)}
                    axis.plot(epochs, means, **(line | marker))
            if key == "expected_macs_ratio":
                axis.axhline(budget, color=style.INK, linewidth=0.9, linestyle=(0, (2, 2)))
            axis.set_title(style.label(key.replace("_", " "), 34))
            axis.set_xlabel("search epoch")
            whole_numbers(axis)
        for axis in list(axes.flat)[len(common) :]:
            axis.set_axis_off()
        legend(figure, matrix, shown, width)
        yield Drawing(
            "trajectories" if index == 0 else f"trajectories_{index + 1}",
            f"Searches: {name}, protocol {protocol}, budget {budget:g}",
            "Figures logged once an epoch of each search: mean over seeds, single seeds faint. Dotted: the budget.",
            figure,
        )


def gate_histograms(matrix: Matrix) -> Iterator[Drawing]:
    """All gate values of a search at its start, middle and end."""
    for index, ((name, protocol), entries) in enumerate(
        _by_workload(matrix, lambda e: any(r.snapshots.get("gates") for r in e.records))
    ):
        if index == deep(matrix):
            return
        budget = min(entry.budget for entry in entries)
        shown = [entry for entry in entries if entry.budget == budget][:6]
        figure = style.new_figure(6.6, 1.55 * len(shown) + 0.6)
        axes = figure.subplots(len(shown), 3, squeeze=False, sharex=True, sharey="row")
        looks = method_looks(matrix)
        for row, entry in zip(axes, shown, strict=True):
            record = next(r for r in entry.records if r.snapshots.get("gates"))
            frames = record.snapshots["gates"]
            for column, moment in enumerate((0, (len(frames) - 1) // 2, len(frames) - 1)):
                frame, axis = frames[moment], row[column]
                values = flat(frame.get("values"))
                top = max([1.0, *values])
                weights = [100 / len(values)] * len(values) if values else None
                axis.hist(
                    values, bins=40, range=(min([0.0, *values]), top), weights=weights, color=looks[entry.method].colour
                )
                axis.set_title(f"epoch {frame.get('epoch', moment)}", fontweight="normal", loc="right", fontsize=7.5)
                if column == 0:
                    axis.set_ylabel(style.label(entry.method, 22) + "\n% of gates")
        for axis in axes[-1]:
            axis.set_xlabel("gate value")
        yield Drawing(
            "gate_histograms" if index == 0 else f"gate_histograms_{index + 1}",
            f"Gates: {name}, protocol {protocol}, budget {budget:g}",
            f"Share of all gates by value, at the start, middle and end of the search; seed "
            f"{', '.join(sorted({str(e.records[0].cell['seed']) for e in shown}))}.",
            figure,
        )


def widths_over_time(matrix: Matrix) -> Iterator[Drawing]:
    """The share of each group that a search keeps, epoch by epoch, from snapshots `widths`: one value a group."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    def recorded(record: Record) -> bool:
        rows = [flat(row.get("values")) for row in record.snapshots.get("widths", [])]
        return bool(rows and record.groups) and all(len(row) == len(record.groups) for row in rows)

    for index, ((name, protocol), entries) in enumerate(
        _by_workload(matrix, lambda e: any(recorded(r) for r in e.records))
    ):
        if index == deep(matrix):
            return
        budget = min(entry.budget for entry in entries)
        shown = [entry for entry in entries if entry.budget == budget][:4]
        records = [next(r for r in entry.records if recorded(r)) for entry in shown]
        layers = [group.name for group in records[0].groups]
        figure = style.new_figure(2.1 + 1.9 * len(shown), 0.19 * len(layers) + 1.0)
        axes = figure.subplots(1, len(shown), squeeze=False, sharey=True)[0]
        for axis, entry, record in zip(axes, shown, records, strict=True):
            rows = record.snapshots["widths"]
            sizes = [max(1, group.size) for group in record.groups]
            image = [[flat(row.get("values"))[i] / size for row in rows] for i, size in enumerate(sizes)]
            axis.imshow(image, aspect="auto", cmap=style.HEAT, vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(style.label(entry.method, 22))
            axis.set_xticks(range(len(rows)), [str(row.get("epoch", i + 1)) for i, row in enumerate(rows)])
            axis.set_xlabel("search epoch")
            axis.grid(False)
        figure.colorbar(
            ScalarMappable(Normalize(0, 1), style.HEAT), ax=list(axes), label="share kept", fraction=0.03, pad=0.02
        )
        axes[0].set_yticks(range(len(layers)), [style.label(layer, 24) for layer in layers])
        yield Drawing(
            "widths_over_time" if index == 0 else f"widths_over_time_{index + 1}",
            f"Widths over time: {name}, protocol {protocol}, budget {budget:g}",
            "Share of each group's channels that the search keeps, or expects to keep, at the end of each epoch; seed "
            f"{', '.join(sorted({str(r.cell['seed']) for r in records}))}.",
            figure,
        )


def sensitivity(matrix: Matrix) -> Iterator[Drawing]:
    """The metric as one layer at a time is thinned, from records that hold such a scan.

    A scan is a snapshot `sensitivity` with one row a layer and kept share:
    `{"group": "layer1.0.conv1", "kept": 0.5, "metric": 88.1}`.
    """
    for index, ((name, _), entries) in enumerate(
        _by_workload(matrix, lambda e: any(r.snapshots.get("sensitivity") for r in e.records))
    ):
        if index == deep(matrix):
            return
        workload = matrix.workloads[name]
        record = next(r for e in entries for r in e.records if r.snapshots.get("sensitivity"))
        scan: dict[str, dict[float, float]] = {}
        for row in record.snapshots["sensitivity"]:
            kept, value = number(row.get("kept")), number(row.get("metric"))
            if kept is not None and value is not None:
                scan.setdefault(str(row.get("group", "")), {})[kept] = value
        if not scan:
            continue
        layers = list(scan)
        shares = sorted({kept for row in scan.values() for kept in row}, reverse=True)
        image = [[scan[layer].get(kept, math.nan) for layer in layers] for kept in shares]
        figure = style.new_figure(min(14.0, max(5.6, 1.6 + 0.24 * len(layers))), 1.5 + 0.26 * len(shares))
        axis = figure.subplots()
        drawn = axis.imshow(image, aspect="auto", cmap=style.HEAT, interpolation="nearest")
        axis.set_yticks(range(len(shares)), [f"{100 * kept:g} %" for kept in shares])
        axis.set_ylabel("kept channels")
        layer_ticks(axis, layers)
        axis.grid(False)
        axis.tick_params(length=0)
        bar = figure.colorbar(drawn, ax=axis, fraction=0.05, pad=0.015)
        bar.set_label(metric_label(workload))
        yield Drawing(
            "sensitivity" if index == 0 else f"sensitivity_{index + 1}",
            f"Sensitivity of layers: {name}",
            f"Validation metric as one layer at a time is thinned to the given share, before any recovery "
            f"({style.label(matrix.labels[record.cell_id][1])}, seed {record.cell['seed']}).",
            figure,
        )


def critical_difference(matrix: Matrix) -> Iterator[Drawing]:
    """Mean ranks on a line, with bars over methods that the Nemenyi test cannot tell apart."""
    for summary in rank_summaries(matrix):
        test = summary.test
        if test is None:
            continue
        names, means = test.names, test.mean_ranks
        order = sorted(range(len(names)), key=lambda i: (means[i], names[i]))
        count = len(order)
        cliques = test.cliques()
        half = math.ceil(count / 2)
        figure = style.new_figure(6.8, 1.0 + 0.2 * half + 0.11 * len(cliques))
        axis = figure.subplots()
        axis.set_axis_off()
        line = 0.0
        depth = 0.55 * len(cliques) + 0.6
        axis.set_xlim(1 - 0.32 * count, count + 0.32 * count)
        axis.set_ylim(-(depth + half), 2.6)
        axis.plot([1, count], [line, line], color=style.INK, linewidth=1)
        for place in range(1, count + 1):
            axis.plot([place, place], [line, line + 0.25], color=style.INK, linewidth=1)
            axis.text(place, line + 0.4, str(place), ha="center", va="bottom", fontsize=7.5)
        width = test.critical_difference
        axis.plot([1, 1 + width], [2.0, 2.0], color=style.INK, linewidth=1.6, marker="|", markersize=5)
        axis.text(1 + width + 0.1, 2.0, f"critical difference {width:.2f}", va="center", fontsize=7.5)
        ranks = dict(zip(test.names, test.mean_ranks, strict=True))
        for level, clique in enumerate(cliques):
            y = line - 0.55 * (level + 1)
            places = [ranks[name] for name in clique]
            axis.plot(
                [min(places) - 0.05, max(places) + 0.05], [y, y], color=style.INK, linewidth=2.6, solid_capstyle="round"
            )
        for index, position in enumerate(order):
            rank, name = test.mean_ranks[position], style.label(test.names[position], 26)
            left = index < half
            y = -(depth + (index if left else count - 1 - index) + 0.5)
            edge = 1 - 0.08 * count if left else count + 0.08 * count
            axis.plot([rank, rank, edge], [line, y, y], color="#777777", linewidth=0.8)
            axis.text(
                edge + (-0.05 if left else 0.05),
                y,
                f"{name}  {rank:.2f}" if left else f"{rank:.2f}  {name}",
                ha="right" if left else "left",
                va="center",
                fontsize=8,
                style="italic" if test.names[position] in summary.controls else "normal",
            )
        yield Drawing(
            "critical_difference" if summary.protocol == "matched" else f"critical_difference_{summary.protocol}",
            f"Mean ranks, protocol {summary.protocol}",
            f"Mean ranks over {test.blocks} workloads (1 is best); bars join methods that the Nemenyi test at 5 % does "
            f"not tell apart. Friedman test: p = {test.friedman_p:.2g}. Controls in italics.",
            figure,
        )


def samples(matrix: Matrix, load: Callable[[Record, str], bytes | None]) -> Iterator[Drawing]:
    """Sample pictures side by side: rows are samples, columns what does not depend on the method, then the methods.

    A picture named `target_0.png` is the target of sample 0; what all methods have the same, byte for byte, is
    shown once. A wide picture is taken for a strip that holds the panels of one sample already.
    """
    for index, ((name, protocol), entries) in enumerate(
        _by_workload(matrix, lambda e: any(r.pictures for r in e.records))
    ):
        if index == deep(matrix):
            return
        budget = min(entry.budget for entry in entries)
        found: dict[str, dict[tuple[str, str], bytes]] = {}
        for entry in entries:
            if entry.budget != budget:
                continue
            record = next(r for r in entry.records if r.pictures)
            for path in record.pictures:
                data = load(record, path)
                if data is not None:
                    found.setdefault(entry.method, {})[picture_name(path)] = data
        found = {m: {k: v for k, v in pictures.items() if k[1]} for m, pictures in found.items()}
        found = {m: pictures for m, pictures in found.items() if pictures}
        if not found:
            continue
        title = f"Samples: {name}, protocol {protocol}, budget {budget:g}"
        caption = "The same test samples after recovery, by method; the first seed of each."
        stem = "samples" if index == 0 else f"samples_{index + 1}"
        if any(strip is not None for strip in map(aspect, (next(iter(p.values())) for p in found.values()))):
            yield Drawing(stem, title, caption, strips(found))
            continue
        kinds = list(dict.fromkeys(kind for pictures in found.values() for kind, _ in pictures))
        numbers = sorted({number for pictures in found.values() for _, number in pictures})[:4]
        columns: list[tuple[str, str, str]] = []
        own: list[tuple[str, str, str]] = []
        for kind in kinds:
            versions = [
                {method: pictures.get((kind, number)) for method, pictures in found.items()} for number in numbers
            ]
            if len(found) > 1 and all(len(set(version.values())) == 1 for version in versions):
                columns.append((kind, next(iter(found)), kind))
            else:
                several = len(kinds) - len(columns) > 1
                own += [(kind, method, f"{method}\n{kind}" if several else method) for method in found]
        columns = (columns + sorted(own, key=lambda c: list(found).index(c[1])))[:10]
        if not columns or not numbers:
            continue
        figure = style.new_figure(max(4.0, 1.25 * len(columns)), 1.12 * len(numbers) + 0.4)
        axes = figure.subplots(len(numbers), len(columns), squeeze=False)
        for row, number in zip(axes, numbers, strict=True):
            for axis, (kind, method, title) in zip(row, columns, strict=True):
                axis.set_axis_off()
                if number == numbers[0]:
                    axis.set_title("\n".join(style.label(t, 18) for t in title.split("\n")), fontsize=7.5, loc="center")
                data = found[method].get((kind, number))
                if data is None:
                    continue
                picture = opened(data)
                if picture is None:
                    continue
                picture.thumbnail((384, 384))
                axis.imshow(picture, interpolation="nearest")
        yield Drawing(stem, title, caption, figure)


STRIP = 1.8
"""From this ratio of width to height on, a picture is taken for a strip of several panels."""


def opened(data: bytes) -> Any:
    """The picture in `data`, or None where it is none."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as found:
            return found.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return None


def aspect(data: bytes) -> float | None:
    """Width over height of a strip; None for a picture that is not one."""
    picture = opened(data)
    ratio = picture.width / picture.height if picture else 0.0
    return ratio if ratio >= STRIP else None


def strips(found: Mapping[str, Mapping[tuple[str, str], bytes]]) -> Figure:
    """Strips that hold a sample's panels already: one below the other, by method."""
    methods = list(found)[:10]
    keys = sorted({key for pictures in found.values() for key in pictures}, key=lambda key: (key[1], key[0]))
    keys = keys[: 2 if len(methods) <= 3 else 1]
    ratio = max((r for m in methods for k in keys if (d := found[m].get(k)) and (r := aspect(d))), default=STRIP)
    shown = [(key, method) for key in keys for method in methods]
    columns = 1 if len(shown) < 3 else 2
    rows = math.ceil(len(shown) / columns)
    width = 7.0 if columns == 1 else 9.0
    figure = style.new_figure(width, (width / columns / ratio + 0.3) * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (key, method) in zip(axes.flat, shown, strict=False):
        axis.set_title(style.label(method) + (f", sample {key[1]}" if len(keys) > 1 else ""), fontsize=8)
        picture = opened(found[method][key]) if key in found[method] else None
        if picture is not None:
            picture.thumbnail((1400, 1400))
            axis.imshow(picture, interpolation="nearest")
    return figure


def picture_name(path: str) -> tuple[str, str]:
    """What a picture shows and of which sample: `pictures/target_0.png` is ("target", "0")."""
    match = re.fullmatch(r"(.*?)[-_ ]?(\d+)[-_ ]?(.*)", PurePosixPath(path).stem)
    return (f"{match[1]}{match[3]}" or "picture", match[2]) if match else (PurePosixPath(path).stem, "")


def _searched(entry: Entry) -> bool:
    return any(row.get("phase") == "search" for record in entry.records for row in record.trajectory)


def _by_workload(matrix: Matrix, usable: Callable[[Entry], bool]) -> Iterator[tuple[tuple[str, str], list[Entry]]]:
    for key, entries in matrix.groups().items():
        found = [entry for entry in entries if usable(entry)]
        if found:
            yield key, found


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def flat(values: Any) -> list[float]:
    """All finite numbers in nested lists or dictionaries."""
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, (list, tuple)):
        return [item for value in values for item in flat(value)]
    found = number(values)
    return [] if found is None else [found]


def whole_numbers(axis: Axes) -> None:
    """Epochs are counted in whole ones."""
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def layer_ticks(axis: Axes, layers: Sequence[str]) -> None:
    """Layer names below a map of layers, thinned where there are many."""
    step = max(1, math.ceil(len(layers) / 60))
    axis.set_xticks(
        range(0, len(layers), step), [style.label(n, 26) for n in layers[::step]], rotation=90, fontsize=6.5
    )


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
