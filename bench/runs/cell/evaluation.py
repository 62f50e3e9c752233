"""What is measured of a cell's networks after the last epoch: metrics on the test split, latency, memory, pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from bench.interface.cell import LatencyPlan
from bench.interface.record import LatencyFigures, LatencyPair, Outcomes
from bench.interface.task import Split
from bench.runs.cell.decision import recorded_cell
from bench.runs.cell.inputs import CellInputs
from bench.runs.dense import require_finite
from bench.runs.tracked import ActiveJob
from bench.structure.measure import Latency, compare_latencies, peak_memory
from bench.tracking.mlflow_store import Tracker
from bench.training.device import to_device
from bench.training.quiet import quiet

PICTURES = "pictures"
"""Folder of sample pictures, below a cell's own folder and among its run's artifacts."""


@dataclass(frozen=True, kw_only=True)
class PrunedNetworks:
    """The pruned network at the ends of its recovery; both have the same architecture."""

    before: nn.Module | None
    """As it is judged before recovery; None where it is not."""
    final: nn.Module


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Figures of the dense network and of the pruned one."""

    pruned_metrics: dict[str, float]
    """Before recovery; empty for a network that never had the dense network's weights."""
    final_metrics: dict[str, float]
    outcomes: Outcomes | None
    """Of the final network, sample by sample, where the task gives them."""
    reference_metrics: dict[str, dict[str, float]]
    """Of baselines that need no network."""
    latency_dense: LatencyFigures
    latency_pruned: LatencyFigures
    further_latencies: list[LatencyPair]
    peak_memory_dense: int
    """Bytes."""
    peak_memory_pruned: int
    pictures: list[str]
    """File names in the folder that was given."""


def evaluate(inputs: CellInputs, networks: PrunedNetworks, pictures: Path, active: ActiveJob) -> Evaluation:
    """Read the test split, once, and measure. Networks are moved to the device.

    Args:
        pictures: folder that sample pictures are drawn into.
    """
    loaded, dense = inputs.loaded, inputs.dense.model
    task, device, recipe = loaded.task, loaded.device, inputs.cell.recovery_recipe
    test = loaded.data.test()  # the only reading of the test split in a cell
    pruned_metrics = _before_recovery(inputs, networks.before, test, active.tracker)
    final_metrics, outcomes = _with_outcomes(inputs, networks.final, test)
    require_finite(final_metrics, task.metric)
    references = task.references(loaded.data, test)
    drawn = task.pictures({"dense": dense, "pruned": networks.final}, test, pictures, device, recipe)
    # In the same memory layout, which is worth a tenth of the time.
    pair = (to_device(dense, device), to_device(networks.final, device))
    example = loaded.example.to(device)
    active.stage("latency")
    first, *further = _latencies(inputs, pair, example)
    memory = [peak_memory(model, example) for model in pair]
    return Evaluation(
        pruned_metrics=pruned_metrics,
        final_metrics=final_metrics,
        outcomes=outcomes,
        reference_metrics=references,
        latency_dense=first.dense,
        latency_pruned=first.pruned,
        further_latencies=further,
        peak_memory_dense=memory[0],
        peak_memory_pruned=memory[1],
        pictures=drawn,
    )


def _before_recovery(inputs: CellInputs, network: nn.Module | None, test: Split, tracker: Tracker) -> dict[str, float]:
    """Figures of the pruned network with the weights that pruning left."""
    cell, loaded = inputs.cell, inputs.loaded
    if network is not None:
        return loaded.task.evaluate(network, test, loaded.device, cell.recovery_recipe)
    # A `scratch` control's weights before recovery are in the cell that it takes the architecture from.
    return recorded_cell(cell.source, tracker).pruned_metrics if cell.source else {}


def _with_outcomes(inputs: CellInputs, network: nn.Module, test: Split) -> tuple[dict[str, float], Outcomes | None]:
    """Figures of the final network, and what it made of each sample."""
    task, device, recipe = inputs.loaded.task, inputs.loaded.device, inputs.cell.recovery_recipe
    sampled = getattr(task, "evaluate_samples", None)
    if sampled is None:
        return task.evaluate(network, test, device, recipe), None
    return sampled(network, test, device, recipe)


def _latencies(inputs: CellInputs, pair: tuple[nn.Module, nn.Module], example: Tensor) -> list[LatencyPair]:
    """The dense and the pruned network at every combination that the cell asks for.

    Others hold still for one combination at a time: none waits for longer than its patience.
    """
    plan, log = inputs.cell.latency or LatencyPlan(), inputs.log
    combinations = plan.combinations
    if example.device.type == "cuda" and plan.threads:
        combinations = tuple((batch, None) for batch in plan.batch)
        log.note("latency.threads does not apply on a GPU: latencies were measured at each batch size alone")
    found: list[LatencyPair] = []
    disturbed = False
    for batch, threads in combinations:
        repeated = example.repeat(batch, *(1 for _ in example.shape[1:]))
        with quiet() as alone:
            dense, pruned = compare_latencies(pair, repeated, min_seconds=0.07, threads=threads)
        found.append(LatencyPair(dense=_figures(dense, batch), pruned=_figures(pruned, batch)))
        disturbed |= not alone
    if disturbed:
        log.note("latency was measured while other cells ran beside: they could not be made to hold still")
    return found


def _figures(latency: Latency, batch: int) -> LatencyFigures:
    return LatencyFigures(
        median_ms=latency.median_ms,
        iqr_ms=latency.iqr_ms,
        batch_size=batch,
        threads=latency.threads,
        device=latency.device,
    )
