"""HRank: ranks by hand, where maps are taken, and that coupled readers are averaged."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from bench.interface.method import Budget
from methods.hrank import HRank, mean_ranks, ranks_at
from tests.methods.searching import digits


def test_ranks_by_hand() -> None:
    """Two images, three channels of 3×3: identity and zero, a row and an outer product, and a plane of rank 2."""
    eye, zero = torch.eye(3), torch.zeros(3, 3)
    row = torch.zeros(3, 3)
    row[1] = torch.tensor([1.0, 2.0, 3.0])
    outer = torch.tensor([1.0, 2.0, 3.0]).outer(torch.tensor([1.0, 0.0, -1.0]))
    two = torch.diag(torch.tensor([1.0, 1.0, 0.0]))
    maps = torch.stack([torch.stack([eye, row, two]), torch.stack([zero, outer, two])])
    assert mean_ranks(maps).tolist() == [1.5, 1.0, 2.0]
    assert mean_ranks(torch.tensor([[1.0, 0.0], [2.0, 3.0]])).tolist() == [1.0, 0.5]  # no height, no width


def test_maps_are_what_convolutions_read_behind_the_activation() -> None:
    bench = digits()
    ctx = bench.context(0)
    model = copy.deepcopy(bench.model)
    found = HRank(images=8).search(model, bench.graph, bench.task, Budget(0.5), ctx)
    x, _ = next(iter(ctx.data.train.batches(8, seed=ctx.seed, epoch=0, device=ctx.device)))
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str):
        return lambda module, args, out: seen.update({f"{name} in": args[0], f"{name} out": out})

    watched = copy.deepcopy(bench.model).eval()
    for name, module in watched.named_modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            module.register_forward_hook(keep(name))
    with torch.no_grad():
        watched(x)
    inner = mean_ranks(seen["layer2.0.conv2 in"])
    assert (seen["layer2.0.conv2 in"] >= 0).all() and torch.equal(found.scores["layer2.0.conv1"], inner)
    # The last stream is read behind global pooling alone: the maps of the layers that end in it.
    group = bench.graph.group("layer3.0.conv2")
    ends = [mean_ranks(seen[f"{m.module} out"])[torch.as_tensor(m.rows.ravel())] for m in group.gates]
    assert torch.allclose(found.scores[group.name], torch.stack(ends).mean(0))
    assert "8 training samples" in ctx.log.notes[0]
    assert not any(m._forward_hooks for m in model.modules())


def test_readers_of_one_stream_are_averaged() -> None:
    bench = digits("resnet20", 1)
    ctx = bench.context(0)
    found = HRank(images=4).search(copy.deepcopy(bench.model), bench.graph, bench.task, Budget(0.5), ctx)
    group = bench.graph.group("conv1")
    readers = list(group.consumers)[:-1]  # the last is the classifier
    x, _ = next(iter(ctx.data.train.batches(4, seed=ctx.seed, epoch=0, device=ctx.device)))
    ranks = ranks_at(copy.deepcopy(bench.model).eval(), readers, x)
    assert len(readers) >= 4
    expected = torch.stack([ranks[m.module, "in"][torch.as_tensor(m.rows.ravel())] for m in readers]).mean(0)
    assert torch.allclose(found.scores["conv1"], expected)
    assert len({tuple(r.tolist()) for r in ranks.values()}) > 2  # they differ


@pytest.mark.parametrize("images", [1, 10_000])
def test_the_split_bounds_the_images(images: int) -> None:
    bench = digits()
    ctx = bench.context(0)
    HRank(images=images).search(copy.deepcopy(bench.model), bench.graph, bench.task, Budget(0.5), ctx)
    assert f"{min(images, len(ctx.data.train))} training samples" in ctx.log.notes[0]
