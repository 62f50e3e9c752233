"""ONNX files compute what the pruned networks do."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from bench.errors import CellError, RequestError
from bench.structure import onnx_export as export
from bench.structure.graph import PruningGraph
from bench.structure.onnx_export import export_onnx, portable
from bench.structure.surgery import prune
from tasks.models.edsr import sr_network
from tasks.models.resnet import cifar_resnet
from tests.bench.structure.networks import example_of, network, outputs, random_pruning, randomise


class Decoder(nn.Module):
    """Concatenates a map with one that was halved and doubled, as U-Nets do (test_export has a whole one)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.down = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, 2, padding=1)
        self.up, self.head = nn.Conv2d(16, 8, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.first(x))
        y = F.interpolate(F.relu(self.down(x)), scale_factor=2.0)
        return self.head(F.relu(self.up(torch.cat([y, x], 1))))


SMALL: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "additions": (lambda: cifar_resnet(8), 32),
    "squeeze and excitation, depthwise": (lambda: timm.create_model("test_efficientnet", num_classes=10), 64),
    "interpolation, concatenations": (Decoder, 64),
    "pixel shuffle": (lambda: sr_network("edsr-tiny", 3), 16),
}
"""A network with each of what exporters stumble over, and the side of its example in pixels."""


@pytest.mark.parametrize("name", SMALL)
def test_onnxruntime_computes_the_same(name: str, tmp_path: Path) -> None:
    build, side = SMALL[name]
    torch.manual_seed(0)
    model, x = randomise(build()).eval(), torch.randn(1, 3, side, side)
    structure = PruningGraph.trace(model, x)
    smaller = prune(model, structure, random_pruning(structure, 0)).train()
    path = export_onnx(smaller, x, tmp_path / "folder" / "model.onnx")
    assert smaller.training and [p.name for p in path.parent.iterdir()] == ["model.onnx"]
    onnx.checker.check_model(onnx.load(path))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    other = torch.randn_like(x)
    for batch in (other, torch.cat([other, other + 1])):
        (got,) = session.run(None, {"input": batch.numpy()})
        expected = outputs(smaller.eval(), batch).numpy()
        assert np.abs(np.asarray(got) - expected).max() <= 1e-3 * np.abs(expected).max()


def test_a_file_that_computes_something_else_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = portable(network("cifar-resnet8"), example_of("cifar-resnet8"))
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    model, x = network("cifar-resnet8"), example_of("cifar-resnet8")
    with pytest.raises(CellError, match=r"onnxruntime's output of model\.onnx differs by"):
        export_onnx(model, x, tmp_path / "model.onnx", found)
    assert list(tmp_path.iterdir()) == []


def flat(side: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * side**2, 5))


class InSteps(nn.Module):
    """Halves and doubles the image five times, so that other sizes than multiples of 32 pixels do not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 32, 32)
        self.up = nn.ConvTranspose2d(4, 3, 32, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.up(self.down(x))


@pytest.mark.parametrize(
    ("model", "side", "step", "free"),
    [
        (nn.Conv2d(3, 4, 3), 16, 1, ("batch", "height", "width")),
        (InSteps(), 64, 32, ("batch", "height", "width")),
        (flat(16), 16, 0, ("batch",)),
    ],
)
def test_sizes_are_free_where_the_network_allows(
    model: nn.Module, side: int, step: int, free: tuple[str, ...], tmp_path: Path
) -> None:
    x = torch.randn(1, 3, side, side)
    found = portable(model, x)
    assert (found.step, found.free) == (step, free)
    path = export.save_program(found, tmp_path / "model.pt2")
    program = torch.export.load(path).module()
    sides = (2, 3, side + step, side + 2 * step)
    other = torch.randn(sides)
    assert torch.allclose(program(other), outputs(model.eval(), other), atol=1e-5)


class Pyramid(nn.Module):
    """Pools maps to 3 by 3 pixels and enlarges them again: in ONNX for one size alone, as torch writes it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = nn.functional.adaptive_avg_pool2d(x, 3)
        return torch.cat([x, nn.functional.interpolate(pooled, size=x.shape[2:])], 1)


class UpperHalf(nn.Module):
    """Rounds a size up, which torch cannot write into a program."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, : math.ceil(x.shape[2] / 2)]


@pytest.mark.parametrize(("model", "name"), [(Pyramid(), "model.onnx"), (UpperHalf(), "model.pt2")])
def test_what_cannot_be_written_for_other_sizes_is_written_for_the_examples(
    model: nn.Module, name: str, tmp_path: Path
) -> None:
    x = torch.randn(1, 3, 64, 64)
    found = portable(model, x)
    path = tmp_path / name

    def write(program: export.Portable) -> None:
        export.write_onnx(model, x, path, program) if name.endswith("onnx") else export.save_program(program, path)

    assert found.step
    with pytest.raises(CellError, match=name):
        write(found)
    assert list(tmp_path.iterdir()) == []
    assert export.fitting(found, model, x, write).free == ("batch",)
    batch = torch.randn(2, 3, 64, 64)
    if name.endswith("onnx"):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (got,) = session.run(None, {"input": batch.numpy()})
        assert session.get_inputs()[0].shape == ["batch", 3, 64, 64]
    else:
        got = torch.export.load(path).module()(batch).numpy()
    assert np.allclose(np.asarray(got), model(batch).numpy(), atol=1e-5)


def test_a_network_that_cannot_be_traced_is_refused() -> None:
    class Counting(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * float(x.mean()) if float(x.sum()) > 0 else x

    with pytest.raises(RequestError, match=r"torch\.export cannot trace the network: "):
        portable(Counting(), torch.randn(1, 3, 8, 8))
