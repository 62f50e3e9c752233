"""Every network family: what the pruned network computes and costs, for random prunings."""

from __future__ import annotations

import functools
import tempfile
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn as nn
from fvcore.nn import FlopCountAnalysis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.structure.copies import duplicate
from bench.structure.files import load_pruned, save_pruned
from bench.structure.graph import PruningGraph
from bench.structure.groups import Pruning
from bench.structure.measure import count_macs, count_params
from bench.structure.shortcut import Shortcut
from bench.structure.surgery import mask, prune
from tests.bench.structure.coverage import FAMILY, HEAD, documented, row
from tests.bench.structure.networks import NETWORKS, assert_same, example_of, graph, network, outputs, random_pruning


def zeroed_at_the_readers(model: nn.Module, graph: PruningGraph, pruning: Pruning) -> nn.Module:
    """A second way to mask, which shares nothing with `mask`: removed channels are zeroed as they are read."""
    masked = duplicate(model)
    modules = dict(masked.named_modules())
    removed: dict[str, list[int]] = {}
    for name, keep in pruning.keep.items():
        for member in graph.group(name).consumers:
            gone = ~keep.view(member.rows.shape[0], -1)[:, 0].numpy()
            removed.setdefault(member.module, []).extend(member.rows[gone].ravel().tolist())
    for name, channels in removed.items():
        layer = modules[name]

        def zero(module: nn.Module, args: tuple[torch.Tensor], channels: list[int] = channels) -> torch.Tensor:
            x = args[0].clone()
            x[(..., channels) if isinstance(module, nn.Linear) else (slice(None), channels)] = 0
            return x

        layer.register_forward_pre_hook(zero)
    for block in graph.blocks:
        if block.name in pruning.drop_blocks:
            parent, _, child = block.name.rpartition(".")
            setattr(modules[parent], child, Shortcut(block.activation))
    return masked


def conv_and_matmul_macs(model: nn.Module, x: torch.Tensor) -> float:
    """fvcore's count of the operations that both counters count."""
    analysis = FlopCountAnalysis(model, x).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    counted: Counter[str] = analysis.by_operator()
    return sum(counted[op] for op in ("conv", "linear", "addmm", "matmul", "bmm"))


@functools.cache
def dense(name: str) -> tuple[int, int, torch.Size]:
    """Multiply-adds, parameters, and the shape of what the dense network gives for its example."""
    model, x = network(name), example_of(name)
    return count_macs(model, x), count_params(model), outputs(model, x).shape


@pytest.mark.parametrize("name", NETWORKS, scope="module")
@settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**16), kept=st.sampled_from([0.2, 0.5, 0.8]), dropped=st.sampled_from([0.0, 0.4]))
def test_the_pruned_network_computes_what_the_masked_one_does(
    name: str, seed: int, kept: float, dropped: float
) -> None:
    model, structure, x = network(name), graph(name), example_of(name)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    pruning = random_pruning(structure, seed, kept, dropped)
    smaller = prune(model, structure, pruning)
    got = outputs(smaller, x)
    assert_same(outputs(mask(model, structure, pruning), x), got)
    if not pruning.drop_blocks:
        assert_same(outputs(zeroed_at_the_readers(model, structure, pruning), x), got)
    macs, params, shape = dense(name)
    assert got.shape == shape
    absent = dict.fromkeys(pruning.drop_blocks, 0)
    assert structure.macs(pruning.widths, absent) == count_macs(smaller, x) < macs
    assert structure.params(pruning.widths, absent) == count_params(smaller) < params
    after = model.state_dict()
    assert all(torch.equal(tensor, after[key]) for key, tensor in before.items())


@pytest.mark.parametrize("name", NETWORKS, scope="module")
def test_the_dense_network_costs_what_the_counters_say(name: str) -> None:
    macs, params, _ = dense(name)
    assert graph(name).macs() == macs
    assert graph(name).params() == params == sum(p.numel() for p in network(name).parameters())
    assert graph(name).minimum_macs() < graph(name).macs()


@pytest.mark.parametrize(
    "name",
    [
        "cifar-resnet20",
        "torchvision-resnet18",
        "torchvision-mobilenet_v2",
        "torchvision-efficientnet_b0",
        "torchvision-regnet_y_400mf",
        "torchvision-densenet121",
        "smp-Unet-resnet18-1",
        "smp-DeepLabV3Plus-mobilenet_v2-12",
        "smp-MAnet-resnet18-1",
        "srresnet-x3",
    ],
    scope="module",
)
def test_fvcore_counts_the_same_on_the_pruned_network(name: str) -> None:
    structure, x = graph(name), example_of(name)
    pruning = random_pruning(structure, seed=5)
    smaller = prune(network(name), structure, pruning)
    predicted = structure.macs(pruning.widths, dict.fromkeys(pruning.drop_blocks, 0))
    assert conv_and_matmul_macs(smaller, x) == predicted


@pytest.mark.parametrize(
    "name", [name for name in NETWORKS if "vgg" not in name and "MAnet" not in name], scope="module"
)
def test_a_saved_network_loads_and_computes_the_same(name: str) -> None:
    model, structure, x = network(name), graph(name), example_of(name)
    pruning = random_pruning(structure, seed=3)
    smaller = prune(model, structure, pruning)
    like = duplicate(model)
    for tensor in like.state_dict().values():
        tensor.zero_()
    with tempfile.TemporaryDirectory() as folder:
        save_pruned(folder, smaller, pruning)
        again = load_pruned(folder, like)
    assert torch.equal(outputs(again, x), outputs(smaller, x))


@pytest.mark.parametrize("name", NETWORKS, scope="module")
def test_every_layer_is_in_a_group_or_left_whole_with_a_reason(name: str) -> None:
    structure, model = graph(name), network(name)
    grouped = {m.module for group in structure.groups for m in group.members if m.kind != "in"}
    layers = {n for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))}
    assert layers <= grouped | set(structure.whole)
    reasons = {reason for _, reason in structure.skipped}
    assert set(structure.whole.values()) <= reasons and all(reasons)


def test_groups_of_one_network_do_not_overlap() -> None:
    for name in ("cifar-resnet20", "torchvision-densenet121", "smp-DeepLabV3Plus-mobilenet_v2-12"):
        taken: dict[tuple[str, str], list[int]] = {}
        for group in graph(name).groups:
            for member in group.members:
                taken.setdefault((member.module, member.kind), []).extend(member.rows.ravel().tolist())
        for rows in taken.values():
            assert len(rows) == len(np.unique(rows))


def test_the_documented_coverage_table_has_every_network_once() -> None:
    head, rows = documented()[:2], documented()[2:]
    assert head == HEAD.splitlines()
    assert [line.split(" | ")[1] for line in rows] == list(FAMILY)


@pytest.mark.parametrize("name", NETWORKS, scope="module")
def test_the_documented_coverage_of_a_network_is_current(name: str) -> None:
    """To write the table anew: `python -m tests.bench.structure.coverage`."""
    assert row(name) in documented()
