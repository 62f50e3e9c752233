"""Runs jobs through SLURM, by way of submitit."""

from __future__ import annotations

import os
import subprocess
import threading
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


class SlurmCluster:
    """One SLURM job for each of ours, `workers` of them at a time, with what the resources say.

    What they do not say: a day, the cores of `threads`, a GPU unless the device is the CPU, and the cluster's own
    defaults. SBATCH_* variables go before all of it, as they do for sbatch.

    `PRUNEBENCH_SLURM_TEST=1` runs the same path in local processes, without a cluster.

    Raises:
        RequestError: submitit is not installed.
    """

    at_once: int | None = None
    retries_alone = False

    def __init__(self, workers: int) -> None:
        require_extra("slurm", module="submitit")
        self._workers = workers

    def machines(self) -> int | None:
        """How many nodes SLURM names; None where it does not say.

        Raises:
            RequestError: there is no SLURM here.
        """
        if _kind() == "local":
            return 1
        try:
            command = ["sinfo", "-h", "-N", "-o", "%N"]
            named = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        except FileNotFoundError:
            raise RequestError("executor 'slurm' cannot be used here: there is no command sinfo") from None
        except (OSError, subprocess.SubprocessError):
            return None
        return len(set(named.stdout.split())) or None

    def start(self, settings: Settings, emit: Emit) -> Emit:
        import submitit

        require_any_device("slurm", settings)
        cluster = _kind()
        try:
            self._executor = submitit.AutoExecutor(folder=settings.work / "slurm", cluster=cluster)
        except RuntimeError as error:
            raise RequestError(f"executor 'slurm' cannot be used here: {error}") from None
        own = settings.resources
        cpus = own.cpus or max(1, settings.threads)
        gpus = 0 if cluster == "local" else whole_gpus(settings)
        self._executor.update_parameters(
            timeout_min=own.minutes or 24 * 60, gpus_per_node=gpus, cpus_per_task=cpus, name="prunebench"
        )
        if own.memory_bytes:
            self._executor.update_parameters(mem_gb=own.memory_bytes / 2**30)
        if cluster == "slurm":
            named = {"partition": own.partition, "account": own.account}
            given = {f"slurm_{name}": value for name, value in named.items() if value}
            self._executor.update_parameters(slurm_array_parallelism=self._workers, **given)
        self._settings = replace(settings, threads=settings.threads or own.cpus or 0)
        return emit

    def submit(self, jobs: Sequence[Job]) -> list[Future[Outcome]]:
        """Submit the jobs as one array."""
        with self._executor.batch():
            handles = [self._executor.submit(run_elsewhere, job, self._settings, ignore) for job in jobs]
        futures: dict[Any, Future[Outcome]] = {handle: Future() for handle in handles}
        for handle in handles if _kind() == "local" else ():
            handle._results_timeout_s = 1  # local files are there at once; shared ones get 15 s to appear
        threading.Thread(target=_watch, args=(futures,), daemon=True).start()
        return list(futures.values())

    def reason(self, error: Exception) -> str:
        return str(error)

    def stop(self) -> None:
        """Nothing to do: jobs that were submitted go on in the cluster, also where the caller gives up."""


def whole_gpus(settings: Settings) -> int:
    """GPUs of each job: one, unless the resources say otherwise.

    Raises:
        RequestError: a part of one, which SLURM does not give.
    """
    gpus = settings.resources.gpus_for(settings.device)
    if gpus is not None and gpus != int(gpus):
        raise RequestError(f"gpus = {gpus:g} is not allowed with executor 'slurm', which gives whole GPUs; use 0 or 1")
    return 1 if gpus is None else int(gpus)


def _kind() -> str:
    """`local` where the cluster is only pretended."""
    return "local" if os.environ.get("PRUNEBENCH_SLURM_TEST") == "1" else "slurm"


def _watch(futures: Mapping[Any, Future[Outcome]]) -> None:
    """Hand on what submitit's jobs return, as they end, and what is known of those that return nothing."""
    import submitit

    # A look at a job is a look for its file; SLURM itself is asked once a minute, whatever stands here.
    seconds = min(10.0, 1 + len(futures) / 100)
    for handle in submitit.helpers.as_completed(list(futures), poll_frequency=seconds):
        try:
            futures[handle].set_result(handle.result())
        except Exception as error:
            futures[handle].set_exception(RuntimeError(_loss(handle, error)))


def _loss(handle: Any, error: Exception) -> str:
    """What happened to a job without a result; its own output would hold too much for a sentence."""
    from submitit.core.utils import FailedJobError

    where = f"its output is in {handle.paths.stderr}"
    if isinstance(error, FailedJobError):
        raised = str(error).split("-" * 20)[1].strip("-\n ").splitlines()[-1]
        return f"its worker failed: {raised[:200]}; {where}"
    return f"its worker was lost: SLURM job {handle.job_id} ended without a result in state {handle.state}; {where}"
