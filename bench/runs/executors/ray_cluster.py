"""Runs jobs as tasks on a Ray cluster."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from bench.runs.events import Emit, ignore
from bench.runs.executors.extras import require_extra
from bench.runs.job import Job, Outcome, Settings


class RayCluster:
    """Tasks on the Ray cluster that RAY_ADDRESS names, or on a local one; `workers` of them share it.

    Raises:
        RequestError: Ray is not installed.
    """

    retries_alone = False

    def __init__(self, workers: int) -> None:
        require_extra("ray", module="ray")
        self.at_once: int | None = workers  # each takes its share of the CPUs, so that no more of them fit
        self._workers = workers

    def machines(self) -> int:
        """How many nodes of the cluster are alive."""
        ray = _connected()
        return len({node["NodeID"] for node in ray.nodes() if node["Alive"]})

    def start(self, settings: Settings, emit: Emit) -> Emit:
        from bench.runs.run_job import run_job  # loads torch

        ray = _connected()
        resources = ray.cluster_resources()
        cpus = max(1, int(resources.get("CPU", 1)) // self._workers)
        gpus = 0.0 if settings.device == "cpu" else min(1.0, resources.get("GPU", 0) / self._workers)
        self._task: Any = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(run_job)
        self._settings = replace(settings, threads=settings.threads or cpus)
        return emit

    def submit(self, jobs: Sequence[Job]) -> list[Future[Outcome]]:
        return [self._task.remote(job, self._settings, ignore).future() for job in jobs]

    def reason(self, error: Exception) -> str:
        return f"its worker was lost: {str(error).strip().splitlines()[-1][:200]}"

    def stop(self) -> None:
        """Nothing to do: tasks hold their resources only while they run, and others may use this connection to Ray."""


def _connected() -> Any:
    """The module `ray`, once it is connected to its cluster."""
    import ray

    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    return ray
