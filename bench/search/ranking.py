"""Rankings of a network's channels that searches start from: by L1 norm, at random, or by a Taylor expansion."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Literal

from bench.lazy import nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from bench.interface.method import Context
    from bench.interface.task import Task
    from bench.structure.graph import PruningGraph

Order = Literal["l1", "random", "taylor"]
"""By what channels are ranked."""
TAYLOR_BATCHES = 10
"""Training batches that a Taylor expansion averages over, or as many as an epoch has."""


def channel_ranking(order: Order, graph: PruningGraph, model: nn.Module, task: Task, ctx: Context) -> dict[str, Tensor]:
    """Scores by group name, float [size], the highest first; equal within a bundle. The model is not changed.

    * `l1`: Σ|w| over the weights that make the channel (Li et al. 2017, section 3.1).
    * `random`: uniform, by the context's seed.
    * `taylor`: Σ|w·∂L/∂w| over the same weights and over a fixed number of training batches, the first-order expansion
      of the loss (Molchanov et al., CVPR 2019, section 3.1, with the magnitude in place of the square). The expansion
      of the whole filter, |Σ w·∂L/∂w|, is 0 in front of a norm, whose output does not depend on the filter's scale.
    """
    if order == "random":
        generator = torch.Generator().manual_seed(ctx.seed)
        drawn = {g.name: torch.rand(g.n_bundles, generator=generator) for g in graph.groups}
        return {g.name: drawn[g.name].repeat_interleave(g.bundle) for g in graph.groups}
    weighed = model if order == "l1" else taylor_weights(model, task, ctx)
    return {name: scores.cpu() for name, scores in graph.channel_scores(weighed).items()}


def taylor_batches(ctx: Context) -> Iterator[tuple[Tensor, Tensor]]:
    """The first `TAYLOR_BATCHES` training batches of an epoch, the same ones for a seed."""
    size = min(ctx.recipe.batch_size, len(ctx.data.train))
    return islice(ctx.data.train.batches(size, seed=ctx.seed, epoch=0, device=ctx.device), TAYLOR_BATCHES)


def gate_gradients(graph: PruningGraph, model: nn.Module, task: Task, ctx: Context) -> Iterator[dict[str, Tensor]]:
    """∂L/∂z of each of `taylor_batches`, by group name, [bundles]; z = 1 is a gate on everything that a bundle makes.

    A gate stands where `Gates` puts a producer's factor: behind the norm in front of the consumers, or behind the layer
    where there is no norm. Layers that make the same channels share it. The model is not changed; norms keep their
    statistics.
    """
    from bench.search.gates import Gates

    network = copy.deepcopy(model).to(ctx.device).eval()
    ones = {g.name: torch.ones(g.n_bundles, device=ctx.device, requires_grad=True) for g in graph.groups}
    with Gates(network, graph) as gates:
        gates.set({g.name: ones[g.name].repeat_interleave(g.bundle) for g in graph.groups})
        for x, y in taylor_batches(ctx):
            loss = task.loss(network(x), y, ctx.recipe)
            slopes = torch.autograd.grad(loss, list(ones.values()), retain_graph=False)
            yield dict(zip(ones, slopes, strict=True))


def taylor_weights(model: nn.Module, task: Task, ctx: Context) -> nn.Module:
    """A copy of the network with Σ|w·∂L/∂w| over `TAYLOR_BATCHES` training batches in place of each parameter w."""
    weighed = copy.deepcopy(model).to(ctx.device).eval()  # norms keep their statistics
    parameters = list(weighed.parameters())
    total = [torch.zeros_like(p) for p in parameters]
    for x, y in taylor_batches(ctx):
        loss = task.loss(weighed(x), y, ctx.recipe)
        for sum_, p, slope in zip(
            total, parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True
        ):
            if slope is not None:
                sum_.add_((p * slope).detach().abs())
    with torch.no_grad():
        for p, value in zip(parameters, total, strict=True):
            p.copy_(value)
    return weighed


def falling_order(graph: PruningGraph, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each group's channels in the order of falling scores, bundles whole: by group name, [size].

    In a network that `permute` has put in this order, "the first n channels" are the n highest.
    """
    order: dict[str, Tensor] = {}
    for group in graph.groups:
        bundle = group.bundle
        first = scores[group.name].view(-1, bundle).sum(1).argsort(descending=True, stable=True) * bundle
        order[group.name] = (first[:, None] + torch.arange(bundle)).flatten()
    return order


def ranks(graph: PruningGraph, scores: Mapping[str, Tensor]) -> Tensor:
    """Every bundle's place among its group's: from -1, the lowest score, to 1, the highest; [Σ bundles]."""
    parts: list[Tensor] = []
    for group in graph.groups:
        rank = scores[group.name].view(group.n_bundles, -1).sum(1).argsort().argsort().float()
        parts.append(2 * rank / max(1, group.n_bundles - 1) - 1)
    return torch.cat(parts)


def first_channels(graph: PruningGraph) -> dict[str, Tensor]:
    """Scores that keep each group's first channels: by group name, [size]."""
    return {g.name: -torch.arange(g.size, dtype=torch.float32) for g in graph.groups}
