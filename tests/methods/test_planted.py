"""Every search sees the task: a useless branch keeps fewer channels than in the same search without its gradient."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
import torch

from tests.methods.planted import METHODS, WIDTH, dense, shares


def test_nothing_but_the_task_tells_the_branches_apart() -> None:
    _, data, model, graph = dense(0)
    scores = graph.channel_scores(model)
    for layer in ("0", "3"):
        assert torch.equal(scores[f"useful.{layer}"], scores[f"useless.{layer}"])
    assert torch.equal(model.head.weight[:, :WIDTH], model.head.weight[:, WIDTH:])
    useful, useless = ({f"{name}.{layer}": WIDTH // 2 for layer in ("0", "3")} for name in ("useful", "useless"))
    assert graph.macs(useful) == graph.macs(useless)
    # Pixels of one digit say nothing about the class of the other, and are drawn from the same digits.
    train: Any = data.train
    images, labels = train.images.float(), train.labels
    means = torch.stack([images[labels == k].mean((0, 1, 2)) for k in range(10)])
    spread = torch.stack([images[labels == k].mean(0) for k in range(10)]).std(0).mean((0, 1))
    assert abs(float(means[:, 0].mean() - means[:, 1].mean())) < 2
    assert float(spread[0]) > 3 * float(spread[1])


@pytest.mark.parametrize("name", METHODS)
def test_a_useless_branch_gets_a_smaller_share_than_in_a_blind_search(name: str) -> None:
    """docs/methods.md has the shares. At the same MACs: both are fitted to one budget."""
    found = list(shares(name, seeds=3))
    assert all(0.4 < share.blind < 0.6 for share in found), found
    assert all(share.real < share.blind - 0.05 for share in found), found
    assert statistics.mean(share.blind - share.real for share in found) > 0.08, found
