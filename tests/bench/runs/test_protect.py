"""Layers that a suite protects keep their widths in every cell, whatever the method."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.structure.files import load_pruned, read_pruning
from bench.structure.graph import PruningGraph
from bench.structure.surgery import mask, prune
from tasks.models.resnet import cifar_resnet
from tests.bench.runs.tiny import prunebench, records
from tests.bench.structure.networks import assert_same, outputs, randomise

SUITE = """
name = "tiny"
methods = ["l1", "gdp"]
controls = ["uniform-scratch"]
budgets = [0.7]
seeds = [0]
protect = ["layer1.*"]

[[workloads]]
task = "classification"
dataset = "digits"
model = "resnet8"
name = "from"
train_size = 64
epochs = { dense = 1, search = 1, recovery = 1 }
train = { batch_size = 32, precision = "fp32" }

[[workloads]]
task = "classification"
dataset = "digits"
model = "resnet8"
name = "to"
train_size = 64
protect = ["layer1.*", "layer3.0.conv1"]
transfer = { from = "from", methods = ["l1"] }
epochs = { dense = 1, search = 1, recovery = 1 }
train = { batch_size = 32, precision = "fp32" }
"""


def test_protected_layers_keep_their_widths_in_every_cell(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(SUITE)
    assert prunebench(monkeypatch, "run", "tiny.toml", "--quiet") == 0
    made = records(tmp_path)
    assert len(made) == 2 * 3 + 1 and sum(r.config.transfer is not None for r in made) == 1
    x = torch.randn(1, 1, 16, 16)
    for record in made:
        assert record.status == "finished" and record.audit and record.audit.within
        (folder,) = (tmp_path / "mlartifacts").glob(f"*/{record.run_id}/artifacts/model")
        dense = randomise(cifar_resnet(8, 10, 1)).eval()
        smaller, pruning = load_pruned(folder, dense), read_pruning(folder)
        protected = ["layer1.0.conv1", "layer1.0.conv2", *["layer3.0.conv1"] * (record.config.workload.name == "to")]
        for name in protected:
            assert smaller.get_submodule(name).out_channels == dense.get_submodule(name).out_channels
            assert name not in {g.name for g in record.groups}
            assert record.left_whole[{"layer1.0.conv2": "conv1"}.get(name, name)] == "protected by the caller"
        assert smaller.layer2[0].conv1.out_channels < 32  # pyright: ignore
        graph = PruningGraph.trace(dense, x, protect=record.config.workload.protect or ())
        assert_same(outputs(mask(dense, graph, pruning), x), outputs(prune(dense, graph, pruning), x))
    capsys.readouterr()
    assert prunebench(monkeypatch, "export", made[0].cell_id, "--out", "out", "--no-onnx") == 0
    text = (tmp_path / "reports" / "tiny" / "README.md").read_text()
    assert "protected layer1.\\*" in text and "protected layer1.\\*, layer3.0.conv1" in text
