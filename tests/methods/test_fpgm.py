"""FPGM: distances by hand, in coupled layers, and beside Torch-Pruning's."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from methods.fpgm import FPGM, distance_sums
from tests.methods.importances import LIBRARY, plain, ranking, scores_of, theirs


def test_the_distances_by_hand() -> None:
    """Section 3.4: (0, 0), (3, 4), (6, 8) and (3, -4) are 5, 5, 8, 10 and √153 apart; the first two lie innermost."""
    filters = torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0], [3.0, -4.0]])
    far = 153**0.5
    assert distance_sums(filters).tolist() == pytest.approx([20.0, 18.0, 15 + far, 13 + far])


def test_a_filter_that_others_repeat_goes_before_a_small_one() -> None:
    """What tells FPGM from a norm."""
    model = plain()
    with torch.no_grad():
        weight = model.get_parameter("0.weight")
        weight[0] = 0.01 * weight[0]
        weight[1:6] = 1.0 + 0.01 * torch.randn(5, 1, 3, 3, generator=torch.Generator().manual_seed(1))
        weight[6:] = torch.tensor([2.0, -2.0]).view(2, 1, 1, 1)
    removed = ranking(scores_of(FPGM(), model)["0"])[:5]
    assert set(removed) == {1, 2, 3, 4, 5}


def test_distances_of_layers_that_make_the_same_channels_are_added_up() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 3, 1, bias=False), nn.Conv2d(1, 3, 1, bias=False)
            self.head = nn.Conv2d(3, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.a(x) + self.b(x))

    model = Residual()
    with torch.no_grad():
        model.a.weight.copy_(torch.tensor([0.0, 1.0, 3.0]).view(3, 1, 1, 1))  # distances 4, 3, 5
        model.b.weight.copy_(torch.tensor([5.0, 0.0, 1.0]).view(3, 1, 1, 1))  # distances 9, 6, 5
    assert scores_of(FPGM(), model)["a"].tolist() == pytest.approx([13.0, 9.0, 10.0])


@pytest.mark.parametrize("layer", ["0", "3"])
def test_torch_pruning_ranks_plain_layers_alike(layer: str) -> None:
    """Where no weight is negative and a layer stands alone: theirs measures |w|^p, and adds those that read it."""
    model = plain()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    expected = theirs(LIBRARY.FPGMImportance(p=1, group_reduction="first", normalizer=None), model, layer)
    found = scores_of(FPGM(), copy.deepcopy(model))[layer]
    assert torch.allclose(found, expected, rtol=1e-4)
    assert ranking(found) == ranking(expected)
