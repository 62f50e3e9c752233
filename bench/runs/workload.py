"""A workload as one process holds it: its task, its data and the structure of its network."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import RequestError
from bench.interface import registry
from bench.interface.cell import Workload
from bench.interface.loading import set_workers
from bench.interface.own_network import source_of
from bench.interface.task import Splits, Task
from bench.runs.job import Settings
from bench.structure.graph import PruningGraph
from bench.training.device import resolve_device
from bench.training.recovery import fresh_network
from bench.training.weights import load_weights

KEPT_GRAPHS = 8
"""Graphs that a process keeps: one a network, small beside the network's weights."""


@dataclass(frozen=True)
class LoadedWorkload:
    """A workload with its data in memory."""

    workload: Workload
    task: Task
    data: Splits
    device: torch.device
    example: Tensor
    """One input sample, [1, C, H, W], on the CPU."""

    def fresh_network(self, seed: int) -> nn.Module:
        """The dense network, untrained, with weights that depend on the seed alone."""
        return fresh_network(self.task, self.data.info, seed)

    def initial_network(self, seed: int) -> tuple[nn.Module, list[str]]:
        """What the dense network's training starts from: the given weights, or fresh ones; and notes on the weights.

        Raises:
            RequestError: the weights' file is missing, changed or of another kind, or does not fit the network.
        """
        model, weights = self.fresh_network(seed), self.workload.weights
        if weights is None:
            return model, []
        return model, load_weights(model, Path(weights.path), weights.sha256)

    def graph(self, model: nn.Module) -> PruningGraph:
        """The structure of `model`, which must be a dense network of this workload, whatever its weights.

        A network is traced once in a process: the graph depends on the architecture and on the input's size, and the
        check that a trace ends with draws its own norms and biases, so every network of a workload has the same graph.
        """
        protect = self.workload.protect or ()
        key = json.dumps([self.workload.task, task_options(self.workload), dataclasses.asdict(self.data.info), protect])
        graph = _graphs.pop(key, None)
        if graph is None:
            graph = PruningGraph.trace(model, self.example, protect=protect)
        _graphs[key] = graph  # the last entry is the one used last
        while len(_graphs) > KEPT_GRAPHS:
            del _graphs[next(iter(_graphs))]
        return graph


_graphs: dict[str, PruningGraph] = {}


def load_workload(workload: Workload, settings: Settings) -> LoadedWorkload:
    """The workload's task and data.

    Raises:
        RequestError: an option, a data set or a device that cannot be had.
    """
    require_same_code(workload)
    set_workers(min(8, settings.threads) if settings.workers is None and settings.threads else settings.workers)
    task = registry.make_task(workload.task, task_options(workload))
    data = load_data(workload, settings.data_root, download=settings.download)
    return LoadedWorkload(workload, task, data, resolve_device(settings.device), task.example(data.info))


def require_same_code(workload: Workload) -> None:
    """Refuse a network of the user's own whose code is not what the workload's identity says."""
    if workload.code is not None and source_of(workload.code.path).sha256 != workload.code.sha256:
        raise RequestError(f"the code of {workload.model} changed since the suite was read; run the suite again")


def load_data(workload: Workload, root: Path | None, *, download: bool = False) -> Splits:
    """The workload's data. A process keeps the two data sets that it used last.

    Raises:
        DataError: what is missing or unreadable.
    """
    return _read(workload.task, json.dumps(task_options(workload)), root, download)


@lru_cache(maxsize=2)
def _read(task: str, options: str, root: Path | None, download: bool) -> Splits:
    return registry.make_task(task, json.loads(options)).load(root, download=download)


def task_options(workload: Workload) -> dict[str, Any]:
    """The fields of the workload's task adapter."""
    model = workload.code.path if workload.code else workload.model
    return {"dataset": workload.dataset, "model": model, **workload.options}
