"""Other metrics: every metric of the test split but the one that methods are ranked by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from bench.report.entry import Entry, sample_of
from bench.report.matrix import Matrix
from bench.report.statistics import Sample
from bench.report.tables.data import Table, numbers
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

MAX_COLUMNS = 6
"""Metrics to a section: more are continued in a further one."""


def metrics_table(matrix: Matrix) -> Table | None:
    """The other metrics, where a task has any."""
    sections, raw = [], []
    for (name, protocol), entries in matrix.groups().items():
        if name not in matrix.workloads:
            continue
        recorded = {key for entry in entries for record in entry.records for key in record.final_metrics}
        # A metric of one class, such as `iou.car`, comes after those of all classes.
        keys = sorted(recorded - {matrix.workloads[name].metric}, key=lambda key: ("." in key, key))
        finished = [entry for entry in entries if entry.n]
        blocks = _blocks(keys)
        for number, block in enumerate(blocks, start=1):
            title = section_title(name, protocol) + (f", {number} of {len(blocks)}" if len(blocks) > 1 else "")
            sections.append(entry_section(title, _columns(block, finished), finished, ruled=False))
        raw += [_fields(entry, key) for entry in finished for key in sorted(keys)]
    caption = "Other figures of the test split, after recovery: mean ± sample standard deviation over n seeds."
    return Table("metrics", "Other metrics", caption, sections, raw, on_front_page=False) if sections else None


def _blocks(keys: Sequence[str]) -> list[Sequence[str]]:
    """The keys in order, in as few blocks as there must be, which differ by one in length at most."""
    count = math.ceil(len(keys) / MAX_COLUMNS)
    ends = [len(keys) * number // count for number in range(count + 1)] if count else []
    return [keys[start:stop] for start, stop in pairwise(ends)]


def _columns(keys: Sequence[str], entries: Sequence[Entry]) -> list[Shown[Entry]]:
    digits = {key: _digits(key, entries) for key in keys}
    return [
        (BUDGET, budget_value),
        (METHOD, method_text),
        (N, lambda e: count(e.n)),
        *((numbers(key), lambda e, key=key: spread(_sample(e, key), digits[key])) for key in keys),
    ]


def _sample(entry: Entry, key: str) -> Sample:
    return sample_of(record.final_metrics.get(key) for record in entry.records)


def _digits(key: str, entries: Sequence[Entry]) -> int:
    """Percentages and decibels are shown to two decimal places, losses and ratios to four."""
    largest = max((abs(value) for entry in entries for value in _sample(entry, key).values), default=0.0)
    return 2 if largest >= 10 else 4


def _fields(entry: Entry, key: str) -> dict[str, Any]:
    sample = _sample(entry, key)
    return place_fields(entry) | {
        "recovery": entry.recovery,
        "metric": key,
        "n": sample.n,
        "final_mean": sample.mean,
        "final_std": sample.std,
    }
