"""The counters, against closed forms."""

from __future__ import annotations

import pytest
import torch
import torch.nn as nn
import torchvision

from bench.structure.measure import count_macs, count_params
from tasks.models.resnet import cifar_resnet


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), (1, 3, 10, 10), 100 * 9 * 3 * 8),
        (nn.Conv2d(8, 8, 3, stride=2, groups=8), (1, 8, 9, 9), 16 * 9 * 8),
        (nn.Conv2d(8, 16, 1, groups=4), (2, 8, 5, 5), 2 * 25 * 2 * 16),
        (nn.ConvTranspose2d(6, 4, 2, stride=2), (1, 6, 5, 5), 25 * 4 * 6 * 4),
        (nn.Linear(7, 5), (3, 7), 3 * 7 * 5),
        (nn.BatchNorm2d(8), (1, 8, 4, 4), 0),
    ],
)
def test_closed_forms(layer: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    assert count_macs(layer, torch.randn(shape)) == macs


def test_resnet18_has_the_reference_figure() -> None:
    assert count_macs(torchvision.models.resnet18(weights=None), torch.randn(1, 3, 224, 224)) / 1e9 == pytest.approx(
        1.814, abs=5e-4
    )


def test_counting_leaves_the_network_alone() -> None:
    model = cifar_resnet(8).train()
    model.layer1.eval()
    mean = model.bn1.running_mean.clone()  # pyright: ignore[reportOptionalMemberAccess]
    count_macs(model, torch.randn(2, 3, 32, 32))
    assert model.training and not model.layer1.training and model.layer2.training
    assert torch.equal(mean, model.bn1.running_mean)  # pyright: ignore[reportArgumentType]
    assert all(p.grad is None for p in model.parameters())


def test_shared_parameters_count_once() -> None:
    layer = nn.Linear(4, 4)
    assert count_params(nn.Sequential(layer, nn.ReLU(), layer)) == 20
