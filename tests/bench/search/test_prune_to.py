"""One network pruned in one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench import PruningGraph, count_macs, load_pruned, prune_to, save_pruned
from bench.errors import RequestError
from tasks.models.resnet import cifar_resnet

X = torch.randn(1, 3, 16, 16)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return cifar_resnet(8)


@pytest.mark.parametrize("budget", [0.75, 0.5, 0.25])
def test_the_budget_is_met_on_the_network_itself(model: nn.Module, budget: float) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    smaller = prune_to(model, X, budget=budget)
    assert abs(count_macs(smaller, X) / count_macs(model, X) - budget) <= 0.005
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_l1_keeps_the_filters_of_the_largest_norms(model: nn.Module) -> None:
    smaller = prune_to(model, X, method="l1")
    inner = "layer1.0.conv1"  # a group of this convolution alone
    kept = smaller.get_parameter(f"{inner}.weight")
    norms = model.get_parameter(f"{inner}.weight").abs().sum((1, 2, 3))
    best = norms.topk(len(kept)).indices.sort().values
    from bench.structure.surgery import surgery_of

    surgery = surgery_of(smaller)
    assert surgery is not None and surgery.plan.layers[inner]["out"].kept == best.tolist()


def test_other_methods_their_fields_and_protected_layers(model: nn.Module) -> None:
    smaller = prune_to(model, X, method="l1", hyper={"scope": "global"}, protect=["layer3*"], round_to=2)
    assert smaller.get_parameter("layer3.0.conv1.weight").shape[0] == 64
    groups = PruningGraph.trace(smaller, X, verify=False).groups
    assert all(g.size % 2 == 0 for g in groups)
    for method in ("fpgm", "group-l2", "lamp", "random"):
        first, again = (prune_to(model, X, method=method, seed=3) for _ in range(2))
        assert abs(count_macs(first, X) / count_macs(model, X) - 0.5) <= 0.005
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)), method


def test_the_callers_random_numbers_are_left_alone(model: nn.Module) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    prune_to(model, X, method="random")
    assert torch.equal(torch.rand(3), expected)


def test_the_result_is_saved_and_loaded(model: nn.Module, tmp_path: Path) -> None:
    smaller = prune_to(model, X).eval()
    again = load_pruned(save_pruned(tmp_path / "pruned", smaller), cifar_resnet(8)).eval()
    with torch.no_grad():
        assert torch.equal(again(X), smaller(X))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "l2"}, "unknown method 'l2'"),
        ({"method": "dcss"}, "method 'dcss' trains while it searches, which prune_to cannot: run it in a suite"),
        ({"method": "taylor"}, "method 'taylor' looks at data or trains, and prune_to has none"),
        ({"method": "dense-longer"}, "'dense-longer' prunes nothing"),
        ({"budget": 0.0001}, "budget 0.0001 cannot be reached"),
        ({"budget": 2}, "budget 2 is not allowed"),
        ({"hyper": {"power": 3}}, "method 'l1' has no field 'power'"),
        ({"protect": ["*"]}, "no channel of this network can be pruned"),
    ],
)
def test_what_cannot_be_done_is_said(model: nn.Module, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        prune_to(model, X, **options)
