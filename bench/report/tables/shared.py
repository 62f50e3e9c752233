"""Columns and values that several tables have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from bench.interface.cell import BUDGET_WORDS
from bench.report.entry import Entry
from bench.report.matrix import Matrix
from bench.report.statistics import Sample
from bench.report.tables.data import DASH, Column, Num, Row, Section, Text, Value, numbers, words
from bench.report.workload import WorkloadSummary

T = TypeVar("T")

Shown = tuple[Column, Callable[[T], Value]]
"""A column, and what it shows of a row's subject."""

BUDGET = numbers("Budget")
METHOD = words("Method")
RECOVERY = words("Recovery")
N = numbers("n")
DELTA = numbers("Δ", tex=r"$\Delta$")
MACS_DROP = numbers("MACs ↓ %", tex=r"MACs $\downarrow$ \%")
MEMORY_DROP = numbers("Memory ↓ %", tex=r"Memory $\downarrow$ \%")
PARAMS_DROP = numbers("Params ↓ %", tex=r"Params $\downarrow$ \%")


def columns_of(shown: Sequence[Shown[T]]) -> list[Column]:
    return [column for column, _ in shown]


def values_of(shown: Sequence[Shown[T]], subject: T) -> list[Value]:
    return [value(subject) for _, value in shown]


def section_title(workload: str, protocol: str) -> str:
    return f"{workload}, protocol {protocol}"


def entry_section(
    title: str, shown: Sequence[Shown[Entry]], entries: Sequence[Entry], *, ruled: bool, notes: Sequence[str] = ()
) -> Section:
    """A section with one row an entry, `ruled` where the budget changes."""
    rows = [Row(values_of(shown, e), entry_id(e), e.budget if ruled else None) for e in entries]
    return Section(title, columns_of(shown), rows, list(notes))


def entry_id(entry: Entry) -> str:
    """Names an entry in the page."""
    key = entry.key
    return "|".join((key.workload, key.protocol, f"{key.budget:g}", *key[3:]))


def place_fields(entry: Entry) -> dict[str, Any]:
    """The first fields of an entry's row in a CSV."""
    return {
        "workload": entry.workload,
        "protocol": entry.protocol,
        "budget": entry.budget,
        "method": entry.method,
    }


def budget_value(entry: Entry) -> Num:
    # 0.5 is shown as 0.50, and 0.125 whole.
    return Num(entry.budget, digits=max(2, len(f"{entry.budget:g}".partition(".")[2])))


def kinds_text(matrix: Matrix, *, joined: str = " or ", short: bool = False) -> str:
    """What the budgets of a report count: `MACs`, `parameters`, or both where sections differ in it."""
    kinds = {cell.kind for cell in (*matrix.configs.values(), *matrix.missing)} or {"macs"}
    words = [word for kind, word in BUDGET_WORDS.items() if kind in kinds]
    if short:  # in front of a noun
        words = [word.removesuffix("s") if word != "MACs" else word for word in words]
    several = " (the section's protocol says which)" if len(words) > 1 and not short else ""
    return joined.join(words) + several


def method_text(entry: Entry, label: str = "") -> Text:
    """The method, or a longer label of it, as a link to its cells."""
    return Text(label or entry.label, "control" if entry.control or entry.ablation else "plain", entry_id(entry))


def recovery_text(entry: Entry) -> Text:
    return Text(entry.recovery)


def mean(sample: Sample, digits: int, *, signed: bool = False) -> Num:
    """The mean without its spread."""
    return Num(sample.mean, None, digits, signed)


def spread(sample: Sample, digits: int, *, signed: bool = False, bold: bool = False) -> Num:
    """The mean ± the sample standard deviation."""
    return Num(sample.mean, sample.std, digits, signed, bold)


def count(number: int) -> Num:
    return Num(float(number), digits=0)


def interval_text(interval: tuple[float, float] | None, digits: int) -> Text:
    """The ends of an interval of a difference."""
    if interval is None:
        return Text(DASH)
    return Text(" to ".join(Num(end, digits=digits, signed=True).text for end in interval))


def seeds_value(entry: Entry) -> Value:
    """n, and how many cells failed or are missing."""
    if entry.n == entry.planned:
        return count(entry.n)
    parts = [f"{entry.failed} failed"] * bool(entry.failed) + [f"{entry.missing} missing"] * bool(entry.missing)
    return Text(f"{entry.n} ({', '.join(parts)})", "alarm")


def rank_text(entry: Entry) -> Text:
    if entry.verdict == "off budget":
        return Text(f"off budget ({entry.budget_misses}/{len(entry.records)})", "alarm")
    if entry.ailments:
        return Text(ailment_words(entry), "alarm")
    if entry.rank is None:
        return Text(DASH)
    return Text(f"{entry.rank:g}" + {"best": "", "tied": " =", "untested": " ?"}.get(entry.verdict, ""))


def ailment_words(entry: Entry) -> str:
    """`majority class (1/3), diverged (1/3)`: of how many cells of an entry the network learned nothing."""
    return ", ".join(f"{name} ({count}/{entry.planned})" for name, count in sorted(entry.ailments.items()))


def metric_title(workload: WorkloadSummary) -> str:
    unit = f", {workload.unit}" if workload.unit else ""
    return f"{workload.metric or 'metric'}{unit} {'↑' if workload.higher_is_better else '↓'}"
