"""ONNX files compute what the pruned networks do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from bench.errors import CellError
from bench.structure import onnx_export as export
from bench.structure.onnx_export import export_onnx
from bench.structure.surgery import prune
from tests.bench.structure.networks import example_of, graph, network, outputs, random_pruning


@pytest.mark.parametrize(
    "name", ["cifar-resnet20", "torchvision-mobilenet_v3_small", "smp-Unet-resnet18-1", "edsr-tiny-x3"]
)
def test_onnxruntime_computes_the_same(name: str, tmp_path: Path) -> None:
    structure, x = graph(name), example_of(name)
    smaller = prune(network(name), structure, random_pruning(structure, 0)).train()
    path = export_onnx(smaller, x, tmp_path / "folder" / "model.onnx")
    assert smaller.training and [p.name for p in path.parent.iterdir()] == ["model.onnx"]
    onnx.checker.check_model(onnx.load(path))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    other = torch.randn_like(x)
    (got,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
    expected = outputs(smaller.eval(), other).numpy()
    assert np.abs(np.asarray(got) - expected).max() <= 1e-3 * np.abs(expected).max()


def test_a_file_that_computes_something_else_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(CellError, match=r"onnxruntime's output of model\.onnx differs by"):
        export_onnx(network("cifar-resnet8"), example_of("cifar-resnet8"), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
