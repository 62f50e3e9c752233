"""The budget audit: whether the comparison was at matched MACs, or parameters, at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.report.entry import Entry, kept_of, tolerance_of, within
from bench.report.matrix import Matrix, by_table
from bench.report.tables.data import Num, Table, Text, numbers, words
from bench.report.tables.shared import (
    BUDGET,
    METHOD,
    N,
    Shown,
    budget_value,
    count,
    entry_section,
    kinds_text,
    mean,
    method_text,
    place_fields,
    section_title,
    spread,
)

MAX_NOTES = 20


def budget_table(matrix: Matrix) -> Table | None:
    """What was requested, what the method left (native), and what was measured after the fit."""
    sections, raw = [], []
    audited = [entry for entry in matrix.entries if entry.records and entry.prunes]
    for (name, protocol), entries in by_table(audited).items():
        title = section_title(name, protocol)
        sections.append(entry_section(title, _columns(entries), entries, ruled=True, notes=_miss_notes(entries)))
        raw += map(_fields, entries)
    caption = (
        f"Fractions of the dense network's {kinds_text(matrix)}: asked for, as the method itself left it (native), and "
        "as measured on the pruned network after the fit changed the given number of channels."
    )
    if any(entry.budget_kind != "macs" for entry in audited):
        caption += (
            " Methods count MACs: under a budget of parameters each was asked for the share of the MACs that the "
            "proportionally thinner network of that many parameters has, and the fit did the rest."
        )
    return Table("budget_audit", "Budget audit", caption, sections, raw) if sections else None


def _columns(entries: Sequence[Entry]) -> list[Shown[Entry]]:
    return [
        (BUDGET, budget_value),
        (METHOD, lambda e: method_text(e, _label(e, entries))),
        (N, lambda e: count(len(e.records))),
        (numbers("Tolerance"), lambda e: Num(tolerance_of(e.records[0]), digits=4)),
        (numbers("Native"), lambda e: spread(e.native_ratio, 4)),
        (numbers("Channels changed"), lambda e: mean(e.fitted, 1)),
        (numbers("Measured"), lambda e: spread(e.kept_ratio, 4)),
        (numbers("Worst gap"), lambda e: Num(_worst_gap(e), digits=4, signed=True)),
        (words("Within"), _verdict),
    ]


def _fields(entry: Entry) -> dict[str, Any]:
    return place_fields(entry) | {
        "budget_kind": entry.budget_kind,
        "ablation": entry.ablation,
        "recovery": entry.recovery,
        "source": entry.searched_on,
        "n": len(entry.records),
        "tolerance": tolerance_of(entry.records[0]),
        "native_ratio_mean": entry.native_ratio.mean,
        "fitted_channels_mean": entry.fitted.mean,
        "measured_ratio_mean": entry.kept_ratio.mean,
        "worst_gap": _worst_gap(entry),
        "within": len(entry.records) - entry.budget_misses,
        "missed": entry.budget_misses,
    }


def _label(entry: Entry, entries: Sequence[Entry]) -> str:
    """The method, with its recovery where it was recovered in several ways, and where its pruning was searched."""
    same = [e for e in entries if e.key._replace(recovery="") == entry.key._replace(recovery="")]
    label = entry.label + (f", {entry.recovery}" if len({e.recovery for e in same}) > 1 else "")
    return label + (f", from {entry.searched_on}" if entry.searched_on else "")


def _worst_gap(entry: Entry) -> float | None:
    gaps = [kept - entry.budget for r in entry.records if (kept := kept_of(r)) is not None]
    return max(gaps, key=abs, default=None)


def _verdict(entry: Entry) -> Text:
    if not entry.budget_misses:
        return Text("yes")
    return Text(f"missed in {entry.budget_misses} of {len(entry.records)}", "alarm")


def _miss_notes(entries: Sequence[Entry]) -> list[str]:
    """What records say of budgets that they missed."""
    notes: dict[str, int] = {}
    for entry in entries:
        for record in entry.records:
            if record.audit and record.audit.note and not within(record):
                text = f"{entry.label} at {entry.budget:g}: {record.audit.note}"
                notes[text] = notes.get(text, 0) + 1
    shown = [text if count == 1 else f"{text} ({count} cells)" for text, count in notes.items()]
    more = len(shown) - MAX_NOTES
    return shown[:MAX_NOTES] + ([f"… and {more} more notes in cells.jsonl"] if more > 0 else [])
