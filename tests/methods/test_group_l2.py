"""Group norms: the sums by hand, and the same as Torch-Pruning's, through residual streams too."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch import nn

from bench.search.coupled import channel_sums
from methods.group_l2 import GroupL2, relative
from tests.methods.importances import LIBRARY, plain, ranking, scores_of, theirs


def test_the_sums_by_hand() -> None:
    """Rows that make a channel, its scale, and columns that read it: squares 1, 16, 4 + 9 against 4, 0, 1 + 1."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 2, 1, bias=False))
    with torch.no_grad():
        model.get_parameter("0.weight").copy_(torch.tensor([1.0, -2.0]).view(2, 1, 1, 1))
        model.get_parameter("1.weight").copy_(torch.tensor([-4.0, 0.0]))
        model.get_parameter("3.weight").copy_(torch.tensor([[2.0, 1.0], [3.0, -1.0]]).view(2, 2, 1, 1))
    scores = scores_of(GroupL2(), model)["0"]
    assert scores.tolist() == pytest.approx([30 / 18, 6 / 18])  # sums 30 and 6, mean 18


def test_the_measure_by_hand() -> None:
    """N = 4, 2 and 1 of the group's four channels."""
    sums = torch.tensor([1.0, 8.0, 3.0, 4.0])
    assert relative(sums, 1.0).tolist() == pytest.approx([0.25, 2.0, 0.75, 1.0])
    assert relative(sums, 0.5).tolist() == pytest.approx([1 / 6, 8 / 6, 3 / 6, 4 / 6])
    assert relative(sums, 0.01).tolist() == pytest.approx([1 / 8, 1.0, 3 / 8, 4 / 8])


@pytest.mark.parametrize(
    ("layer", "kind", "shape"),
    [
        (nn.Conv2d(6, 4, 3, groups=2), "in", (2, 2, 3, 9)),
        (nn.Linear(5, 3), "in", None),
        (nn.ConvTranspose2d(4, 6, 3), "out", None),
    ],
    ids=["grouped", "linear", "transposed"],
)
def test_what_belongs_to_a_channel(layer: nn.Module, kind: str, shape: tuple[int, ...] | None) -> None:
    values = torch.randn_like(layer.get_parameter("weight"))
    sums = channel_sums(layer, values, kind)  # pyright: ignore[reportArgumentType]
    if shape is not None:  # [groups, outputs of a group, inputs of a group, places]
        expected = values.reshape(shape).sum((1, 3)).flatten()
    else:
        expected = values.sum(0) if kind == "in" else values.sum((0, 2, 3))
    assert torch.allclose(sums, expected, atol=1e-5)


@pytest.mark.parametrize(("top", "normaliser"), [(1.0, "mean"), (0.01, "max")])
@pytest.mark.parametrize("norms", [False, True])
def test_torch_pruning_scores_plain_layers_alike(norms: bool, top: float, normaliser: str) -> None:
    model = plain(norms=norms)
    for layer in ("0", "3"):
        expected = theirs(LIBRARY.GroupMagnitudeImportance(p=2, normalizer=normaliser), model, layer)
        found = scores_of(GroupL2(top=top), copy.deepcopy(model))[layer]
        assert torch.allclose(found, expected, rtol=1e-4), layer
        assert ranking(found) == ranking(expected)


def test_torch_pruning_scores_a_residual_network_alike() -> None:
    """Its stream is made by three layers and read by four, with a norm behind each."""
    model, example = torchvision.models.resnet18(num_classes=4), torch.randn(1, 3, 32, 32)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight)
    found = scores_of(GroupL2(), copy.deepcopy(model), example)
    for name in ("conv1", "layer1.0.conv1", "layer2.0.conv2"):
        expected = theirs(LIBRARY.GroupMagnitudeImportance(p=2), model, name, example)
        assert torch.allclose(found[name], expected, rtol=1e-3), name
