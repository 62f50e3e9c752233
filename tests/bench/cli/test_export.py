"""`prunebench export`: ONNX of every task's networks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch

from bench.cli.export import write_portable
from bench.interface.task import DataInfo
from bench.runs.suite import suite_from_table
from bench.structure.files import save_pruned
from bench.structure.graph import PruningGraph
from bench.structure.surgery import prune
from tasks.models.edsr import sr_network
from tests.bench.runs.tables import changed_workload
from tests.bench.structure.networks import random_pruning


def test_a_task_without_pretrained_networks_is_exported(tmp_path: Path) -> None:
    model = sr_network("edsr-tiny").eval()
    graph = PruningGraph.trace(model, torch.randn(1, 3, 16, 16))
    pruning = random_pruning(graph, 0)
    save_pruned(tmp_path, prune(model, graph, pruning), pruning)
    table = changed_workload(task="super_resolution", dataset="photographs", model="edsr-tiny", example_size=[16, 16])
    config = suite_from_table(table, "t").cells[0]
    record = SimpleNamespace(config=config, data_info=dataclasses.asdict(DataInfo(3, 16, 16)))
    assert _write_onnx(cast(Any, record), tmp_path) == "model.onnx"
    assert (tmp_path / "model.onnx").stat().st_size > 1000
