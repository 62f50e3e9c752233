"""The optimiser steps as torch's plain one does, whatever the memory layouts of weights and gradients are."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import nn

from bench.interface.cell import Recipe
from bench.training.optimizer import Optimizer

LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


def network(layout: str) -> nn.Module:
    """Weights of every number of dimensions; of four: dense, grouped, depthwise and pointwise."""
    torch.manual_seed(0)
    convs = [nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1)]
    model = nn.Sequential(*convs, nn.BatchNorm2d(4), nn.Linear(4, 3), nn.Conv1d(3, 2, 3))
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.to(memory_format=LAYOUTS[layout])
    return model


def set_gradients(model: nn.Module, layout: str, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        gradient = torch.randn(parameter.shape, generator=random)
        parameter.grad = gradient.to(memory_format=LAYOUTS[layout]) if gradient.ndim == 4 else gradient


@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize(("weights", "gradients"), list(itertools.product(LAYOUTS, LAYOUTS)))
def test_steps_are_those_of_the_plain_optimizer(weights: str, gradients: str, name: Literal["sgd", "adam"]) -> None:
    recipe = Recipe(optimizer=name, lr=0.1, weight_decay=0.01)
    model, plain = network(weights), network("contiguous")
    optimizer = Optimizer(list(model.parameters()), recipe)
    groups = [
        {"params": [p for p in plain.parameters() if (p.ndim > 1) == decayed], "weight_decay": decayed * 0.01}
        for decayed in (True, False)
    ]
    kinds = {
        "sgd": lambda: torch.optim.SGD(groups, lr=0.1, momentum=recipe.momentum, nesterov=True, foreach=False),
        "adam": lambda: torch.optim.Adam(groups, lr=0.1, foreach=False),
    }
    reference = kinds[name]()
    for seed in range(3):
        set_gradients(model, gradients, seed)
        set_gradients(plain, "contiguous", seed)
        optimizer.step()
        reference.step()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
        assert ours.ndim != 4 or ours.is_contiguous(memory_format=LAYOUTS[weights])


def test_gradients_are_let_go_and_a_weight_that_moved_is_followed() -> None:
    model = network("channels last")
    optimizer = Optimizer(list(model.parameters()), Recipe(lr=1.0, momentum=0, weight_decay=0))
    set_gradients(model, "channels last", 0)
    moved = model.get_parameter("0.weight")
    moved.data = moved.data.clone()
    assert moved.grad is not None
    expected = moved.detach() - moved.grad
    optimizer.step()
    torch.testing.assert_close(moved.detach(), expected)
    held = {id(p.grad) for group in optimizer.param_groups for p in group["params"] if p.grad is not None}
    assert held <= {id(p.grad) for p in model.parameters()}
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_its_state_is_restored(tmp_path: Path) -> None:
    recipe, one = Recipe(lr=0.1), network("channels last")
    optimizer = Optimizer(list(one.parameters()), recipe)
    set_gradients(one, "channels last", 0)
    optimizer.step()
    torch.save({"model": one.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "kept.pt")
    kept = torch.load(tmp_path / "kept.pt", weights_only=True)
    two = network("channels last")
    two.load_state_dict(kept["model"])
    again = Optimizer(list(two.parameters()), recipe)
    again.load_state_dict(kept["optimizer"])
    for model, its in ((one, optimizer), (two, again)):
        set_gradients(model, "contiguous", 1)
        its.step()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
