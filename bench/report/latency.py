"""The dense network's latency, pooled over all cells of a workload on one machine, and what that says of speedups.

Each cell measures its pruned network and its dense one in turn, and its speedup is the ratio of the two. The dense
network is the same in all cells of a workload but for its weights, so that its latencies differ by what disturbed the
machine: where they scatter, no speedup is stated.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from bench.interface.record import Record

LARGEST_RANGE = 0.20
"""Interquartile range over median above which latencies are not believed."""


class Machine(NamedTuple):
    """Where and how a latency was measured."""

    processor: str
    batch: int
    threads: int

    @property
    def words(self) -> str:
        """`batch 1, 2 threads, on EPYC`"""
        return f"batch {self.batch}, {self.threads} thread{'s' * (self.threads != 1)}, on {self.processor}"


@dataclass(frozen=True)
class DenseLatency:
    """The dense network's latency on one machine, in milliseconds."""

    machine: Machine
    values: tuple[float, ...]
    """The median of each cell."""
    own_range: float
    """Interquartile range over the runs of a cell, the largest."""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def iqr(self) -> float:
        """Interquartile range over cells; of one cell, over its runs."""
        if len(self.values) < 2:
            return self.own_range
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return high - low

    @property
    def relative(self) -> float:
        """The interquartile range over the median."""
        return self.iqr / self.median if self.median > 0 else 0.0

    @property
    def steady(self) -> bool:
        """Whether speedups can be believed."""
        return self.relative <= LARGEST_RANGE

    @property
    def words(self) -> str:
        """Median, range, and how both were measured, in a line."""
        cells = f"over {len(self.values)} cells" if len(self.values) > 1 else "over the runs of one cell"
        left_out = f"; above {LARGEST_RANGE:.0%}, so that speedups are left out" * (not self.steady)
        return (
            f"dense latency {self.median:.2f} ms (median; interquartile range {self.relative:.0%} {cells}{left_out}; "
            f"{self.machine.words})"
        )


def machine_of(record: Record) -> Machine | None:
    """Where the latencies of a record were measured; None where it has none."""
    latency = record.latency_dense
    if latency is None:
        return None
    device = record.environment.get("device", "")
    known = record.environment.get("processor", "") if device in ("", "cpu") else device
    return Machine(known or latency.device, latency.batch_size, latency.threads)


def pooled(records: Iterable[Record]) -> dict[Machine, DenseLatency]:
    """The dense network's latency by machine, from the finished records of one workload."""
    found: dict[Machine, list[Record]] = defaultdict(list)
    for record in records:
        machine = machine_of(record)
        if machine is not None and record.status == "finished":
            found[machine].append(record)
    return {
        machine: DenseLatency(
            machine,
            tuple(r.latency_dense.median_ms for r in of_machine if r.latency_dense),
            max(r.latency_dense.iqr_ms for r in of_machine if r.latency_dense),
        )
        for machine, of_machine in sorted(found.items())
    }


def speedup_of(record: Record, latencies: Mapping[Machine, DenseLatency]) -> float | None:
    """Latency of the dense network over that of the pruned one; None where the machine's latencies scatter.

    Args:
        latencies: of the record's workload.
    """
    dense, pruned, machine = record.latency_dense, record.latency_pruned, machine_of(record)
    if dense is None or pruned is None or pruned.median_ms <= 0 or machine is None:
        return None
    of_machine = latencies.get(machine)
    return dense.median_ms / pruned.median_ms if of_machine is None or of_machine.steady else None
