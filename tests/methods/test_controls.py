"""The controls: what random widths are, and that the dense network's control prunes nothing."""

from __future__ import annotations

import pytest
import torch

from bench.interface.method import Budget
from bench.search.fit import fit
from bench.structure.graph import PruningGraph
from bench.training.context import search_context
from methods.random_widths import RandomWidths, scaled_widths
from tasks.classification import Classification
from tasks.models.resnet import cifar_resnet

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def graph() -> PruningGraph:
    return PruningGraph.trace(cifar_resnet(20), torch.randn(1, 3, 32, 32))


def drawn(graph: PruningGraph, seed: int, ratio: float) -> dict[str, int]:
    task = Classification("digits", "resnet8", train_size=100)
    ctx = search_context(task, task.load(None).visible, task.recipe, epochs=0, seed=seed, device=CPU)
    found = RandomWidths().search(cifar_resnet(20), graph, task, Budget(ratio), ctx)
    assert found.widths is not None
    return dict(found.widths)


@pytest.mark.parametrize("ratio", [0.75, 0.5, 0.25])
def test_random_widths_are_near_the_budget_before_the_fit(graph: PruningGraph, ratio: float) -> None:
    for seed in range(3):
        assert abs(graph.macs(drawn(graph, seed, ratio)) / graph.macs() - ratio) < 0.05


def test_random_widths_differ_by_seed_and_by_group(graph: PruningGraph) -> None:
    one, again, other = (drawn(graph, seed, 0.5) for seed in (0, 0, 1))
    assert one == again != other
    shares = [one[g.name] / g.size for g in graph.groups]
    assert max(shares) > 2 * min(shares)


def test_scaled_widths_by_hand(graph: PruningGraph) -> None:
    equal = scaled_widths(graph, {g.name: 1.0 for g in graph.groups}, 1.0)
    assert equal == {g.name: g.size for g in graph.groups}
    shares = {g.name: 0.2 if i else 1.0 for i, g in enumerate(graph.groups)}
    widths = scaled_widths(graph, shares, 0.999)
    assert widths[graph.groups[0].name] == graph.groups[0].size  # a share ends at 1 while the others grow


def test_their_budget_is_met(graph: PruningGraph) -> None:
    model = cifar_resnet(20)
    task = Classification("digits", "resnet8", train_size=100)
    ctx = search_context(task, task.load(None).visible, task.recipe, epochs=0, seed=3, device=CPU)
    found = RandomWidths().search(model, graph, task, Budget(0.5), ctx)
    assert fit(graph, found, Budget(0.5)).within
