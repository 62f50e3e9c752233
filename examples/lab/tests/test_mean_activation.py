"""Mean activation: the paper's equations by hand, and the contract."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from prunebench_lab.mean_activation import activations
from torch import nn

from bench.contract.suite import METHOD_PROPERTIES, MethodTrial
from bench.interface.method import Budget
from bench.interface.registry import make_method


@pytest.fixture(scope="module")
def trial() -> MethodTrial:
    return MethodTrial("mean-activation")


@pytest.mark.parametrize("holds", METHOD_PROPERTIES, ids=lambda p: p.__name__)
def test_contract(trial: MethodTrial, holds: Callable[[MethodTrial], None]) -> None:
    holds(trial)


def test_the_score_by_hand() -> None:
    """Inputs 1, −2 and 3 through weights 2 and −1: the ReLU leaves 2, 0, 6 and 0, 2, 0."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(2, 1, 1, bias=False))
    with torch.no_grad():
        model.get_parameter("0.weight").copy_(torch.tensor([2.0, -1.0]).view(2, 1, 1, 1))
    images = torch.tensor([1.0, -2.0, 3.0]).view(1, 1, 1, 3)
    assert torch.allclose(activations(model, ["2"], images)["2"], torch.tensor([8 / 3, 2 / 3]))
    assert not any(m._forward_hooks for m in model.modules())


def test_scores_of_a_group_have_a_norm_of_one(trial: MethodTrial) -> None:
    """Unless each group has its own ratio; the order within a group is the same."""
    scores = trial.found[0].scores
    assert all(float(s.norm()) == pytest.approx(1) for s in scores.values())
    method = make_method("mean-activation", {"scope": "layer"})
    plain = method.search(trial.dense, trial.graph, trial.task, Budget(0.5), trial.found[1]).scores
    assert all(torch.equal(scores[name].argsort(), plain[name].argsort()) for name in scores)
    assert any(float(s.norm()) != pytest.approx(1) for s in plain.values())
