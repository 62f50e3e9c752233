"""Groups inside residual blocks, on networks whose blocks are known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn

from bench.search.residual import inner_groups
from bench.structure.graph import PruningGraph
from tasks.models.edsr import sr_network
from tasks.models.resnet import cifar_resnet
from tests.bench.structure.networks import NETWORKS


def inner(model: nn.Module, *shape: int) -> set[str]:
    return set(inner_groups(PruningGraph.trace(model, torch.randn(shape))))


@pytest.mark.parametrize("depth", [8, 20])
def test_basic_blocks_are_pruned_behind_their_first_convolution(depth: int) -> None:
    """The last stage's own channels stay out of it: zeros are added to them, and the classifier reads them."""
    blocks = (depth - 2) // 6
    expected = {f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in range(blocks)}
    assert inner(cifar_resnet(depth), 1, 3, 32, 32) == expected
    assert inner(nn.Sequential(cifar_resnet(depth)), 1, 3, 32, 32) == {f"0.{name}" for name in expected}


def test_bottlenecks_are_pruned_behind_both_inner_convolutions() -> None:
    expected = {
        f"layer{stage}.{block}.conv{i}"
        for stage, blocks in enumerate((3, 4, 6, 3), start=1)
        for block in range(blocks)
        for i in (1, 2)
    }
    assert inner(torchvision.models.resnet50(), 1, 3, 64, 64) == expected


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], set[str]]] = {
    "edsr": (lambda: sr_network("edsr-tiny", 2), (1, 3, 24, 24), {f"body.{i}.conv1" for i in range(4)}),
    "vgg": (lambda: NETWORKS["torchvision-vgg16_bn"](), (1, 3, 64, 64), set()),
}


@pytest.mark.parametrize("name", list(CASES))
def test_other_networks(name: str) -> None:
    build, shape, expected = CASES[name]
    assert inner(build(), *shape) == expected
