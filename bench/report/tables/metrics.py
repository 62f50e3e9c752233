"""Other metrics: every metric of the test split but the one that methods are ranked by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.report.entry import Entry, sample_of
from bench.report.matrix import Matrix
from bench.report.statistics import Sample
from bench.report.tables.data import Num, Table, numbers
from bench.report.tables.shared import (
    BUDGET,
    METHOD,
    N,
    Shown,
    budget_value,
    count,
    entry_section,
    method_text,
    place_fields,
    section_title,
    spread,
)


def metrics_table(matrix: Matrix) -> Table | None:
    """The other metrics, where a task has any."""
    sections, raw = [], []
    for (name, protocol), entries in matrix.groups().items():
        if name not in matrix.workloads:
            continue
        recorded = {key for entry in entries for record in entry.records for key in record.final_metrics}
        keys = sorted(recorded - {matrix.workloads[name].metric})
        if not keys:
            continue
        finished = [entry for entry in entries if entry.n]
        sections.append(entry_section(section_title(name, protocol), _columns(keys[:6]), finished, ruled=False))
        raw += [_fields(entry, key) for entry in finished for key in keys]
    caption = "Other figures of the test split, after recovery: mean ± sample standard deviation over n seeds."
    return Table("metrics", "Other metrics", caption, sections, raw, on_front_page=False) if sections else None


def _columns(keys: Sequence[str]) -> list[Shown[Entry]]:
    return [
        (BUDGET, budget_value),
        (METHOD, method_text),
        (N, lambda e: count(e.n)),
        *((numbers(key), lambda e, key=key: _value(_sample(e, key))) for key in keys),
    ]


def _sample(entry: Entry, key: str) -> Sample:
    return sample_of(record.final_metrics.get(key) for record in entry.records)


def _value(sample: Sample) -> Num:
    # Percentages and decibels are shown to two decimal places, losses and ratios to four.
    return spread(sample, 2 if max(map(abs, sample.values), default=0) >= 10 else 4)


def _fields(entry: Entry, key: str) -> dict[str, Any]:
    sample = _sample(entry, key)
    return place_fields(entry) | {
        "recovery": entry.recovery,
        "metric": key,
        "n": sample.n,
        "final_mean": sample.mean,
        "final_std": sample.std,
    }
