"""What the fast path costs in quality: the demo's dense networks in the recipe's precision and in fp32, seed by seed.

    python -m benchmarks.accuracy [--seeds 3]

Where the recipe's precision is fp32 already, bf16 is tried against it.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

import torch

from bench.interface import registry
from bench.interface.cell import Workload
from bench.runs.suite import load_suite
from bench.runs.workload import load_data, task_options
from bench.training.device import resolve_precision
from bench.training.loop import Phase, train
from bench.training.recovery import fresh_network

CPU = torch.device("cpu")


def quality(workload: Workload, seed: int, precision: str) -> float:
    """The dense network's metric on the test split."""
    task, data = registry.make_task(workload.task, task_options(workload)), load_data(workload, None)
    recipe = workload.train.model_copy(update={"precision": precision})
    model = fresh_network(task, data.info, seed)
    train(model, task, data.visible.train, recipe, Phase("dense", workload.epochs.dense, seed, CPU))
    return task.evaluate(model, data.test(), CPU, recipe)[task.metric]


def of_workload(workload: Workload, seeds: int) -> dict[str, Any]:
    """Differences of the two precisions, in the metric's unit."""
    own = resolve_precision(workload.train, CPU)
    values = {name: [quality(workload, seed, name) for seed in range(seeds)] for name in ("bf16", "fp32")}
    differences = [fast - plain for fast, plain in zip(values["bf16"], values["fp32"], strict=True)]
    return {
        "recipe": own,
        **{name: [round(value, 4) for value in found] for name, found in values.items()},
        "bf16_less_fp32": round(statistics.mean(differences), 4),
        "standard_deviation": round(statistics.stdev(differences), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    workloads = {cell.workload.name: cell.workload for cell in load_suite("demo").cells}
    print(json.dumps({name: of_workload(workload, seeds) for name, workload in workloads.items()}))


if __name__ == "__main__":
    main()
