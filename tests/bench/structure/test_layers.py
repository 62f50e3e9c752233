"""A layer type that the engine does not know becomes prunable by one rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bench.search.gates import Gates
from bench.structure import layers
from bench.structure.files import load_pruned, save_pruned
from bench.structure.graph import PruningGraph
from bench.structure.groups import Pruning, SideKind
from bench.structure.layers import LayerRule, LinearRule, makes_channels, register_layer, require_rule, rule_of
from bench.structure.measure import count_macs, count_params
from bench.structure.surgery import mask, prune
from tests.bench.structure.networks import assert_same, outputs, random_pruning


class FixedNorm(nn.Module):
    """A scale and a shift for each channel, both in one table, which says nothing of channels by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        generator = torch.Generator().manual_seed(channels)
        self.register_buffer("table", torch.rand(2, channels, generator=generator) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[1] == self.channels
        weight, bias = self.get_buffer("table").unbind()
        return x * weight.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)


class DoubledLinear(nn.Linear):
    """A subclass of a known layer that needs no rule of its own."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), FixedNorm(8), nn.ReLU(), nn.Conv2d(8, 12, 3), FixedNorm(12), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), DoubledLinear(12, 6), nn.ReLU(), nn.Linear(6, 4)
    )  # fmt: skip


@pytest.fixture
def fixed_norm_rule(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(layers, "_RULES", dict(layers._RULES))

    @register_layer(FixedNorm)
    class FixedNormRule(LayerRule):
        def size(self, layer: Any, kind: SideKind) -> int:
            return layer.channels

        def resize(self, layer: Any, kind: SideKind, n: int) -> None:
            layer.channels = n

        def take(self, layer: Any, kind: SideKind, kept: np.ndarray) -> None:
            layers.select(layer, "table", 1, kept)
            layer.channels = len(kept)

        def zero(self, layer: Any, rows: torch.Tensor | None) -> None:
            layer.table[:, slice(None) if rows is None else rows] = 0

    yield


def test_without_a_rule_its_channels_stay() -> None:
    graph = PruningGraph.trace(small_network(), torch.randn(1, 3, 12, 12))
    assert [g.name for g in graph.groups] == ["8"]
    with pytest.raises(TypeError, match="FixedNorm is no layer that is known"):
        require_rule(FixedNorm(4))


@pytest.mark.usefixtures("fixed_norm_rule")
def test_one_rule_makes_it_prunable_exactly() -> None:
    model, x = small_network().eval(), torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    graph = PruningGraph.trace(model, x)
    assert {g.name: [m.module for m in g.passes] for g in graph.groups} == {"0": ["1"], "3": ["4"], "8": []}
    for seed in range(3):
        pruning = random_pruning(graph, seed)
        small = prune(model, graph, pruning)
        assert_same(outputs(small, x), outputs(mask(model, graph, pruning), x))
        assert graph.macs(pruning.widths) == count_macs(small, x)
        assert graph.params(pruning.widths) == count_params(small)


@pytest.mark.usefixtures("fixed_norm_rule")
def test_it_is_saved_and_gated_like_any_other(tmp_path) -> None:
    model, x = small_network().eval(), torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    graph = PruningGraph.trace(model, x[:1])
    pruning = random_pruning(graph, 1)
    small = prune(model, graph, pruning)
    save_pruned(tmp_path, small, pruning)
    assert torch.equal(outputs(load_pruned(tmp_path, small_network()).eval(), x), outputs(small, x))
    with Gates(model, graph, "consumer") as gates:
        gates.set({name: keep.float() for name, keep in pruning.keep.items()})
        assert_same(outputs(model, x), outputs(small, x))


def test_a_subclass_has_its_nearest_ancestors_rule() -> None:
    assert isinstance(rule_of(DoubledLinear(2, 3)), LinearRule)
    assert makes_channels(DoubledLinear(2, 3)) and not makes_channels(nn.BatchNorm2d(3))
    assert rule_of(nn.ReLU()) is None


def test_taking_channels_of_a_layer_without_any_is_refused() -> None:
    with pytest.raises(TypeError, match="no channels to take from a LayerNorm"):
        require_rule(nn.LayerNorm(4)).size(nn.LayerNorm(4), "pass")
    linear = nn.Linear(4, 3)
    before = linear.weight.detach().clone()
    require_rule(linear).take(linear, "in", np.array([0, 2]))
    assert linear.in_features == 2 and torch.equal(linear.weight, before[:, [0, 2]])


def test_a_pruned_network_says_how_it_was_made() -> None:
    import copy

    from bench.structure.surgery import surgery_of

    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)), torch.randn(1, 3, 8, 8)
    graph = PruningGraph.trace(model, x)
    pruning = Pruning({"0": torch.arange(8) < 5})
    small = prune(model, graph, pruning)
    made = surgery_of(copy.deepcopy(small))
    assert made is not None and surgery_of(model) is None
    assert made.plan.layers["0"]["out"].kept == [0, 1, 2, 3, 4] and made.plan.layers["2"]["in"].size == 8
    assert Pruning.from_dict(made.pruning).widths == {"0": 5}
