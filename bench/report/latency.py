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
from functools import cached_property
from typing import NamedTuple

from bench.interface.record import LatencyPair, Record, timed_at

LARGEST_RANGE = 0.20
"""Interquartile range over median above which latencies are not believed."""


class Conditions(NamedTuple):
    """At what a latency was measured, wherever that was."""

    batch: int
    threads: int
    """0 on a GPU, where they mean nothing."""

    @property
    def words(self) -> str:
        """`batch 1, 2 threads`"""
        return timed_at(self.batch, self.threads)


class Machine(NamedTuple):
    """Where and how a latency was measured."""

    processor: str
    batch: int
    threads: int
    """0 on a GPU, where they mean nothing."""

    @property
    def conditions(self) -> Conditions:
        return Conditions(self.batch, self.threads)

    @property
    def words(self) -> str:
        """`batch 1, 2 threads, on EPYC`"""
        return f"{self.conditions.words}, on {self.processor}"


@dataclass(frozen=True)
class DenseLatency:
    """The dense network's latency on one machine, in milliseconds."""

    machine: Machine
    values: tuple[float, ...]
    """The median of each cell."""
    own_range: float
    """Interquartile range over the runs of a cell, the largest."""

    @cached_property
    def median(self) -> float:
        return statistics.median(self.values)

    @cached_property
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


def timings(record: Record) -> list[tuple[Machine, LatencyPair]]:
    """What was measured of a record's networks, and where: at every combination, the first one first."""
    device = record.environment.get("device", "")
    on_cpu = device in ("", "cpu")
    known = record.environment.get("processor", "") if on_cpu else device
    return [
        (Machine(known or pair.dense.device, pair.dense.batch_size, pair.dense.threads if on_cpu else 0), pair)
        for pair in record.latencies
    ]


def pooled(records: Iterable[Record]) -> dict[Machine, DenseLatency]:
    """The dense network's latency by machine, from the finished records of one workload."""
    found: dict[Machine, list[LatencyPair]] = defaultdict(list)
    for record in records:
        if record.status == "finished":
            for machine, pair in timings(record):
                found[machine].append(pair)
    return {
        machine: DenseLatency(
            machine, tuple(pair.dense.median_ms for pair in pairs), max(pair.dense.iqr_ms for pair in pairs)
        )
        for machine, pairs in sorted(found.items())
    }


def speedup(machine: Machine, pair: LatencyPair, latencies: Mapping[Machine, DenseLatency]) -> float | None:
    """Latency of the dense network over that of the pruned one; None where the machine's latencies scatter.

    Args:
        latencies: of the workload.
    """
    if pair.pruned.median_ms <= 0:
        return None
    of_machine = latencies.get(machine)
    return pair.dense.median_ms / pair.pruned.median_ms if of_machine is None or of_machine.steady else None


def speedup_of(record: Record, latencies: Mapping[Machine, DenseLatency]) -> float | None:
    """The speedup at the record's first combination; None where nothing was measured or latencies scatter."""
    return next((speedup(machine, pair, latencies) for machine, pair in timings(record)), None)
