"""Rankings by hand: L1, random and Taylor, and what searches make of them."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import nn

from bench.interface.method import Budget
from bench.interface.registry import make_method
from bench.search import ranking
from bench.search.ranking import Order, channel_ranking, falling_order, first_channels, ranks
from bench.structure.graph import PruningGraph
from tests.methods.searching import digits


class Shuffled(nn.Module):
    """Four channels in bundles of four before a pixel shuffle, and two that stand alone."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 2, 1, bias=False), nn.Conv2d(2, 8, 1, bias=False)
        self.shuffle, self.c = nn.PixelShuffle(2), nn.Conv2d(2, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(self.shuffle(self.b(self.a(x))))


def test_orders_and_ranks_by_hand() -> None:
    graph = PruningGraph.trace(Shuffled(), torch.randn(1, 1, 4, 4))
    assert [(g.name, g.bundle) for g in graph.groups] == [("a", 1), ("b", 4)]
    scores = {"a": torch.tensor([0.1, 0.3]), "b": torch.tensor([1.0, 1, 1, 1, 2, 2, 2, 2])}
    assert falling_order(graph, scores)["a"].tolist() == [1, 0]
    assert falling_order(graph, scores)["b"].tolist() == [4, 5, 6, 7, 0, 1, 2, 3]
    assert ranks(graph, scores).tolist() == [-1, 1, -1, 1]
    assert first_channels(graph)["a"].tolist() == [0, -1]
    digits_graph = digits().graph
    lowest = {g.name: torch.arange(g.size).float() for g in digits_graph.groups}
    first = digits_graph.groups[0].size
    assert ranks(digits_graph, lowest)[:first].tolist() == pytest.approx(
        [2 * i / (first - 1) - 1 for i in range(first)]
    )


def test_l1_is_the_graph_s_channel_score() -> None:
    bench = digits()
    scores = channel_ranking("l1", bench.graph, bench.model, bench.task, bench.context(1))
    expected = bench.graph.channel_scores(bench.model)
    assert all(torch.equal(scores[name], expected[name]) for name in expected)


def test_taylor_is_the_sum_of_weight_times_gradient_over_batches() -> None:
    bench = digits()
    ctx = bench.context(1)
    before = copy.deepcopy(bench.model.state_dict())
    scores = channel_ranking("taylor", bench.graph, bench.model, bench.task, ctx)
    assert all(torch.equal(value, before[name]) for name, value in bench.model.state_dict().items())
    assert all(p.grad is None or not p.grad.isnan().any() for p in bench.model.parameters())

    model = copy.deepcopy(bench.model).eval()
    conv = model.get_submodule("layer1.0.conv1")
    total = torch.zeros(16)
    batches = ctx.data.train.batches(ctx.recipe.batch_size, seed=ctx.seed, epoch=0, device=ctx.device)
    for _, (x, y) in zip(range(ranking.TAYLOR_BATCHES), batches, strict=False):
        weight = conv.get_parameter("weight")
        (slope,) = torch.autograd.grad(bench.task.loss(model(x), y, ctx.recipe), weight)
        total += (weight * slope).detach().abs().sum((1, 2, 3))
    assert torch.allclose(scores["layer1.0.conv1"], total, rtol=1e-4)


def test_a_filter_before_a_norm_has_no_first_order_expansion_as_a_whole() -> None:
    """Why the magnitudes are summed: in training mode the norm's output does not depend on the filter's scale."""
    bench = digits()
    model = copy.deepcopy(bench.model).train()
    x, y = next(bench.data.train.batches(32, seed=0, epoch=0, device=torch.device("cpu")))
    weight = model.get_parameter("layer1.0.conv1.weight")
    (slope,) = torch.autograd.grad(bench.task.loss(model(x), y, bench.recipe), weight)
    product = (weight * slope).detach().flatten(1)
    assert product.sum(1).abs().max() < 1e-2 * product.abs().sum(1).max()


def test_random_rankings_follow_the_seed() -> None:
    bench = digits()

    def drawn(seed: int) -> torch.Tensor:
        ctx = bench.context(1, seed)
        return torch.cat(list(channel_ranking("random", bench.graph, bench.model, bench.task, ctx).values()))

    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))
    l1 = torch.cat(list(bench.graph.channel_scores(bench.model).values()))
    assert abs(float(torch.corrcoef(torch.stack([drawn(0), l1]))[0, 1])) < 0.2


@pytest.mark.parametrize("order", ["l1", "random", "taylor"])
@pytest.mark.parametrize("name", ["dcss", "dais", "tas", "gdp"])
def test_searches_start_from_the_ranking_that_was_asked_for(name: str, order: Order) -> None:
    """What a search without a single step would keep."""
    bench = digits()
    ctx = dataclasses.replace(bench.context(1), trainer=lambda model, search, recipe, penalty: model)
    expected = channel_ranking(order, bench.graph, bench.model, bench.task, ctx)
    found = make_method(name, {"order": order}).search(
        copy.deepcopy(bench.model), bench.graph, bench.task, Budget(0.5), ctx
    )
    if name == "dcss":
        assert found.model is not None  # its channels were put in that order
        first = falling_order(bench.graph, expected)["layer1.0.conv1"]
        conv, moved = (m.get_parameter("layer1.0.conv1.weight") for m in (bench.model, found.model))
        stem = falling_order(bench.graph, expected)["conv1"]
        assert torch.equal(moved, conv[first][:, stem])
        return
    for group in bench.graph.groups:
        assert found.scores[group.name].argsort().tolist() == expected[group.name].argsort().tolist()
