"""Where cells run: in this process, in worker processes, on a Ray cluster, through SLURM.

Every executor runs `run_dense` and `run_cell` and yields their outcomes; the record itself is in MLflow by then. Dense
networks come first, since all cells of a workload and seed start from them.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing.managers import SyncManager
from typing import Any, Protocol

from bench.errors import RequestError
from bench.interface.cell import Cell, Workload, dense_id
from bench.runs.cell_run import Emit, Outcome, Settings, run_cell, run_dense

EXECUTORS = ("local", "ray", "slurm")


@dataclass(frozen=True)
class Job:
    """A dense network (`seed`) or a cell to run."""

    workload: Workload
    seed: int
    cell: Cell | None = None

    @property
    def id(self) -> str:
        return self.cell.id if self.cell else dense_id(self.workload, self.seed)

    @property
    def label(self) -> str:
        return self.cell.label if self.cell else f"{self.workload.name} dense seed {self.seed}"

    @property
    def epochs(self) -> int:
        if self.cell:
            return self.cell.search_epochs + self.cell.recovery_epochs
        return self.workload.epochs.dense

    def __call__(self, settings: Settings, emit: Emit) -> Outcome:
        if self.cell:
            return run_cell(self.cell, settings, emit)
        return run_dense(self.workload, self.seed, settings, emit)


class Executor(Protocol):
    def run(self, jobs: Sequence[Job], settings: Settings, emit: Emit) -> Iterator[Outcome]: ...


def make_executor(name: str, jobs: int) -> Executor:
    """An executor by name; `jobs` is how many cells run at a time.

    Raises:
        RequestError: an unknown name, or an extra that is not installed.
    """
    if jobs < 1:
        raise RequestError(f"--jobs {jobs} is not allowed; use 1 or more")
    if name == "local":
        return Processes(jobs) if jobs > 1 else Here()
    if name == "ray":
        _require("ray", "ray")
        return OnRay(jobs)
    if name == "slurm":
        _require("submitit", "slurm")
        return OnSlurm(jobs)
    raise RequestError(f"unknown executor {name!r}; available: {', '.join(EXECUTORS)}")


def _require(module: str, extra: str) -> None:
    import importlib.util

    if importlib.util.find_spec(module) is None:
        raise RequestError(f"executor {extra!r} needs the extra of that name: pip install 'prunebench[{extra}]'")


class Here:
    """One after the other, in this process."""

    def run(self, jobs: Sequence[Job], settings: Settings, emit: Emit) -> Iterator[Outcome]:
        for job in jobs:
            yield job(settings, emit)


@dataclass
class Processes:
    """Side by side in fresh worker processes, which share the cores."""

    workers: int

    def run(self, jobs: Sequence[Job], settings: Settings, emit: Emit) -> Iterator[Outcome]:
        # Torch is imported once, by a server that forks the workers before anything runs in it.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["bench.runner"])
        threads = settings.threads or max(1, (os.cpu_count() or 1) // self.workers)
        settings = replace(settings, threads=threads)
        manager = SyncManager(ctx=context)
        manager.start(_die_with_parent)
        with manager:
            events = manager.Queue()
            stop = threading.Event()
            listener = threading.Thread(target=_forward, args=(events, emit, stop), daemon=True)
            listener.start()
            left = list(jobs)
            try:
                while left:
                    done: set[str] = set()
                    with ProcessPoolExecutor(self.workers, context, _die_with_parent) as pool:
                        futures = {pool.submit(_in_worker, job, settings, events): job for job in left}
                        for future in as_completed(futures):
                            try:
                                outcome = future.result()
                            except BrokenProcessPool:
                                continue
                            done.add(futures[future].id)
                            yield outcome
                    if not done:
                        # Every worker died before any job ended: run the first one alone to find the culprit.
                        yield from self._alone(left[0], settings, events, context)
                        done = {left[0].id}
                    left = [job for job in left if job.id not in done]
            finally:
                stop.set()
                listener.join(timeout=5)

    @staticmethod
    def _alone(job: Job, settings: Settings, events: Any, context: Any) -> Iterator[Outcome]:
        with ProcessPoolExecutor(1, context, _die_with_parent) as pool:
            try:
                yield pool.submit(_in_worker, job, settings, events).result()
            except BrokenProcessPool:
                kind = "cell" if job.cell else "dense"
                reason = "its worker process died (out of memory, or killed from outside)"
                yield Outcome(job.id, job.label, kind, "failed", reason)


def _die_with_parent() -> None:
    """End this worker when the process that asked for it is gone: its cell is then free to be taken up again."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        while parent is not None and parent.is_alive():
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _in_worker(job: Job, settings: Settings, events: Any) -> Outcome:
    return job(settings, events.put)


def _forward(events: Any, emit: Emit, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            emit(events.get(timeout=0.2))
        except queue.Empty:
            continue
        except (EOFError, OSError):
            return


@dataclass
class OnRay:
    """Tasks on the Ray cluster that RAY_ADDRESS names, or on a local one."""

    workers: int

    def run(self, jobs: Sequence[Job], settings: Settings, emit: Emit) -> Iterator[Outcome]:
        import ray
        from ray.exceptions import RayError

        if not ray.is_initialized():
            ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
        resources = ray.cluster_resources()
        cpus = max(1, int(resources.get("CPU", 1)) // self.workers)
        gpus = 0.0 if settings.device == "cpu" else min(1.0, resources.get("GPU", 0) / self.workers)
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(_quietly)
        settings = replace(settings, threads=settings.threads or cpus)
        pending = {task.remote(job, settings): job for job in jobs}
        while pending:
            (ready,), _ = ray.wait(list(pending), num_returns=1)
            job = pending.pop(ready)
            try:
                outcome: Any = ray.get(ready)
            except RayError as error:
                outcome = _lost(job, error)
            emit({"event": "end", "id": job.id, "label": job.label, "kind": outcome.kind, "outcome": outcome})
            yield outcome


@dataclass
class OnSlurm:
    """One SLURM job a cell, through submitit. Partition and the like come from SBATCH_* variables.

    `PRUNEBENCH_SLURM_TEST=1` runs the same path in local processes, without a cluster.
    """

    workers: int

    def run(self, jobs: Sequence[Job], settings: Settings, emit: Emit) -> Iterator[Outcome]:
        import submitit

        cluster = "local" if os.environ.get("PRUNEBENCH_SLURM_TEST") == "1" else "slurm"
        try:
            executor = submitit.AutoExecutor(folder=settings.work / "slurm", cluster=cluster)
        except RuntimeError as error:
            raise RequestError(f"executor 'slurm' cannot be used here: {error}") from None
        gpus = 0 if settings.device == "cpu" or cluster == "local" else 1
        executor.update_parameters(
            timeout_min=24 * 60, gpus_per_node=gpus, cpus_per_task=max(1, settings.threads), name="prunebench"
        )
        if cluster == "slurm":
            executor.update_parameters(slurm_array_parallelism=self.workers)
        with executor.batch():
            submitted = [executor.submit(_quietly, job, settings) for job in jobs]
        handles = dict(zip(submitted, jobs, strict=True))
        for handle in submitit.helpers.as_completed(submitted):
            job = handles[handle]
            try:
                outcome = handle.result()
            except Exception as error:
                outcome = _lost(job, error)
            emit({"event": "end", "id": job.id, "label": job.label, "kind": outcome.kind, "outcome": outcome})
            yield outcome


def _quietly(job: Job, settings: Settings) -> Outcome:
    return job(settings, lambda event: None)


def _lost(job: Job, error: Exception) -> Outcome:
    reason = f"its worker was lost: {str(error).strip().splitlines()[-1][:200]}"
    return Outcome(job.id, job.label, "cell" if job.cell else "dense", "failed", reason)
