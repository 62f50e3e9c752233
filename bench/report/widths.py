"""How far found widths agree: over the seeds of one entry, and between two entries."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import combinations

from bench.interface.record import Record
from bench.report.entry import Entry, seed_of


def kept(record: Record) -> dict[str, float]:
    """Share of its channels that each group keeps."""
    return {group.name: group.width / group.size for group in record.groups if group.size}


def distance(one: Record, other: Record) -> float | None:
    """Mean absolute difference of the kept shares over the groups that both have, in percent of a group's channels."""
    ours, theirs = kept(one), kept(other)
    gaps = [abs(share - theirs[name]) for name, share in ours.items() if name in theirs]
    return 100.0 * math.fsum(gaps) / len(gaps) if gaps else None


def between_seeds(entry: Entry) -> float | None:
    """Mean distance of the widths of two seeds; None for one seed."""
    return _mean(distance(one, other) for one, other in combinations(entry.records, 2))


def between_entries(one: Entry, other: Entry) -> float | None:
    """Mean distance of the widths of two entries, seed by seed."""
    theirs = {seed_of(record): record for record in other.records}
    return _mean(distance(record, theirs[seed_of(record)]) for record in one.records if seed_of(record) in theirs)


def _mean(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return math.fsum(found) / len(found) if found else None
