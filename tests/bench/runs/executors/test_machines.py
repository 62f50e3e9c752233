"""A store that is a file of one machine is refused where jobs run on several."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.errors import RequestError
from bench.runs.agenda import make_agenda
from bench.runs.executors import ray_cluster
from bench.runs.executors.in_process import InProcess
from bench.runs.executors.machines import require_common_store
from bench.runs.executors.ray_cluster import RayCluster
from bench.runs.executors.slurm_cluster import SlurmCluster
from bench.runs.job import Settings
from bench.runs.matrix import run_matrix
from tests.bench.runs.test_agenda import CELLS

FILE = Settings(suite="s", tracking_uri="sqlite:////data/mlflow.db")
SERVER = Settings(suite="s", tracking_uri="http://h:5000")


class Ray:
    """A cluster of so many nodes, and one that has left."""

    def __init__(self, nodes: int) -> None:
        self.count = nodes

    def nodes(self) -> list[dict[str, object]]:
        return [{"NodeID": str(n), "Alive": n < self.count} for n in range(self.count + 1)]


def test_ray_on_two_nodes_needs_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ray_cluster, "_connected", lambda: Ray(2))
    with pytest.raises(
        RequestError, match=r"2 machines cannot share .*/data/mlflow\.db.*`mlflow server .*--tracking-uri"
    ):
        run_matrix(make_agenda(CELLS, {}), FILE, RayCluster(1))
    assert not list(tmp_path.iterdir())
    require_common_store(RayCluster(1), SERVER)
    monkeypatch.setattr(ray_cluster, "_connected", lambda: Ray(1))
    require_common_store(RayCluster(1), FILE)
    require_common_store(InProcess(), FILE)


@pytest.mark.parametrize(
    ("says", "machines"), [("echo a; echo b; echo a", "2 machines"), ("exit 1", "an unknown number")]
)
def test_slurm_on_several_nodes_needs_a_server(
    says: str, machines: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("PRUNEBENCH_SLURM_TEST", raising=False)
    _program(tmp_path / "sinfo", says)
    with pytest.raises(RequestError, match=machines):
        require_common_store(SlurmCluster(1), FILE)
    require_common_store(SlurmCluster(1), SERVER)
    _program(tmp_path / "sinfo", "echo a; echo a")  # one node, in two partitions
    require_common_store(SlurmCluster(1), FILE)
    monkeypatch.setenv("PRUNEBENCH_SLURM_TEST", "1")
    _program(tmp_path / "sinfo", "exit 1")
    require_common_store(SlurmCluster(1), FILE)


def _program(file: Path, text: str) -> None:
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
