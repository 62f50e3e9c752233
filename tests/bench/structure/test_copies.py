"""Copies of networks: as deep copies are, whatever of them is copied in a quicker way."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from bench.structure.copies import duplicate


class Own(nn.Conv2d):
    """Counts the copies that are made of it."""

    copies = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Own:
        Own.copies += 1
        made = Own(3, 4, 1)
        made.load_state_dict(self.state_dict())
        memo[id(self)] = made
        return made


class Holder(nn.Module):
    """Holds one table and one list in two places, a layer in two, and a tensor that was computed."""

    def __init__(self) -> None:
        super().__init__()
        self.table: dict[Any, Any] = {"sizes": [1, 2], (1, 2): "pair", "empty": {}}
        self.again = self.table
        self.pair = (self.table["sizes"], 3)
        self.first = self.second = nn.Conv2d(3, 4, 3, padding=(1, 0))
        self.own = Own(3, 4, 1)
        self.kept = self.first.weight.sum()


def test_a_copy_shares_nothing_and_holds_together_as_its_original_does() -> None:
    model = Holder().eval()
    model.first.weight.requires_grad_(False)
    before = copy.deepcopy(dict(model.first.__dict__))
    made: Any = duplicate(model)
    assert made.again is made.table and made.table is not model.table
    assert made.pair == ([1, 2], 3) and made.pair[0] is made.table["sizes"] is not model.table["sizes"]
    assert made.table[1, 2] == "pair" and made.table["empty"] is not model.table["empty"]
    assert made.first is made.second is not model.first and made.first.padding == (1, 0)
    assert Own.copies == 1 and isinstance(made.own, Own)
    assert made.kept.item() == model.kept.item() and made.kept.grad_fn is None
    assert [p.requires_grad for p in made.parameters()] == [p.requires_grad for p in model.parameters()]
    places = {t.data_ptr() for t in model.state_dict().values()}
    assert all(torch.equal(t, model.state_dict()[name]) for name, t in made.state_dict().items())
    assert not places & {t.data_ptr() for t in made.state_dict().values()}
    assert made.first.__dict__.keys() == before.keys() and not made.training


def test_what_is_to_be_shared_is_shared() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    made: Any = duplicate(model, {id(t): t for t in (*model.parameters(), *model.buffers())})
    assert made[0].weight is model[0].weight and made[1].running_mean is model[1].running_mean
    assert made[0] is not model[0] and made[0]._parameters is not model[0]._parameters
