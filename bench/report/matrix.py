"""From records to what tables and figures show: entries, sorted and ranked, and the workloads that they are on.

The same rules hold everywhere:

* a result is the mean over seeds with the sample standard deviation; one seed has no ±;
* Δ is taken seed by seed, against the dense network of that seed;
* an entry of which any cell missed its budget is shown, flagged, and not ranked;
* an entry of which any cell ends at the majority class, or diverged, is shown, flagged, and not ranked;
* controls are ranked like methods, so that a reader sees which methods do not beat them;
* what takes a method apart (blind, l1-channels, scratch) is an entry of its own, outside the main comparison;
* the best of a budget is bold if it beats every rival in a paired t-test over seeds, Holm-corrected; otherwise it and
  those that it does not beat are ties.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bench.interface.cell import ABLATIONS, RECOVERIES, Cell
from bench.interface.record import Record
from bench.interface.registry import control_names, unpruned_names
from bench.interface.settings import changed_settings, settings_text
from bench.report.comparison import Comparison, against_best_rivals
from bench.report.entry import Entry, EntryKey, final_of, seed_of
from bench.report.health import ailment
from bench.report.naming import cell_labels, protocol_label, transfer_names
from bench.report.ranking import rank
from bench.report.records import require_one_table, sort_key
from bench.report.resampling import SampleBootstrap
from bench.report.workload import WorkloadSummary, dense_of, summarise

_RECOVERY_ORDER: dict[str, int] = {name: index for index, name in enumerate(RECOVERIES)}
_ABLATION_ORDER: dict[str, int] = {name: index for index, name in enumerate(("", *ABLATIONS))}


@dataclass
class Matrix:
    """Everything a report is drawn from."""

    suite: str
    records: list[Record]
    """All of them, failed ones included, in a fixed order."""
    missing: list[Cell]
    workloads: dict[str, WorkloadSummary]
    """Of every recorded cell, by label."""
    entries: list[Entry]
    """All entries, in the order of the tables."""
    main: list[Entry]
    """Those of the main comparison: own search, one recovery a method, no ablation."""
    labels: dict[str, tuple[str, str]]
    """Cell id -> (workload label, method label)."""
    configs: dict[str, Cell]
    """Of every recorded cell, by id."""
    keys: dict[str, EntryKey]
    """Cell id -> the entry that a recorded or missing cell belongs to."""

    @cached_property
    def bootstrap(self) -> SampleBootstrap:
        """Resamples of the test sets, for all records."""
        return SampleBootstrap(self.finished)

    @cached_property
    def against_rival(self) -> dict[EntryKey, Comparison]:
        """Each ranked entry of the main comparison against the best of the others of its budget."""
        return against_best_rivals(by_contest(self.main).values(), self.bootstrap)

    @property
    def finished(self) -> list[Record]:
        return [record for record in self.records if record.status == "finished"]

    @property
    def failed(self) -> list[Record]:
        return [record for record in self.records if record.status == "failed"]

    def groups(self) -> dict[tuple[str, str], list[Entry]]:
        """The main entries of each table: by workload and protocol."""
        return by_table(self.main)

    def methods(self) -> list[str]:
        """Labels of the main comparison, methods first, then controls."""
        seen = {entry.method: (entry.control, entry.method) for entry in self.main}
        return sorted(seen, key=lambda name: seen[name])

    def controls(self) -> set[str]:
        """Labels of the main comparison's controls."""
        return {entry.method for entry in self.main if entry.control}


def by_table(entries: Sequence[Entry]) -> dict[tuple[str, str], list[Entry]]:
    """Entries that share a table: by workload and protocol."""
    found: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        found[(entry.workload, entry.protocol)].append(entry)
    return dict(found)


def by_contest(entries: Sequence[Entry]) -> dict[tuple[str, str, float], list[Entry]]:
    """Entries that are ranked together: by workload, protocol and budget."""
    found: dict[tuple[str, str, float], list[Entry]] = defaultdict(list)
    for entry in entries:
        found[(entry.workload, entry.protocol, entry.budget)].append(entry)
    return dict(found)


@dataclass
class _Seeds:
    """The cells of one entry."""

    cell: Cell
    """Any of them: they differ in their seeds alone."""
    results: list[Record] = field(default_factory=list)
    failed: int = 0
    missing: int = 0
    diverged: int = 0


def build(
    records: Sequence[Record], missing: Sequence[Cell] = (), *, suite: str, controls: Collection[str] | None = None
) -> Matrix:
    """Sort records into entries and rank them.

    Args:
        controls: adapters that are baselines; by default those of the catalogue.

    Raises:
        ReportError: the records must not share a table.
    """
    records = sorted(records, key=sort_key)
    configs = require_one_table(records)
    # A cell that is recorded is not missing, whatever the caller says.
    absent = {cell.id: cell for cell in missing if cell.id not in configs}
    cells = configs | absent
    labels = cell_labels(cells)
    transfers = transfer_names(cells, labels)
    workloads = summarise(records, configs, labels)
    keys = {cell_id: _entry_key(cell, labels[cell_id], transfers) for cell_id, cell in cells.items()}
    controls = control_names() if controls is None else controls
    entries = [
        _entry(key, seeds, workloads.get(key.workload), controls)
        for key, seeds in _gather(records, cells, keys).items()
    ]
    entries.sort(key=_table_order)
    main = _main_entries(entries)
    for contest in by_contest(main).values():
        rank(contest)
    return Matrix(
        suite=suite,
        records=records,
        missing=list(absent.values()),
        workloads=workloads,
        entries=entries,
        main=main,
        labels=labels,
        configs=configs,
        keys=keys,
    )


def _table_order(entry: Entry) -> tuple[Any, ...]:
    place = (entry.task, entry.workload, entry.protocol, -entry.budget)
    return (*place, entry.control, entry.method, _ABLATION_ORDER[entry.ablation], entry.recovery, entry.searched_on)


def _entry_key(cell: Cell, labels: tuple[str, str], transfers: Mapping[str, str]) -> EntryKey:
    workload, method = labels
    searched_on = transfers.get(cell.transfer, f"cell {cell.transfer}") if cell.transfer else ""
    return EntryKey(
        workload,
        protocol_label(cell),
        round(cell.budget, 9),
        method,
        cell.recovery,
        searched_on,
        cell.ablation or "",
    )


def _gather(
    records: Sequence[Record], cells: Mapping[str, Cell], keys: Mapping[str, EntryKey]
) -> dict[EntryKey, _Seeds]:
    """The seeds of each entry."""
    found: dict[EntryKey, _Seeds] = {}
    recorded = {record.cell_id for record in records}
    for cell_id, cell in cells.items():
        found.setdefault(keys[cell_id], _Seeds(cell)).missing += cell_id not in recorded
    for record in records:
        seeds = found[keys[record.cell_id]]
        if record.status == "finished" and final_of(record) is not None:
            seeds.results.append(record)
        else:
            seeds.failed += 1
            seeds.diverged += bool(ailment(record))
    return found


def _entry(key: EntryKey, seeds: _Seeds, shared: WorkloadSummary | None, controls: Collection[str]) -> Entry:
    cell = seeds.cell
    return Entry(
        workload=key.workload,
        task=cell.workload.task,
        dataset=cell.workload.dataset,
        model=cell.workload.model,
        protocol=key.protocol,
        method=key.method,
        adapter=cell.adapter,
        control=cell.adapter in controls,
        prunes=cell.adapter not in unpruned_names(),
        recovery=key.recovery,
        searched_on=key.searched_on,
        ablation=key.ablation,
        budget=key.budget,
        budget_kind=cell.kind,
        metric=shared.metric if shared else "",
        higher_is_better=shared.higher_is_better if shared else True,
        records=tuple(sorted(seeds.results, key=seed_of)),
        settings=settings_text(changed_settings(cell.adapter, cell.hyper)),
        failed=seeds.failed,
        missing=seeds.missing,
        diverged=seeds.diverged,
        dense_by_seed={seed_of(r): v for r in seeds.results if (v := dense_of(r, shared)) is not None},
        latencies=shared.latencies if shared else {},
    )


def _main_entries(entries: Sequence[Entry]) -> list[Entry]:
    """Own searches only, and of each method the recovery that most methods of its table share."""
    own = [entry for entry in entries if not entry.searched_on and not entry.ablation]
    used: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for entry in own:
        used[(entry.workload, entry.protocol)][entry.recovery].add(entry.method)
    chosen: dict[tuple[str, str, str], str] = {}
    for entry in own:
        shared_by = used[(entry.workload, entry.protocol)]
        known = chosen.get((entry.workload, entry.protocol, entry.method), entry.recovery)
        chosen[(entry.workload, entry.protocol, entry.method)] = min(
            known, entry.recovery, key=lambda name, by=shared_by: (-len(by[name]), _RECOVERY_ORDER[name])
        )
    return [e for e in own if chosen[(e.workload, e.protocol, e.method)] == e.recovery]
