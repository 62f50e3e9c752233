"""What is measured of a cell's networks after the last epoch: metrics on the test split, latency, memory, pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from bench.interface.record import LatencyFigures
from bench.runs.cell.inputs import CellInputs
from bench.structure.measure import Latency, compare_latencies, peak_memory
from bench.training.quiet import quiet
from bench.training.recovery import recovery_recipe

PICTURES = "pictures"
"""Folder of sample pictures, below a cell's own folder and among its run's artifacts."""


@dataclass(frozen=True, kw_only=True)
class PrunedNetworks:
    """The pruned network at the ends of its recovery; both have the same architecture."""

    before: nn.Module
    """As it is judged before recovery."""
    final: nn.Module


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Figures of the dense network and of the pruned one."""

    pruned_metrics: dict[str, float]
    """Before recovery."""
    final_metrics: dict[str, float]
    reference_metrics: dict[str, dict[str, float]]
    """Of baselines that need no network."""
    latency_dense: LatencyFigures
    latency_pruned: LatencyFigures
    peak_memory_dense: int
    """Bytes."""
    peak_memory_pruned: int
    pictures: list[str]
    """File names in the folder that was given."""


def evaluate(inputs: CellInputs, networks: PrunedNetworks, pictures: Path) -> Evaluation:
    """Read the test split, once, and measure. Networks are moved to the device.

    Args:
        pictures: folder that sample pictures are drawn into.
    """
    loaded, dense = inputs.loaded, inputs.dense.model
    task, device, recipe = loaded.task, loaded.device, recovery_recipe(inputs.cell)
    test = loaded.data.test()  # the only reading of the test split in a cell
    pruned_metrics = task.evaluate(networks.before, test, device, recipe)
    final_metrics = task.evaluate(networks.final, test, device, recipe)
    references = task.references(loaded.data, test)
    drawn = task.pictures({"dense": dense, "pruned": networks.final}, test, pictures, device, recipe)
    pair = (dense.to(device), networks.final.to(device))
    example = loaded.example.to(device)
    with quiet() as alone:
        latencies = compare_latencies(pair, example, min_seconds=0.2)
    if not alone:
        inputs.log.note("latency was measured while other cells ran beside: they could not be made to hold still")
    memory = [peak_memory(model, example) for model in pair]
    return Evaluation(
        pruned_metrics=pruned_metrics,
        final_metrics=final_metrics,
        reference_metrics=references,
        latency_dense=_figures(latencies[0]),
        latency_pruned=_figures(latencies[1]),
        peak_memory_dense=memory[0],
        peak_memory_pruned=memory[1],
        pictures=drawn,
    )


def _figures(latency: Latency) -> LatencyFigures:
    return LatencyFigures(
        median_ms=latency.median_ms,
        iqr_ms=latency.iqr_ms,
        batch_size=1,
        threads=latency.threads,
        device=latency.device,
    )
