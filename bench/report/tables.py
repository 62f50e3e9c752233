"""The tables of a report, each as Markdown, LaTeX, CSV and HTML from one description."""

from __future__ import annotations

import csv
import io
import math
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, Literal

from bench.interface.cell import RECOVERIES
from bench.report.frames import MIN_BLOCKS, UNPRUNED, Entry, Matrix, Workload, figure, final_of, rank_summaries, within
from bench.report.statistics import ALPHA, Sample, holm, paired_p

DASH = "–"


@dataclass(frozen=True)
class Num:
    """A figure as a reader sees it: rounded, with its spread, perhaps marked."""

    value: float | None
    std: float | None = None
    digits: int = 2
    signed: bool = False
    bold: bool = False
    mark: str = ""
    """A sign after the figure, explained in the table's notes."""

    @property
    def text(self) -> str:
        return self._text("−")

    def _text(self, minus: str) -> str:
        if self.value is None or not math.isfinite(self.value):
            return DASH
        body = rounded(self.value, self.digits, self.signed)
        return body.replace("-", minus) + (f" ± {rounded(self.std, self.digits)}" if self.std is not None else "")


def rounded(value: float, digits: int, signed: bool = False) -> str:
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    return text.replace("-", "", 1).replace("+", "", 1) if float(text) == 0 else text


@dataclass(frozen=True)
class Text:
    """Words in a cell; `kind` is how they are set, `link` what they lead to in the page."""

    text: str
    kind: Literal["plain", "control", "alarm", "code"] = "plain"
    link: str = ""


Value = Num | Text


@dataclass(frozen=True)
class Column:
    """A column's heading; `tex` is its heading in LaTeX, already escaped, where that differs."""

    title: str
    numeric: bool = False
    tex: str = ""


@dataclass
class Section:
    """The rows of one workload; a None between rows is a rule."""

    title: str
    columns: list[Column]
    rows: list[list[Value] | None]
    notes: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    """For each row that is not a rule: the id that leads from its figures to its cells in the page."""


@dataclass
class Table:
    """One kind of table over all workloads, with the unrounded figures behind it."""

    name: str
    title: str
    caption: str
    sections: list[Section]
    raw: list[dict[str, Any]]


# ---- content ----------------------------------------------------------------------------------------------------


def entry_id(entry: Entry) -> str:
    """Names an entry in the page."""
    return "|".join((entry.workload, entry.protocol, f"{entry.budget:g}", entry.method, entry.recovery, entry.source))


def method_text(entry: Entry) -> Text:
    return Text(entry.method, "control" if entry.control else "plain", entry_id(entry))


def num(sample: Sample, digits: int, *, spread: bool = True, **kwargs: Any) -> Num:
    return Num(sample.mean, sample.std if spread else None, digits, **kwargs)


def seeds_text(entry: Entry) -> Value:
    """n, and out of how many where some are not there."""
    if entry.n == entry.planned:
        return Num(float(entry.n), digits=0)
    parts = [f"{entry.failed} failed"] * bool(entry.failed) + [f"{entry.missing} missing"] * bool(entry.missing)
    return Text(f"{entry.n} ({', '.join(parts)})", "alarm")


def rank_text(entry: Entry) -> Text:
    if entry.verdict == "off budget":
        return Text(f"off budget ({entry.budget_misses}/{len(entry.records)})", "alarm")
    if entry.rank is None:
        return Text(DASH)
    return Text(place(entry) + {"best": "", "tied": " =", "untested": " ?"}.get(entry.verdict, ""))


def place(entry: Entry) -> str:
    return f"{entry.rank:g}" if entry.rank is not None else DASH


def arrow(workload: Workload) -> str:
    return "↑" if workload.higher_is_better else "↓"


def metric_title(workload: Workload) -> str:
    unit = f", {workload.unit}" if workload.unit else ""
    return f"{workload.metric or 'metric'}{unit} {arrow(workload)}"


MARKS = (
    "Mean ± sample standard deviation over n seeds; one seed has no ±. Δ is taken seed by seed against the dense "
    "network. **Bold**: better than every rival of the same budget (paired t-test over seeds, Holm-corrected, "
    "p < 0.05); “=” ties with the best by that test; “?” cannot be told (too few common seeds). *Italics*: a control. "
    "An entry with a cell off its budget is not ranked."
)


def main_table(matrix: Matrix) -> Table | None:
    """The comparison: one section a workload and protocol."""
    sections, raw = [], []
    for (name, protocol), entries in matrix.groups().items():
        workload = matrix.workloads.get(name)
        if workload is None:
            continue
        recoveries = len({e.recovery for e in entries if e.records}) > 1
        columns = [Column("Budget", True), Column("Method")]
        columns += [Column("Recovery")] if recoveries else []
        columns += [
            Column("n", True),
            Column("After pruning", True),
            Column("After recovery", True),
            Column("Δ", True, r"$\Delta$"),
            Column("MACs ↓ %", True, r"MACs $\downarrow$ \%"),
            Column("Params ↓ %", True, r"Params $\downarrow$ \%"),
            Column("Speedup", True),
            Column("Search s", True),
            Column("Total s", True),
            Column("Rank"),
        ]
        dense = num(workload.dense, workload.digits)
        first: list[Value] = [Num(None), Text("dense"), *([Text(DASH)] if recoveries else [])]
        first += [Num(float(workload.dense.n), digits=0), Num(None), dense, *[Num(None)] * 6, Text(DASH)]
        rows: list[list[Value] | None] = [first]
        links = [""]
        # A network that is not pruned belongs beside the dense one, whatever budget it was filed under.
        ordered = sorted(entries, key=lambda e: e.base_method not in UNPRUNED)
        previous: tuple[Any, ...] | None = None
        for entry in ordered:
            current = () if entry.base_method in UNPRUNED else (entry.budget,)
            if current != previous and not (previous is None and not current):
                rows.append(None)
            rows.append(_main_row(entry, workload, recoveries))
            links.append(entry_id(entry))
            raw.append(main_raw(entry, workload))
            previous = current
        title = f"{name}, protocol {protocol}"
        sections.append(Section(title, columns, rows, [about(workload)], links))
    if not any(entry.n for entry in matrix.main):
        return None
    return Table("main", "Main comparison", f"Test-split figures at matched MACs budgets. {MARKS}", sections, raw)


def about(workload: Workload) -> str:
    """The line under a section: what the figures are of."""
    shape = "×".join(str(size) for size in workload.input_shape)
    marks = f", {', '.join(workload.data_notes)}" if workload.data_notes else ""
    options = "".join(f", {key} {_plain(value)}" for key, value in workload.options.items() if _is_set(value))
    parts = [
        f"{workload.model} on {workload.dataset}{marks} ({workload.task}{options})",
        f"metric {metric_title(workload)}",
        f"dense network {workload.macs_dense / 1e6:,.2f} M MACs and {workload.params_dense / 1e6:,.3f} M parameters"
        + (f" at input {shape}" if shape else ""),
    ]
    if workload.epochs:
        parts.append("epochs " + ", ".join(f"{key} {value}" for key, value in workload.epochs.items()))
    for name, value in sorted(workload.references.items()):
        parts.append(f"{name} {value:.{workload.digits}f}")
    return "; ".join(parts) + "."


def _is_set(value: Any) -> bool:
    """Whether an option says anything: 0, "", false and (0, 0) stand for the default."""
    return any(value) if isinstance(value, list | tuple) else bool(value)


def _plain(value: Any) -> str:
    return "×".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _main_row(entry: Entry, workload: Workload, recoveries: bool) -> list[Value]:
    digits = workload.digits
    reference = entry.base_method in UNPRUNED
    return [
        Num(None if reference else entry.budget, digits=budget_digits(entry.budget)),
        method_text(entry),
        *([Text(entry.recovery)] if recoveries else []),
        seeds_text(entry),
        Num(None) if reference else num(entry.pruned, digits),
        num(entry.final, digits, bold=entry.bold),
        num(entry.delta, digits, signed=True, bold=entry.bold),
        num(entry.macs_drop, 1, spread=False),
        num(entry.params_drop, 1, spread=False),
        num(entry.speedup, 2, spread=False),
        num(entry.search_seconds, 0, spread=False),
        num(entry.total_seconds, 0, spread=False),
        rank_text(entry),
    ]


def budget_digits(budget: float) -> int:
    return max(2, len(f"{budget:g}".partition(".")[2]))


def main_raw(entry: Entry, workload: Workload) -> dict[str, Any]:
    """Everything of an entry, unrounded: a row of main.csv."""
    row: dict[str, Any] = {
        "workload": entry.workload,
        "task": entry.task,
        "dataset": entry.dataset,
        "model": entry.model,
        "protocol": entry.protocol,
        "budget": entry.budget,
        "method": entry.method,
        "control": entry.control,
        "recovery": entry.recovery,
        "n": entry.n,
        "failed": entry.failed,
        "missing": entry.missing,
        "metric": entry.metric,
        "higher_is_better": entry.higher_is_better,
    }
    for name in ("dense", "pruned", "final", "delta"):
        sample: Sample = getattr(entry, name)
        row |= {f"{name}_mean": sample.mean, f"{name}_std": sample.std}
    row |= {"final_interval95": entry.final.interval, "delta_interval95": entry.delta.interval}
    row |= {"macs_dense": workload.macs_dense, "macs_pruned_mean": entry.macs.mean}
    row |= {"macs_drop_percent": entry.macs_drop.mean, "params_drop_percent": entry.params_drop.mean}
    row |= {"latency_ms_mean": entry.latency.mean, "latency_ms_std": entry.latency.std}
    row |= {"speedup_mean": entry.speedup.mean, "speedup_std": entry.speedup.std}
    for name in ("search_epochs", "total_epochs", "search_seconds", "total_seconds"):
        row[f"{name}_mean"] = getattr(entry, name).mean
    row |= {"budget_misses": entry.budget_misses, "rank": entry.rank, "verdict": entry.verdict, "bold": entry.bold}
    row["p_holm_against_best"] = entry.p_best
    return row


def budget_table(matrix: Matrix) -> Table | None:
    """Requested, native, fitted, measured: whether the comparison was at matched MACs at all."""
    sections, raw = [], []
    columns = [
        Column("Budget", True),
        Column("Method"),
        Column("n", True),
        Column("Tolerance", True),
        Column("Native", True),
        Column("Channels changed", True),
        Column("Measured", True),
        Column("Worst gap", True),
        Column("Within"),
    ]
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in matrix.entries:
        if entry.records and entry.base_method not in UNPRUNED:
            groups.setdefault((entry.workload, entry.protocol), []).append(entry)
    for (name, protocol), entries in groups.items():
        rows: list[list[Value] | None] = []
        links: list[str] = []
        previous = None
        for entry in entries:
            gaps = [r.macs_pruned / r.macs_dense - entry.budget for r in entry.records if r.macs_dense]
            worst = max(gaps, key=abs, default=None)
            tolerance = float(entry.records[0].cell.get("tolerance", 0.005))
            met = sum(within(record) for record in entry.records)
            total = len(entry.records)
            label = entry.method + (f", {entry.recovery}" if _many_recoveries(entries, entry) else "")
            label += f", from {entry.source}" if entry.source else ""
            if previous is not None and entry.budget != previous:
                rows.append(None)
            previous = entry.budget
            rows.append(
                [
                    Num(entry.budget, digits=budget_digits(entry.budget)),
                    Text(label, "control" if entry.control else "plain", entry_id(entry)),
                    Num(float(total), digits=0),
                    Num(tolerance, digits=4),
                    num(entry.native_ratio, 4),
                    num(entry.fitted, 1, spread=False),
                    num(entry.macs_ratio, 4),
                    Num(worst, digits=4, signed=True),
                    Text("yes" if met == total else f"missed in {total - met} of {total}")
                    if met == total
                    else Text(f"missed in {total - met} of {total}", "alarm"),
                ]
            )
            links.append(entry_id(entry))
            raw.append(
                {"workload": name, "protocol": protocol, "budget": entry.budget, "method": entry.method}
                | {"recovery": entry.recovery, "source": entry.source, "n": total, "tolerance": tolerance}
                | {"native_ratio_mean": entry.native_ratio.mean, "fitted_channels_mean": entry.fitted.mean}
                | {
                    "measured_ratio_mean": entry.macs_ratio.mean,
                    "worst_gap": worst,
                    "within": met,
                    "missed": total - met,
                }
            )
        sections.append(Section(f"{name}, protocol {protocol}", columns, rows, _miss_notes(entries), links))
    caption = (
        "Fractions of the dense network's MACs: asked for, as the method itself left it (native), and as measured on "
        "the pruned network after the fit changed the given number of channels."
    )
    return Table("budget_audit", "Budget audit", caption, sections, raw) if sections else None


def _many_recoveries(entries: Sequence[Entry], entry: Entry) -> bool:
    same = [e for e in entries if (e.method, e.budget, e.source) == (entry.method, entry.budget, entry.source)]
    return len({e.recovery for e in same}) > 1


def _miss_notes(entries: Sequence[Entry]) -> list[str]:
    notes: dict[str, int] = {}
    for entry in entries:
        for record in entry.records:
            if record.audit and record.audit.note and not within(record):
                text = f"{entry.method} at {entry.budget:g}: {record.audit.note}"
                notes[text] = notes.get(text, 0) + 1
    shown = [text if count == 1 else f"{text} ({count} cells)" for text, count in notes.items()]
    return shown[:20] + ([f"… and {len(shown) - 20} more notes in cells.jsonl"] if len(shown) > 20 else [])


def ledger_table(matrix: Matrix) -> Table | None:
    """What each entry cost, by stage."""
    sections, raw = [], []
    stages = ("dense", "search", "recovery", "total")
    columns = [Column("Budget", True), Column("Method"), Column("n", True)]
    columns += [Column(f"{stage.capitalize()} epochs", True) for stage in stages]
    columns += [Column(f"{stage.capitalize()} s", True) for stage in stages]
    columns += [Column("Device")]
    for (name, protocol), entries in matrix.groups().items():
        rows: list[list[Value] | None] = []
        links: list[str] = []
        previous = None
        for entry in entries:
            if not entry.total_seconds.n:
                continue
            if previous is not None and entry.budget != previous:
                rows.append(None)
            previous = entry.budget
            devices = sorted({r.ledger.device for r in entry.records if r.ledger})
            rows.append(
                [Num(entry.budget, digits=budget_digits(entry.budget)), method_text(entry)]
                + [Num(float(entry.total_seconds.n), digits=0)]
                + [num(getattr(entry, f"{stage}_epochs"), 0, spread=False) for stage in stages]
                + [num(getattr(entry, f"{stage}_seconds"), 1, spread=False) for stage in stages]
                + [Text(", ".join(devices) or DASH)]
            )
            links.append(entry_id(entry))
            raw.append(
                {"workload": name, "protocol": protocol, "budget": entry.budget, "method": entry.method}
                | {"recovery": entry.recovery, "n": entry.total_seconds.n}
                | {f"{stage}_epochs_mean": getattr(entry, f"{stage}_epochs").mean for stage in stages}
                | {f"{stage}_seconds_mean": getattr(entry, f"{stage}_seconds").mean for stage in stages}
                | {"device": ", ".join(devices)}
            )
        if rows:
            sections.append(Section(f"{name}, protocol {protocol}", columns, rows, [], links))
    caption = (
        "Epochs and device-seconds a cell, by stage, mean over seeds. The dense network is trained once a seed and "
        "shared by all methods; its cost is repeated in each row."
    )
    return Table("ledger", "Compute ledger", caption, sections, raw) if sections else None


def recovery_table(matrix: Matrix) -> Table | None:
    """What recovery is worth: methods that were recovered in more than one way, each way beside the others."""
    sections, raw = [], []
    columns = [Column("Budget", True), Column("Method"), Column("Recovery"), Column("n", True)]
    columns += [Column("After pruning", True), Column("After recovery", True), Column("Gain", True)]
    columns += [Column("Δ", True, r"$\Delta$"), Column("Recovery epochs", True), Column("p against first", True)]
    groups: dict[tuple[str, str], dict[tuple[float, str], list[Entry]]] = {}
    for entry in matrix.entries:
        if entry.n and not entry.source and entry.base_method not in UNPRUNED:
            place = groups.setdefault((entry.workload, entry.protocol), {})
            place.setdefault((-entry.budget, entry.method), []).append(entry)
    for (name, protocol), places in groups.items():
        workload = matrix.workloads[name]
        rows: list[list[Value] | None] = []
        links: list[str] = []
        for entries in places.values():
            if len(entries) < 2:
                continue
            entries = sorted(entries, key=lambda e: [*RECOVERIES, e.recovery].index(e.recovery))
            if rows:
                rows.append(None)
            first = entries[0]
            raw_p = [paired_p(first.final_by_seed, entry.final_by_seed) for entry in entries[1:]]
            adjusted = iter(holm([p for p in raw_p if p is not None]))
            p_values = [None, *(next(adjusted) if p is not None else None for p in raw_p)]
            for entry, p in zip(entries, p_values, strict=True):
                gain = entry.sample(
                    final - pruned
                    for r in entry.records
                    if (final := final_of(r)) is not None and (pruned := figure(r, r.pruned_metrics)) is not None
                )
                rows.append(
                    [
                        Num(entry.budget, digits=budget_digits(entry.budget)),
                        method_text(entry),
                        Text(entry.recovery),
                        seeds_text(entry),
                        num(entry.pruned, workload.digits),
                        num(entry.final, workload.digits),
                        num(gain, workload.digits, signed=True),
                        num(entry.delta, workload.digits, signed=True),
                        num(entry.recovery_epochs, 0, spread=False),
                        Num(p, digits=3),
                    ]
                )
                links.append(entry_id(entry))
                raw.append(
                    main_raw(entry, workload)
                    | {"rank": None, "verdict": "", "bold": False, "p_holm_against_best": None}
                    | {"gain_mean": gain.mean, "gain_std": gain.std, "p_holm_against_first": p}
                )
        if rows:
            sections.append(Section(f"{name}, protocol {protocol}", columns, rows, [], links))
    caption = (
        "The same prunings recovered in different ways. Gain: after recovery against right after pruning. p: paired "
        "t-test over seeds against the first row of each block, Holm-corrected."
    )
    return Table("recovery", "Recovery ablation", caption, sections, raw) if sections else None


def transfer_table(matrix: Matrix) -> Table | None:
    """Prunings searched elsewhere and applied here, against the method's own search here."""
    own = {(e.workload, e.protocol, e.budget, e.method, e.recovery): e for e in matrix.entries if not e.source and e.n}
    sections, raw = [], []
    columns = [Column("Budget", True), Column("Method"), Column("Searched on"), Column("n", True)]
    columns += [Column("Transferred", True), Column("Own search", True), Column("Own − transferred", True)]
    columns += [Column("MACs ↓ %", True, r"MACs $\downarrow$ \%"), Column("p", True)]
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in matrix.entries:
        if entry.source and entry.n:
            groups.setdefault((entry.workload, entry.protocol), []).append(entry)
    for (name, protocol), entries in groups.items():
        workload = matrix.workloads[name]
        partners = [own.get((e.workload, e.protocol, e.budget, e.method, e.recovery)) for e in entries]
        raw_p = [
            paired_p(partner.final_by_seed, e.final_by_seed) if partner else None
            for e, partner in zip(entries, partners, strict=True)
        ]
        adjusted = iter(holm([p for p in raw_p if p is not None]))
        rows: list[list[Value] | None] = []
        for entry, partner, p in zip(entries, partners, raw_p, strict=True):
            corrected = next(adjusted) if p is not None else None
            gap = Sample(
                tuple(
                    partner.final_by_seed[s] - value
                    for s, value in entry.final_by_seed.items()
                    if partner and s in partner.final_by_seed
                )
            )
            gap_better = corrected is not None and corrected < ALPHA
            rows.append(
                [
                    Num(entry.budget, digits=budget_digits(entry.budget)),
                    method_text(entry),
                    Text(entry.source),
                    seeds_text(entry),
                    num(entry.final, workload.digits),
                    num(partner.final, workload.digits) if partner else Num(None),
                    num(gap, workload.digits, signed=True, bold=gap_better),
                    num(entry.macs_drop, 1, spread=False),
                    Num(corrected, digits=3),
                ]
            )
            raw.append(
                {"workload": name, "protocol": protocol, "budget": entry.budget, "method": entry.method}
                | {"source": entry.source, "recovery": entry.recovery, "n": entry.n}
                | {"final_mean": entry.final.mean, "final_std": entry.final.std}
                | {"own_mean": partner.final.mean if partner else None, "gap_mean": gap.mean, "gap_std": gap.std}
                | {"macs_drop_percent": entry.macs_drop.mean, "p_holm": corrected}
            )
        links = [entry_id(e) for e in entries]
        sections.append(Section(f"{name}, protocol {protocol}", columns, rows, [], links))
    caption = (
        "Prunings that were searched on another task or data set and applied to this one, against the same method's "
        "own search. **Bold**: the difference is beyond the interval (paired t-test over seeds, Holm-corrected, "
        "p < 0.05)."
    )
    return Table("transfer", "Transfer", caption, sections, raw) if sections else None


def rank_table(matrix: Matrix) -> Table | None:
    """Places across workloads."""
    sections, raw = [], []
    for summary in rank_summaries(matrix):
        columns = [Column("Method"), Column("Mean rank", True), Column("Best", True), Column("Tied", True)]
        shown = summary.workloads[:8]
        columns += [Column(name, True) for name in shown]
        order = sorted(summary.methods, key=lambda m: (summary.mean_rank(m), m))
        rows: list[list[Value] | None] = []
        for method in order:
            kind = "control" if method in summary.controls else "plain"
            rows.append(
                [Text(method, kind), Num(summary.mean_rank(method))]
                + [Num(float(summary.firsts[method]), digits=0), Num(float(summary.ties[method]), digits=0)]
                + [Num(summary.ranks[method][name]) for name in shown]
            )
            raw.append(
                {"protocol": summary.protocol, "method": method, "mean_rank": summary.mean_rank(method)}
                | {"best": summary.firsts[method], "tied": summary.ties[method], "contests": summary.contests}
                | {f"rank on {name}": summary.ranks[method][name] for name in summary.workloads}
            )
        notes = [f"{summary.contests} comparisons on {len(summary.workloads)} workloads, in which all are ranked."]
        if len(summary.workloads) > len(shown):
            notes.append(f"{len(summary.workloads) - len(shown)} more workloads are in the CSV.")
        if summary.test:
            test = summary.test
            notes.append(
                f"Friedman test over {test.blocks} workloads: p = {test.friedman_p:.2g}; Nemenyi critical difference "
                f"of mean ranks {test.critical_difference:.2f} at 5 %."
            )
        else:
            notes.append(f"Mean ranks are tested against each other from {MIN_BLOCKS} workloads and three methods on.")
        if summary.left_out:
            more = len(summary.left_out) - 12
            notes.append(
                "Left out for want of a rank: " + "; ".join(summary.left_out[:12]) + f"; and {more} more." * (more > 0)
            )
        sections.append(Section(f"protocol {summary.protocol}", columns, rows, notes))
    caption = (
        "Places by mean after recovery, averaged over the budgets of a workload and then over workloads; equal means "
        "share their places. Best and tied count the comparisons in which the method was so, by the paired test."
    )
    return Table("ranks", "Ranks across workloads", caption, sections, raw) if sections else None


def metrics_table(matrix: Matrix) -> Table | None:
    """Every metric of the test split, where there is more than the one that methods are ranked by."""
    sections, raw = [], []
    for (name, protocol), entries in matrix.groups().items():
        if name not in matrix.workloads:
            continue
        records = [r for e in entries for r in e.records]
        keys = sorted({key for r in records for key in r.final_metrics} - {matrix.workloads[name].metric})
        if not keys:
            continue
        columns = [Column("Budget", True), Column("Method"), Column("n", True)]
        columns += [Column(key, True) for key in keys[:6]]
        rows: list[list[Value] | None] = []
        links: list[str] = []
        for entry in entries:
            if not entry.n:
                continue
            samples = {key: entry.sample(r.final_metrics.get(key) for r in entry.records) for key in keys}
            rows.append(
                [
                    Num(entry.budget, digits=budget_digits(entry.budget)),
                    method_text(entry),
                    Num(float(entry.n), digits=0),
                ]
                + [
                    num(samples[key], 2 if max(map(abs, samples[key].values), default=0) >= 10 else 4)
                    for key in keys[:6]
                ]
            )
            links.append(entry_id(entry))
            raw += [
                {"workload": name, "protocol": protocol, "budget": entry.budget, "method": entry.method}
                | {"recovery": entry.recovery, "metric": key, "n": samples[key].n}
                | {"final_mean": samples[key].mean, "final_std": samples[key].std}
                for key in keys
            ]
        sections.append(Section(f"{name}, protocol {protocol}", columns, rows, [], links))
    caption = "Other figures of the test split, after recovery: mean ± sample standard deviation over n seeds."
    return Table("metrics", "Other metrics", caption, sections, raw) if sections else None


def published_table(matrix: Matrix) -> Table | None:
    """What papers state for the data sets and networks that were run here, beside what was measured."""
    columns = [Column("Network"), Column("Method"), Column("Published", True), Column("Δ", True, r"$\Delta$")]
    columns += [Column("MACs ↓ %", True, r"MACs $\downarrow$ \%"), Column("Ours", True), Column("Δ ours", True)]
    columns += [Column("MACs ↓ % ours", True, r"MACs $\downarrow$ \% ours"), Column("Source")]
    rows: list[list[Value] | None] = []
    raw, links, notes = [], [], []
    for source in published_sources():
        used = False
        for result in source["results"]:
            same = [
                e
                for e in matrix.main
                if (plain(e.dataset), plain(e.model)) == (plain(result["dataset"]), plain(result["model"]))
                and e.base_method == source["method"]
                and e.n
            ]
            if not same:
                continue
            drop = result.get("macs_drop", result.get("macs_drop_at_least"))
            ours = min(same, key=lambda e: abs((e.macs_drop.mean or 0) - drop))
            digits = matrix.workloads[ours.workload].digits
            pruned, dense = result.get("pruned"), result.get("dense")
            delta = pruned - dense if pruned is not None and dense is not None else None
            variant = f" {result['variant']}" if "variant" in result else ""
            rows.append(
                [
                    Text(f"{result['model']}, {result['dataset']}"),
                    Text(source["method"] + variant, link=entry_id(ours)),
                    Num(pruned),
                    Num(delta, signed=True),
                    Num(drop, digits=1) if "macs_drop" in result else Text(f"over {drop:g}"),
                    num(ours.final, digits),
                    num(ours.delta, digits, signed=True),
                    num(ours.macs_drop, 1, spread=False),
                    Text(source["id"]),
                ]
            )
            links.append(entry_id(ours))
            raw.append(
                {"dataset": result["dataset"], "model": result["model"], "method": source["method"]}
                | {"variant": result.get("variant", ""), "published_dense": dense, "published_pruned": pruned}
                | {"published_delta": delta, "published_macs_drop_percent": drop}
                | {"ours_final_mean": ours.final.mean, "ours_delta_mean": ours.delta.mean, "ours_n": ours.n}
                | {"ours_macs_drop_percent": ours.macs_drop.mean, "ours_workload": ours.workload}
                | {"ours_protocol": ours.protocol, "source": source["cite"], "caveat": source["caveat"]}
            )
            used = True
        if used:
            notes.append(
                f"{source['id']}: {source['cite']}. Protocol: {source['protocol']}. Caveat: {source['caveat']}."
            )
    if not rows:
        return None
    caption = (
        "Figures that the papers state, beside ours at the nearest MACs. Recipes differ, so that the two are not a "
        "comparison: the protocol and caveat of each source are below."
    )
    return Table("published", "Published figures", caption, [Section("", columns, rows, notes, links)], raw)


def plain(name: str) -> str:
    """A data set's or network's name without case and punctuation: `ResNet-56` is `resnet56`."""
    return "".join(sign for sign in name.lower() if sign.isalnum())


def published_sources() -> list[dict[str, Any]]:
    """What `published.toml` holds: beside the committed reports, or in the installed package."""
    for path in (Path(__file__).parents[2] / "reports" / "published.toml", Path(__file__).parent / "published.toml"):
        if path.is_file():
            return tomllib.loads(path.read_text(encoding="utf-8"))["source"]
    return []


TABLES: tuple[Callable[[Matrix], Table | None], ...] = (
    main_table,
    rank_table,
    recovery_table,
    transfer_table,
    published_table,
    budget_table,
    ledger_table,
    metrics_table,
)


def all_tables(matrix: Matrix) -> list[Table]:
    """Every table that has something to say."""
    return [table for make in TABLES if (table := make(matrix)) is not None]


# ---- Markdown ---------------------------------------------------------------------------------------------------


def md_escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    text = escape(" ".join(str(text).split()), quote=False)
    for sign in "\\`*_[]|~$":
        text = text.replace(sign, "\\" + sign)
    return text


def _md_value(value: Value) -> str:
    if isinstance(value, Num):
        return f"**{value.text}**" if value.bold and value.value is not None else value.text + value.mark
    body = md_escape(value.text)
    return {"control": f"*{body}*", "alarm": f"⚠ {body}", "code": f"`{value.text}`"}.get(value.kind, body)


def to_markdown(table: Table, level: int = 2) -> str:
    """The table under its own heading."""
    lines = [f"{'#' * level} {table.title}", "", table.caption, ""]
    for section in table.sections:
        lines += section_markdown(section, level + 1)
    return "\n".join(lines).rstrip() + "\n"


def section_markdown(section: Section, level: int) -> list[str]:
    lines = [f"{'#' * level} {md_escape(section.title)}", ""] if section.title else []
    lines.append("| " + " | ".join(column.title for column in section.columns) + " |")
    lines.append("|" + "|".join(" ---: " if column.numeric else " :--- " for column in section.columns) + "|")
    lines += ["| " + " | ".join(_md_value(value) for value in row) + " |" for row in section.rows if row is not None]
    lines.append("")
    for note in section.notes:
        lines += [md_escape(note), ""]
    return lines


# ---- CSV --------------------------------------------------------------------------------------------------------


def csv_text(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as CSV, figures unrounded; a text that a spreadsheet would run as a formula is quoted with an apostrophe."""
    stream = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(stream, names, lineterminator="\n", restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _csv_value(value) for name, value in row.items()})
    return stream.getvalue()


def _csv_value(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return ""
    if isinstance(value, str) and value[:1] in "=+-@\t\r" and value:
        return "'" + value
    return value


# ---- HTML -------------------------------------------------------------------------------------------------------


def html_value(value: Value) -> str:
    """One cell's content, escaped."""
    if isinstance(value, Num):
        body = escape(value.text + value.mark)
        return f"<b>{body}</b>" if value.bold and value.value is not None else body
    body = escape(value.text)
    if value.kind == "control":
        return f"<i>{body}</i>"
    if value.kind == "alarm":
        return f'<span class="alarm">{body}</span>'
    return f"<code>{body}</code>" if value.kind == "code" else body


def section_html(section: Section, number: Callable[[str], int | None]) -> str:
    """A section as an HTML table; a row's figures lead to the cells of its entry, by the entry's number."""
    head = "".join(
        f"<th scope=col{' class=num' if column.numeric else ''}>{escape(column.title)}</th>"
        for column in section.columns
    )
    body: list[str] = []
    links = iter(section.links)
    rule = False
    for row in section.rows:
        if row is None:
            rule = True
            continue
        entry = number(next(links, ""))
        attributes = (f" data-entry={entry}" if entry is not None else "") + (" class=rule" if rule else "")
        rule = False
        cells = []
        for column, value in zip(section.columns, row, strict=True):
            content = html_value(value)
            if entry is not None and isinstance(value, Text) and value.link:
                content = f'<a href="#entry={entry}">{content}</a>'
            cells.append(f"<td{' class=num' if column.numeric else ''}>{content}</td>")
        body.append(f"<tr{attributes}>{''.join(cells)}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
