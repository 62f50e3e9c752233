"""The recovery ablation: methods that were recovered in more than one way, each way beside the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.interface.cell import RECOVERIES
from bench.report.entry import Entry, final_of, metric_value, sample_of
from bench.report.matrix import Matrix, by_table
from bench.report.statistics import Sample, corrected, paired_p
from bench.report.tables.data import Num, Row, Section, Table, numbers
from bench.report.tables.main import AFTER_RECOVERY, main_fields
from bench.report.tables.shared import (
    BUDGET,
    DELTA,
    METHOD,
    RECOVERY,
    N,
    Shown,
    budget_value,
    columns_of,
    entry_id,
    mean,
    method_text,
    recovery_text,
    section_title,
    seeds_value,
    spread,
    values_of,
)
from bench.report.workload import WorkloadSummary


@dataclass(frozen=True)
class _Recovered:
    """A pruning after one of its recoveries."""

    entry: Entry
    gain: Sample
    """The metric after recovery minus that right after pruning, seed by seed."""
    p: float | None
    """Against the first recovery of the same pruning, Holm-corrected."""


def recovery_table(matrix: Matrix) -> Table | None:
    """What recovery is worth."""
    sections, raw = [], []
    own = [e for e in matrix.entries if e.n and not e.searched_on and not e.ablation and e.prunes]
    for (name, protocol), entries in by_table(own).items():
        workload = matrix.workloads[name]
        recovered = _recovered(entries)
        if recovered:
            sections.append(_section(section_title(name, protocol), recovered, workload))
            raw += [_fields(item, workload) for item in recovered]
    caption = (
        "The same prunings recovered in different ways. *none*: nothing is trained after pruning, and the statistics "
        "of norms are estimated anew. Gain: after recovery against right after pruning. p: paired t-test over seeds "
        "against the first row of each block, Holm-corrected."
    )
    return Table("recovery", "Recovery ablation", caption, sections, raw) if sections else None


def _recovered(entries: Sequence[Entry]) -> list[_Recovered]:
    """All recoveries of each method and budget that has several."""
    blocks: dict[tuple[float, str], list[Entry]] = {}
    for entry in entries:
        blocks.setdefault((entry.budget, entry.method), []).append(entry)
    found = []
    for block in blocks.values():
        if len(block) < 2:
            continue
        first, *others = sorted(block, key=lambda e: [*RECOVERIES, e.recovery].index(e.recovery))
        p_values = corrected([paired_p(first.final_by_seed, other.final_by_seed) for other in others])
        found.append(_Recovered(first, _gain(first), None))
        found += [_Recovered(other, _gain(other), p) for other, p in zip(others, p_values, strict=True)]
    return found


def _gain(entry: Entry) -> Sample:
    return sample_of(
        final - pruned
        for r in entry.records
        if (final := final_of(r)) is not None and (pruned := metric_value(r, r.pruned_metrics)) is not None
    )


def _section(title: str, recovered: Sequence[_Recovered], workload: WorkloadSummary) -> Section:
    digits = workload.digits
    shown: list[Shown[_Recovered]] = [
        (BUDGET, lambda r: budget_value(r.entry)),
        (METHOD, lambda r: method_text(r.entry)),
        (RECOVERY, lambda r: recovery_text(r.entry)),
        (N, lambda r: seeds_value(r.entry)),
        (numbers("After pruning"), lambda r: spread(r.entry.pruned, digits)),
        (AFTER_RECOVERY, lambda r: spread(r.entry.final, digits)),
        (numbers("Gain"), lambda r: spread(r.gain, digits, signed=True)),
        (DELTA, lambda r: spread(r.entry.delta, digits, signed=True)),
        (numbers("Recovery epochs"), lambda r: mean(r.entry.recovery_epochs, 0)),
        (numbers("p against first"), lambda r: Num(r.p, digits=3)),
    ]
    rows = [
        Row(values_of(shown, item), entry_id(item.entry), (item.entry.budget, item.entry.method)) for item in recovered
    ]
    return Section(title, columns_of(shown), rows)


def _fields(item: _Recovered, workload: WorkloadSummary) -> dict[str, Any]:
    return (
        main_fields(item.entry, workload)
        # Places belong to the main comparison.
        | {"rank": None, "verdict": "", "bold": False, "p_holm_against_best": None}
        | {"gain_mean": item.gain.mean, "gain_std": item.gain.std, "p_holm_against_first": item.p}
    )
