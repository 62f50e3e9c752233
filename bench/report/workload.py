"""What all methods of a table share: the data, the network, the metric and the dense network's figures."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.interface.cell import Cell
from bench.interface.record import Record
from bench.report.entry import metric_value, seed_of
from bench.report.health import MAJORITY, no_better
from bench.report.latency import Conditions, DenseLatency, Machine, pooled, timings
from bench.report.statistics import Sample


@dataclass
class WorkloadSummary:
    """What is known of a workload from the records of all methods on it."""

    name: str
    task: str
    dataset: str
    model: str
    metric: str = ""
    unit: str = ""
    higher_is_better: bool = True
    digits: int = 2
    """Decimal places at which the metric is shown."""
    epochs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: str = ""
    """Name of the file of weights that the dense network started from, where one was given."""
    protect: tuple[str, ...] = ()
    """Names or patterns of modules whose channels no method may remove."""
    data_notes: tuple[str, ...] = ()
    """What must stand beside the data set's name."""
    dense_by_seed: dict[int, float] = field(default_factory=dict)
    macs_dense: int = 0
    params_dense: int = 0
    peak_memory_dense: int = 0
    """Bytes that a forward pass of the example batch needs beyond the weights."""
    latencies: dict[Machine, DenseLatency] = field(default_factory=dict)
    """Of the dense network, by machine, batch size and threads."""
    first_timed: tuple[Machine, ...] = ()
    """Where and how cells were measured first, which is what speedups are stated at."""
    conditions: tuple[Conditions, ...] = ()
    """At what latencies were measured, the first combination first."""
    input_shape: tuple[int, ...] = ()
    references: dict[str, float] = field(default_factory=dict)
    """Baselines that need no network, by name."""

    @property
    def idle_seeds(self) -> list[int]:
        """Seeds whose dense network is no better than the majority class."""
        bar = self.references.get(MAJORITY)
        if bar is None:
            return []
        found = sorted(self.dense_by_seed.items())
        return [seed for seed, value in found if no_better(value, bar, higher_is_better=self.higher_is_better)]

    @property
    def latency(self) -> DenseLatency | None:
        """Of the dense network at the first combination, where all was measured on one machine.

        Of several, each cell's own is in its record.
        """
        return self.latencies.get(self.first_timed[0]) if len(self.first_timed) == 1 else None

    def latencies_at(self, conditions: Conditions) -> list[DenseLatency]:
        """Of the dense network at one combination, on each machine."""
        return [latency for machine, latency in self.latencies.items() if machine.conditions == conditions]

    @property
    def dense(self) -> Sample:
        return Sample(tuple(self.dense_by_seed[seed] for seed in sorted(self.dense_by_seed)))


def dense_of(record: Record, workload: WorkloadSummary | None) -> float | None:
    """The dense network's metric that Δ is taken against: the record's own, or else that of its seed."""
    own = metric_value(record, record.dense_metrics)
    return own if own is not None or workload is None else workload.dense_by_seed.get(seed_of(record))


def summarise(
    records: Sequence[Record], configs: Mapping[str, Cell], labels: Mapping[str, tuple[str, str]]
) -> dict[str, WorkloadSummary]:
    """The workloads of all records, by label."""
    found: dict[str, WorkloadSummary] = {}
    finished: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        cell, name = configs[record.cell_id], labels[record.cell_id][0]
        shared = found.get(name)
        if shared is None:
            w = cell.workload
            shared = found[name] = WorkloadSummary(
                name,
                w.task,
                w.dataset,
                w.model,
                epochs=w.epochs.model_dump(),
                options=w.options,
                weights=Path(w.weights.path).name if w.weights else "",
                protect=w.protect or (),
            )
        if record.status == "finished":
            _add(shared, record, cell)
            finished[name].append(record)
    for name, shared in found.items():
        shared.latencies = pooled(finished[name])
        timed = [[machine for machine, _ in timings(record)] for record in finished[name]]
        shared.first_timed = tuple(dict.fromkeys(machines[0] for machines in timed if machines))
        shared.conditions = tuple(dict.fromkeys(machine.conditions for machines in timed for machine in machines))
        shared.digits = digits_for(shared.dense_by_seed.values())
    return found


def digits_for(values: Iterable[float]) -> int:
    """Decimals that a metric of such values is shown with: 4 for a share of one, else 2."""
    return 2 if max(map(abs, values), default=100.0) >= 2 else 4


def _add(shared: WorkloadSummary, record: Record, cell: Cell) -> None:
    """Take from a finished record what the summary does not know yet."""
    if not shared.metric:
        shared.metric, shared.unit = record.metric_name, record.metric_unit
        shared.higher_is_better = record.higher_is_better
    dense = metric_value(record, record.dense_metrics)
    # A cell that is trained from scratch started from no dense network; another cell's of the seed goes before.
    if dense is not None and (cell.seed not in shared.dense_by_seed or cell.needs_dense):
        shared.dense_by_seed[cell.seed] = dense
    shared.macs_dense = shared.macs_dense or record.macs_dense
    shared.params_dense = shared.params_dense or record.params_dense
    shared.peak_memory_dense = shared.peak_memory_dense or record.peak_memory_dense
    shared.input_shape = shared.input_shape or tuple(record.input_shape)
    prefix = f"{shared.dataset}: "
    notes = [note.removeprefix(prefix) for note in record.notes if note.startswith(prefix)]
    shared.data_notes = tuple(dict.fromkeys((*shared.data_notes, *notes)))
    for reference, metrics in record.reference_metrics.items():
        value = metrics.get(record.metric_name)
        if value is not None and math.isfinite(value):
            shared.references.setdefault(reference, value)
