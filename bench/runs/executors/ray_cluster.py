"""Runs jobs as tasks on a Ray cluster."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from bench.errors import RequestError
from bench.runs.events import Emit, ignore
from bench.runs.executors.elsewhere import run_elsewhere
from bench.runs.executors.extras import require_extra
from bench.runs.executors.machines import require_any_device
from bench.runs.job import Job, Outcome, Settings


class RayCluster:
    """Tasks on the Ray cluster that RAY_ADDRESS names, or on a local one; `workers` of them share it.

    What the resources do not say is shared out: each task gets its part of the cores, and of the GPUs a whole number,
    or such a part of one that as many tasks as have to share it fill it.

    Raises:
        RequestError: Ray is not installed.
    """

    retries_alone = False

    def __init__(self, workers: int) -> None:
        require_extra("ray", module="ray")
        self.at_once: int | None = workers
        self._workers = workers

    def machines(self) -> int:
        """How many nodes of the cluster are alive."""
        ray = _connected()
        return len({node["NodeID"] for node in ray.nodes() if node["Alive"]})

    def start(self, settings: Settings, emit: Emit) -> Emit:
        require_any_device("ray", settings)
        ray = _connected()
        own, there = settings.resources, ray.cluster_resources()
        cpus = own.cpus or max(1, int(there.get("CPU", 1)) // self._workers)
        gpus = own.gpus_for(settings.device)
        if own.devices_per_cell > 1 and settings.device == "auto" and not there.get("GPU"):
            gpus = 0  # its processes compute on the CPU
        if gpus is None:
            gpus = part_of_gpus(there.get("GPU", 0), self._workers)
        _require_room(ray.nodes(), {"CPU": cpus, "GPU": gpus, "memory": own.memory_bytes or 0})
        memory = {"memory": own.memory_bytes} if own.memory_bytes else {}
        self._task: Any = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0, **memory)(run_elsewhere)
        self._settings = replace(settings, threads=settings.threads or cpus)
        return emit

    def submit(self, jobs: Sequence[Job]) -> list[Future[Outcome]]:
        return [self._task.remote(job, self._settings, ignore).future() for job in jobs]

    def reason(self, error: Exception) -> str:
        return f"its worker was lost: {str(error).strip().splitlines()[-1][:200]}"

    def stop(self) -> None:
        """Nothing to do: tasks hold their resources only while they run, and others may use this connection to Ray."""


def part_of_gpus(gpus: float, workers: int) -> float:
    """GPUs of each of so many tasks: 1, or the part of one by which they fill all GPUs; 0 where there are none."""
    return 1 / max(1, math.ceil(workers / gpus)) if gpus >= 1 else 0.0


def _require_room(nodes: Sequence[Any], wanted: Mapping[str, float]) -> None:
    """Refuse what no node has: Ray would wait for such a node without end.

    Raises:
        RequestError: with what the largest node has.
    """
    alive = [node.get("Resources", {}) for node in nodes if node["Alive"]]
    if any(all(node.get(kind, 0) >= amount for kind, amount in wanted.items()) for node in alive):
        return
    words = {kind: _words(kind, amount) for kind, amount in wanted.items() if amount}
    most = {kind: _words(kind, max((node.get(kind, 0) for node in alive), default=0)) for kind in words}
    raise RequestError(
        f"no node of the Ray cluster has {', '.join(words.values())} for a cell; the most that one has: "
        f"{', '.join(most.values())}"
    )


def _words(kind: str, amount: float) -> str:
    return f"{amount / 2**30:.1f} GiB of memory" if kind == "memory" else f"{amount:g} {kind}s"


def _connected() -> Any:
    """The module `ray`, once it is connected to its cluster."""
    import ray

    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    return ray
