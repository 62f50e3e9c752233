"""What each executor asks for and hands out: GPUs of its own, shares of one, cores, memory, time, a partition."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.errors import RequestError
from bench.runs.events import ignore
from bench.runs.executors import slurm_cluster, worker_processes
from bench.runs.executors.ray_cluster import RayCluster, part_of_gpus
from bench.runs.executors.slurm_cluster import SlurmCluster
from bench.runs.executors.worker_processes import WorkerProcesses
from bench.runs.job import Job, Settings
from bench.runs.resources import Resources
from bench.runs.suite import load_suite
from tests.bench.runs.executors import pretended

JOBS = [Job.of_cell(cell) for cell in load_suite("demo", ["seeds=[0]"]).cells[:5]]


def settings(tmp_path: Path, device: str = "auto", **resources: Any) -> Settings:
    return Settings(
        suite="s", tracking_uri="sqlite:///x.db", work=tmp_path, device=device, resources=Resources(**resources)
    )


def test_each_worker_process_has_its_gpu_before_it_imports_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.runs.place.visible_gpus", lambda: ["4", "6"])
    monkeypatch.setattr(worker_processes, "_serve", pretended.serve)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    executor = WorkerProcesses(3)
    executor.start(settings(tmp_path), ignore)
    try:
        outcomes = [future.result(timeout=60) for future in executor.submit(JOBS[:3])]
    finally:
        executor.stop()
    assert [outcome.where for outcome in outcomes] == ["4", "6", "4"]
    assert {outcome.summary for outcome in outcomes} == {"False"}
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,6"


@pytest.fixture(scope="module")
def ray_with_gpus() -> Iterator[None]:
    """A cluster of this machine alone, which says that it has four cores and two GPUs."""
    import ray

    ray.init(
        num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, _memory=2**32
    )
    yield
    ray.shutdown()


def on_ray(chosen: Settings, workers: int, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    monkeypatch.setattr("bench.runs.executors.ray_cluster.run_elsewhere", pretended.run_job)
    executor = RayCluster(workers)
    executor.start(chosen, ignore)
    outcomes = [future.result(timeout=120) for future in executor.submit(JOBS[:workers])]
    return [(outcome.summary, outcome.where) for outcome in outcomes]


def test_ray_gives_each_cell_what_it_asks_for(
    ray_with_gpus: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = on_ray(settings(tmp_path), 3, monkeypatch)
    assert {given for given, _ in shares} == {"CPU=1 GPU=0.5 threads=1"}
    assert {gpu for _, gpu in shares} == {"0", "1"}
    asked = on_ray(settings(tmp_path, devices_per_cell=2, cpus=2, memory="1G"), 1, monkeypatch)
    assert asked == [(f"CPU=2 GPU=2 memory={2**30:g} threads=2", "0,1")]


def test_ray_is_not_asked_for_what_no_node_has(ray_with_gpus: None, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"no node of the Ray cluster has 4 CPUs, 3 GPUs .*: 4 CPUs, 2 GPUs$"):
        RayCluster(1).start(settings(tmp_path, devices_per_cell=3), ignore)
    with pytest.raises(RequestError, match="--device cuda:1 is not allowed with executor 'ray'"):
        RayCluster(1).start(settings(tmp_path, "cuda:1"), ignore)


def test_tasks_share_gpus_so_that_all_are_used() -> None:
    assert [part_of_gpus(2, workers) for workers in (1, 2, 3, 4, 5)] == [1, 1, 1 / 2, 1 / 2, 1 / 3]
    assert part_of_gpus(0, 2) == 0


SBATCH = '#!/bin/sh\nfor last; do :; done\ncp "$last" "{folder}/sent"\necho Submitted batch job 12\n'


def script(chosen: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The options in the script that sbatch is given."""
    for name, text in {"sbatch": SBATCH.format(folder=folder), "srun": "#!/bin/sh\n"}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("PRUNEBENCH_SLURM_TEST", raising=False)
    monkeypatch.setattr(slurm_cluster, "_watch", lambda futures: None)
    executor = SlurmCluster(2)
    executor.start(chosen, ignore)
    executor.submit(JOBS[:2])
    lines = (folder / "sent").read_text().splitlines()
    return {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")}


def test_slurm_is_asked_for_what_the_resources_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = settings(tmp_path, devices_per_cell=4, cpus=16, memory="1.5G", time="2d", partition="long", account="team")
    options = script(chosen, tmp_path, monkeypatch)
    assert options >= {
        "gpus-per-node=4", "cpus-per-task=16", "mem=1536MB", "time=2880", "partition=long", "account=team",
        "array=0-1%2",
    }  # fmt: skip


def test_slurm_gets_one_gpu_and_a_day_where_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = script(settings(tmp_path), tmp_path, monkeypatch)
    assert options >= {"gpus-per-node=1", "time=1440", "cpus-per-task=1"}
    assert not any(option.startswith(("partition", "account", "mem=")) for option in options)
    assert not any("gpus" in option and "=0" not in option for option in script(
        settings(tmp_path, "cpu"), tmp_path, monkeypatch))  # fmt: skip
    with pytest.raises(RequestError, match=r"gpus = 0\.5 is not allowed with executor 'slurm'"):
        SlurmCluster(1).start(settings(tmp_path, gpus=0.5), ignore)
