"""One row of a table: a method at a budget on a workload, over its seeds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from bench.interface.cell import BUDGET_WORDS, BudgetKind
from bench.interface.record import Record
from bench.report.health import DIVERGED, ailment
from bench.report.latency import Conditions, DenseLatency, Machine, speedup, speedup_of, timings
from bench.report.statistics import Sample


def metric_value(record: Record, metrics: Mapping[str, float]) -> float | None:
    """The metric that methods are ranked by, where it is there and finite."""
    value = metrics.get(record.metric_name)
    return value if value is not None and math.isfinite(value) else None


def final_of(record: Record) -> float | None:
    """The metric after recovery."""
    return metric_value(record, record.final_metrics)


def seed_of(record: Record) -> int:
    return int(record.cell["seed"])


def ratio(part: float, whole: float) -> float | None:
    """A part of a whole; None where the whole is not known."""
    return part / whole if whole else None


def drop(part: float, whole: float) -> float | None:
    """What was taken away of a whole, in percent; None where the whole is not known."""
    return 100.0 * (1.0 - part / whole) if whole else None


def tolerance_of(record: Record) -> float:
    return float(record.cell.get("tolerance", 0.005))


def kept_of(record: Record) -> float | None:
    """What was measured of what the budget counts, MACs or parameters, as a fraction of the dense network's."""
    if record.cell.get("budget_kind") == "params":
        pruned, dense = record.params_pruned, record.params_dense
    else:
        pruned, dense = record.macs_pruned, record.macs_dense
    return pruned / dense if pruned and dense else None


def within(record: Record) -> bool:
    """Whether the measured MACs, or parameters, meet the budget; recomputed, not read."""
    kept = kept_of(record)
    return kept is not None and abs(kept - float(record.cell["budget"])) <= tolerance_of(record) + 1e-9


def sample_of(values: Iterable[float | None]) -> Sample:
    """A sample of the finite ones of some values."""
    return Sample(tuple(value for value in values if value is not None and math.isfinite(value)))


class EntryKey(NamedTuple):
    """What tells entries apart."""

    workload: str
    protocol: str
    budget: float
    method: str
    recovery: str
    searched_on: str
    ablation: str = ""


class Timed(NamedTuple):
    """Latency of the pruned network in milliseconds and speedup over the dense one, over seeds."""

    latency: Sample = Sample(())
    speedup: Sample = Sample(())


@dataclass
class Entry:
    """One row: a method on a workload at a budget, over its seeds."""

    workload: str
    task: str
    dataset: str
    model: str
    protocol: str
    """Label of the protocol: what was held equal is part of it."""
    method: str
    """Label, with the hyper-parameters in which variants of the method differ."""
    adapter: str
    """The adapter behind the label."""
    control: bool
    """Whether the adapter is a baseline that methods are compared with."""
    prunes: bool
    """False for a control that leaves the network whole: it stands beside the dense one and is never ranked."""
    recovery: str
    searched_on: str
    """Where a transferred pruning was searched: `digits-resnet8 at 0.5`; empty for the cell's own search."""
    ablation: str
    """`blind`, `l1-channels` or `scratch` where the entry takes the method apart; else empty."""
    budget: float
    metric: str
    higher_is_better: bool
    records: tuple[Record, ...]
    """Finished cells whose metric is finite, by seed."""
    budget_kind: BudgetKind = "macs"
    """What the budget is a fraction of; the protocol's label says it too."""
    settings: str = ""
    """Hyper-parameters that differ from the adapter's defaults: `sparsity_weight=0.1`."""
    failed: int = 0
    missing: int = 0
    diverged: int = 0
    """Failed cells whose training diverged."""
    dense_by_seed: Mapping[int, float] = field(default_factory=dict)
    latencies: Mapping[Machine, DenseLatency] = field(default_factory=dict)
    """The dense network's, by machine."""
    rank: float | None = None
    verdict: str = ""
    """`best`, `tied`, `worse`, `untested`, `only`, `off budget`, `collapsed`, `reference` or `no result`."""
    p_best: float | None = None
    """Holm-corrected p of the comparison with the best of the budget."""

    def __post_init__(self) -> None:
        records = self.records
        self.final_by_seed = {seed_of(r): v for r in records if (v := final_of(r)) is not None}
        self.final = Sample(tuple(self.final_by_seed.values()))
        self.dense = Sample(tuple(self.dense_by_seed[s] for s in self.final_by_seed if s in self.dense_by_seed))
        self.pruned = sample_of(metric_value(r, r.pruned_metrics) for r in records)
        self.delta = Sample(
            tuple(v - self.dense_by_seed[s] for s, v in self.final_by_seed.items() if s in self.dense_by_seed)
        )
        self.macs = sample_of(float(r.macs_pruned) if r.macs_pruned else None for r in records)
        self.macs_ratio = sample_of(ratio(r.macs_pruned, r.macs_dense) for r in records)
        self.macs_percent = sample_of(100.0 * v for v in self.macs_ratio.values)
        self.macs_drop = sample_of(drop(r.macs_pruned, r.macs_dense) for r in records)
        self.params_percent = sample_of(
            100.0 * r.params_pruned / r.params_dense if r.params_dense else None for r in records
        )
        self.kept_ratio = sample_of(map(kept_of, records))
        self.params_drop = sample_of(drop(r.params_pruned, r.params_dense) for r in records)
        self.peak_memory = sample_of(float(r.peak_memory_pruned) if r.peak_memory_pruned else None for r in records)
        self.peak_memory_drop = sample_of(
            drop(r.peak_memory_pruned, r.peak_memory_dense) if r.peak_memory_pruned else None for r in records
        )
        self.native_ratio = sample_of(r.audit.native_ratio if r.audit else None for r in records)
        self.fitted = sample_of(float(r.audit.fitted_channels) if r.audit else None for r in records)
        self.latency = sample_of(r.latency_pruned.median_ms if r.latency_pruned else None for r in records)
        self.speedup = sample_of(speedup_of(r, self.latencies) for r in records)
        self.timed = {machine.conditions: Timed() for r in records for machine, _ in timings(r)}
        """Latencies and speedups at every combination of batch size and threads."""
        for conditions in self.timed:
            self.timed[conditions] = self._timed_at(conditions)
        ledgers = [r.ledger for r in records if r.ledger]
        self.search_seconds = sample_of(x.search_seconds for x in ledgers)
        self.total_seconds = sample_of(x.dense_seconds + x.search_seconds + x.recovery_seconds for x in ledgers)
        self.search_epochs = sample_of(float(x.search_epochs) for x in ledgers)
        self.recovery_epochs = sample_of(float(x.recovery_epochs) for x in ledgers)
        self.total_epochs = sample_of(float(x.dense_epochs + x.search_epochs + x.recovery_epochs) for x in ledgers)
        self.ailments = Counter(found for r in records if (found := ailment(r)))
        """How many cells are at the majority class, or diverged."""
        if self.diverged:
            self.ailments[DIVERGED] += self.diverged
        self.budget_misses = sum(not within(r) for r in records) if self.prunes else 0

    def _timed_at(self, conditions: Conditions) -> Timed:
        found = [(m, pair) for r in self.records for m, pair in timings(r) if m.conditions == conditions]
        return Timed(
            sample_of(pair.pruned.median_ms for _, pair in found),
            sample_of(speedup(machine, pair, self.latencies) for machine, pair in found),
        )

    @property
    def key(self) -> EntryKey:
        return EntryKey(
            self.workload, self.protocol, self.budget, self.method, self.recovery, self.searched_on, self.ablation
        )

    @property
    def budget_text(self) -> str:
        """`0.5 of the MACs`"""
        return f"{self.budget:g} of the {BUDGET_WORDS[self.budget_kind]}"

    @property
    def label(self) -> str:
        """The method, and the ablation of it that the entry is: `dcss blind`."""
        return f"{self.method} {self.ablation}" if self.ablation else self.method

    @property
    def n(self) -> int:
        """Seeds with a result."""
        return self.final.n

    @property
    def bold(self) -> bool:
        return self.verdict == "best"

    @property
    def planned(self) -> int:
        return len(self.records) + self.failed + self.missing
