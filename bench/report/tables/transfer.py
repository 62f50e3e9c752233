"""The transfer table: prunings searched elsewhere and applied here, against the method's own search here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.report.entry import Entry, EntryKey
from bench.report.matrix import Matrix, by_table
from bench.report.statistics import ALPHA, Sample, corrected, paired_gaps, paired_p
from bench.report.tables.data import Num, Row, Section, Table, Text, numbers, words
from bench.report.tables.shared import (
    BUDGET,
    MACS_DROP,
    METHOD,
    N,
    Shown,
    budget_value,
    columns_of,
    entry_id,
    mean,
    method_text,
    place_fields,
    section_title,
    seeds_value,
    spread,
    values_of,
)


@dataclass(frozen=True)
class _Transferred:
    """A transferred pruning beside the own search of the same method."""

    entry: Entry
    own: Entry | None
    gap: Sample
    """Own search minus transferred, seed by seed."""
    p: float | None
    """Of the gap, Holm-corrected over the section."""


def transfer_table(matrix: Matrix) -> Table | None:
    """What a pruning is worth on another workload than the one it was searched on."""
    own = {entry.key: entry for entry in matrix.entries if not entry.searched_on and not entry.ablation and entry.n}
    sections, raw = [], []
    for (name, protocol), entries in by_table([e for e in matrix.entries if e.searched_on and e.n]).items():
        transferred = _transferred(entries, own)
        sections.append(_section(section_title(name, protocol), transferred, matrix.workloads[name].digits))
        raw += map(_fields, transferred)
    caption = (
        "Prunings that were searched on another task or data set and applied to this one, against the same method's "
        "own search. **Bold**: the difference is beyond the interval (paired t-test over seeds, Holm-corrected, "
        "p < 0.05)."
    )
    return Table("transfer", "Transfer", caption, sections, raw) if sections else None


def _transferred(entries: Sequence[Entry], own: Mapping[EntryKey, Entry]) -> list[_Transferred]:
    partners = [own.get(entry.key._replace(searched_on="")) for entry in entries]
    p_values = [
        paired_p(partner.final_by_seed, entry.final_by_seed) if partner else None
        for entry, partner in zip(entries, partners, strict=True)
    ]
    return [
        _Transferred(entry, partner, paired_gaps(partner.final_by_seed if partner else {}, entry.final_by_seed), p)
        for entry, partner, p in zip(entries, partners, corrected(p_values), strict=True)
    ]


def _section(title: str, transferred: Sequence[_Transferred], digits: int) -> Section:
    shown: list[Shown[_Transferred]] = [
        (BUDGET, lambda t: budget_value(t.entry)),
        (METHOD, lambda t: method_text(t.entry)),
        (words("Searched on"), lambda t: Text(t.entry.searched_on)),
        (N, lambda t: seeds_value(t.entry)),
        (numbers("Transferred"), lambda t: spread(t.entry.final, digits)),
        (numbers("Own search"), lambda t: spread(t.own.final, digits) if t.own else Num(None)),
        (
            numbers("Own − transferred"),
            lambda t: spread(t.gap, digits, signed=True, bold=t.p is not None and t.p < ALPHA),
        ),
        (MACS_DROP, lambda t: mean(t.entry.macs_drop, 1)),
        (numbers("p"), lambda t: Num(t.p, digits=3)),
    ]
    rows = [Row(values_of(shown, item), entry_id(item.entry)) for item in transferred]
    return Section(title, columns_of(shown), rows)


def _fields(item: _Transferred) -> dict[str, Any]:
    entry = item.entry
    return place_fields(entry) | {
        "source": entry.searched_on,
        "recovery": entry.recovery,
        "n": entry.n,
        "final_mean": entry.final.mean,
        "final_std": entry.final.std,
        "own_mean": item.own.final.mean if item.own else None,
        "gap_mean": item.gap.mean,
        "gap_std": item.gap.std,
        "macs_drop_percent": entry.macs_drop.mean,
        "p_holm": item.p,
    }
