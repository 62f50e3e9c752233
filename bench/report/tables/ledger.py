"""The compute ledger: what each entry cost, by stage."""

from __future__ import annotations

from typing import Any

from bench.report.entry import Entry
from bench.report.matrix import Matrix
from bench.report.statistics import Sample
from bench.report.tables.data import DASH, Table, Text, numbers, words
from bench.report.tables.shared import (
    BUDGET,
    METHOD,
    N,
    Shown,
    budget_value,
    count,
    entry_section,
    mean,
    method_text,
    place_fields,
    section_title,
)

STAGES = ("dense", "search", "recovery", "total")


def ledger_table(matrix: Matrix) -> Table | None:
    """Epochs and device-seconds by stage."""
    sections, raw = [], []
    shown: list[Shown[Entry]] = [
        (BUDGET, budget_value),
        (METHOD, method_text),
        (N, lambda e: count(e.total_seconds.n)),
        *((numbers(f"{stage.capitalize()} epochs"), lambda e, s=stage: mean(_epochs(e, s), 0)) for stage in STAGES),
        *((numbers(f"{stage.capitalize()} s"), lambda e, s=stage: mean(_seconds(e, s), 1)) for stage in STAGES),
        (words("Device"), lambda e: Text(_devices(e) or DASH)),
    ]
    for (name, protocol), entries in matrix.groups().items():
        costed = [entry for entry in entries if entry.total_seconds.n]
        if costed:
            sections.append(entry_section(section_title(name, protocol), shown, costed, ruled=True))
            raw += map(_fields, costed)
    caption = (
        "Epochs and device-seconds a cell, by stage, mean over seeds. The dense network is trained once a seed and "
        "shared by all methods; its cost is repeated in each row."
    )
    return Table("ledger", "Compute ledger", caption, sections, raw) if sections else None


def _fields(entry: Entry) -> dict[str, Any]:
    return (
        place_fields(entry)
        | {"recovery": entry.recovery, "n": entry.total_seconds.n}
        | {f"{stage}_epochs_mean": _epochs(entry, stage).mean for stage in STAGES}
        | {f"{stage}_seconds_mean": _seconds(entry, stage).mean for stage in STAGES}
        | {"device": _devices(entry)}
    )


def _epochs(entry: Entry, stage: str) -> Sample:
    return getattr(entry, f"{stage}_epochs")


def _seconds(entry: Entry, stage: str) -> Sample:
    return getattr(entry, f"{stage}_seconds")


def _devices(entry: Entry) -> str:
    return ", ".join(sorted({record.ledger.device for record in entry.records if record.ledger}))
