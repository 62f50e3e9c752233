"""DCSS: the folded mask is the mixture of K branches at the cost of one; budgets, resuming, discretisation."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.interface.method import Budget, Context, Found
from bench.search.fit import Fitted
from bench.search.gates import Gates
from bench.search.ranking import falling_order
from bench.search.widths import ExpectedMacs
from bench.structure.graph import PruningGraph
from bench.structure.surgery import permute
from methods.dcss import DCSS, SparsitySearch, cost, soft_mask
from tests.methods import searching


def test_the_soft_mask_by_hand() -> None:
    """Equation (2): m[c] is the share of the candidates that hold channel c."""
    m = soft_mask(torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([1, 2, 4, 6]))
    assert m.tolist() == pytest.approx([1.0, 0.9, 0.7, 0.7, 0.4, 0.4])


def test_the_cost_by_hand() -> None:
    for value, loss, slope in ((0.8, math.log(1.6), 1 / 0.8), (0.501, 0.0, 0.0), (0.4, math.log(1.25), -1 / 0.4)):
        E = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        found = cost(E, 0.5, 0.005)
        (gradient,) = torch.autograd.grad(found, E)
        assert found.item() == pytest.approx(loss)
        assert gradient.item() == pytest.approx(slope)


def chain(p: list[float], ratio: float, **hyper: Any) -> SparsitySearch:
    """A search on `searching.chain` with these probabilities of its widths 1 … K; MACs are 432 a channel."""
    model, graph = searching.chain(len(p))
    search = SparsitySearch(DCSS(candidates=len(p), **hyper), model, graph, Budget(ratio), steps=10)
    search.alpha.data = torch.tensor([p]).log()
    return search


def test_the_penalty_by_hand() -> None:
    """Equation (3): E[n] = 0.25·1 + 0.75·4 = 3.25 of 4 channels, against a budget of a half.

    log E[n] has the gradient p_k (n_k - 3.25) / 3.25: 0.5625 / 3.25 for the two candidates with p_k > 0, with opposite
    signs. λ is in units of the task's gradient, whose length is 0.5 here.
    """
    search = chain([0.25, 0.0, 0.0, 0.75], 0.5, cost_weight=3.0)
    assert float(search.E(search.p())) == pytest.approx(432 * 3.25)
    assert search.penalty().item() == 0  # nothing is known of the task's gradient yet
    search.balance.square.fill_(0.25)
    length = 2**0.5 * 0.5625 / 3.25
    assert search.penalty().item() == pytest.approx(3 * 0.5 / length * math.log(3.25 / 2))
    (slope,) = torch.autograd.grad(search.penalty(), search.alpha)
    assert float(slope.norm()) == pytest.approx(3 * 0.5)
    inside = chain([0.0, 1.0, 0.0, 0.0], 0.5)
    inside.balance.square.fill_(0.25)
    assert inside.penalty().item() == 0


def test_an_iteration_sets_temperature_rate_and_masks() -> None:
    search = chain([0.5, 0.0, 0.0, 0.5], 0.5, travel=5.0, temperature_start=1.0, temperature_end=0.25)
    model, x = search.gates._modules[""], torch.randn(2, 1, 4, 4)
    before = model(x).detach()
    search.before(0.5)
    assert search.tau == pytest.approx(0.5)
    assert search.optimizer.param_groups[0]["lr"] == pytest.approx(5.0 / 10)  # cos(π / 2) = 0
    assert not torch.allclose(model(x), before)
    assert torch.autograd.grad(model(x).sum(), search.alpha, allow_unused=True) == (None,)  # the weight step: no α
    search.before_architecture(0.5)
    (slope,) = torch.autograd.grad(model(x).sum(), search.alpha)
    assert slope.abs().max() > 0


def test_discretising_writes_the_soft_mask_into_the_weights() -> None:
    search = chain([0.5, 0.0, 0.0, 0.5], 0.5)
    model, x = search.gates._modules[""], torch.randn(2, 1, 4, 4)
    search.after(1.0)
    masked = model(x)
    widths, expected = search.discretise()
    assert widths == {"0": 2} and expected == pytest.approx(432 * 2.5)  # E[n] = 2.5, rounded to even
    assert torch.allclose(model(x), masked, atol=1e-6)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_ordering_channels_by_norm_leaves_the_function_as_it_is() -> None:
    bench = searching.digits()
    order = falling_order(bench.graph, bench.graph.channel_scores(bench.model))
    ordered = permute(bench.model, bench.graph, order).eval()
    x = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert (ordered(x) - copy.deepcopy(bench.model).eval()(x)).abs().max() < 1e-5
    for scores in bench.graph.channel_scores(ordered).values():
        assert (scores.diff() <= 1e-4).all()
    moved = [n for n, w in ordered.state_dict().items() if not torch.equal(w, bench.model.state_dict()[n])]
    assert "layer1.0.conv1.weight" in moved


class Branches(nn.Module):
    """A convolution and its norm as DARTS would have them: every candidate width a branch, zero-padded and added."""

    def __init__(self, conv: Any, norm: Any, parts: list[tuple[int, Tensor, Tensor]]) -> None:
        super().__init__()
        self.conv, self.norm, self.parts = conv, norm, parts

    def forward(self, x: Tensor) -> Tensor:
        conv, norm, total = self.conv, self.norm, None
        for start, n, p in self.parts:
            for k, width in enumerate(n.tolist()):
                rows = slice(start, start + width)
                y = F.conv2d(x, conv.weight[rows], None, conv.stride, conv.padding)
                y = F.batch_norm(y, None, None, norm.weight[rows], norm.bias[rows], training=True)
                y = p[k] * F.pad(y, (0, 0, 0, 0, start, conv.out_channels - start - width))
                total = y if total is None else total + y
        assert total is not None
        return total


def mixtures(alpha: Tensor) -> tuple[nn.Module, nn.Module, nn.Module, Gates]:
    """(dense, mixture of K branches, the same with folded masks, its gates), with α [groups, K] for both."""
    bench = searching.digits()
    method, dense = DCSS(), copy.deepcopy(bench.model).train()
    naive, folded = copy.deepcopy(dense), copy.deepcopy(dense)
    modules = dict(naive.named_modules())
    p = {g.name: row for g, row in zip(bench.graph.groups, alpha.softmax(1), strict=True)}
    parts: dict[str, list[tuple[int, Tensor, Tensor]]] = {}
    for g in bench.graph.groups:
        for member in g.gates:
            parts.setdefault(member.module, []).append((int(member.rows.min()), method.widths(g), p[g.name]))
    for name, here in parts.items():
        parent, _, leaf = name.rpartition(".")
        owner = modules[parent] if parent else naive
        conv = leaf.replace("bn", "conv")
        setattr(owner, conv, Branches(getattr(owner, conv), getattr(owner, leaf), here))
        setattr(owner, leaf, nn.Identity())
    gates = Gates(folded, bench.graph)
    gates.set({g.name: soft_mask(p[g.name], method.widths(g)) for g in bench.graph.groups})
    return dense, naive, folded, gates


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(32) % 10


def test_the_folded_mask_is_the_mixture_of_branches() -> None:
    alpha = torch.randn(6, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    _, naive, folded, _ = mixtures(alpha)
    x, y = batch()
    a, b = naive(x), folded(x)
    assert (a - b).abs().max() <= 1e-5 * a.abs().max()
    slopes = [torch.autograd.grad(F.cross_entropy(out, y), alpha, retain_graph=True)[0] for out in (a, b)]
    assert slopes[0].abs().max() > 0
    assert torch.allclose(*slopes, rtol=1e-3, atol=1e-6)


def test_the_folded_mask_keeps_what_the_dense_network_keeps_and_branches_much_more() -> None:
    dense, naive, folded, _ = mixtures(torch.zeros(6, 8))
    x, _ = batch()
    kept = {name: saved_bytes(lambda net=net: net(x)) for name, net in zip("dnf", (dense, naive, folded), strict=True)}
    assert kept["f"] <= 1.1 * kept["d"]
    assert kept["n"] > 2 * kept["d"]


@pytest.mark.speed
def test_branches_take_more_than_twice_the_time_of_the_dense_network() -> None:
    dense, naive, _, _ = mixtures(torch.zeros(6, 8))
    x, y = batch()

    def seconds(network: nn.Module) -> float:
        return min(searching.processor_time(lambda: F.cross_entropy(network(x), y).backward()) for _ in range(3))

    assert seconds(naive) > 2 * seconds(dense)


def saved_bytes(forward: Callable[[], Tensor]) -> int:
    """Bytes that the forward pass keeps for the backward pass, each storage once."""
    seen: dict[int, int] = {}
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        kept.append(tensor)  # alive, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(seen.values())


def test_an_iteration_of_the_search_keeps_what_two_dense_steps_do() -> None:
    """Measured 1.00 (ResNet-20, batch 128)."""
    assert searching.cost_of(searching.enlarged_digits(), DCSS()).memory <= 1.1


@pytest.mark.speed
def test_an_iteration_of_the_search_costs_what_two_dense_steps_do() -> None:
    """Measured 1.02 for the weight step and 0.75 for the other (ResNet-20, batch 128)."""
    # Small layers: here it is the overhead of Python that is measured.
    assert searching.cost_of(searching.enlarged_digits(images=0), DCSS(), rounds=2).time <= 1.5


class OneStream(nn.Module):
    """A convolution between channels of one residual stream, whose cost is a square."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.inner, self.inner_norm = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem_norm(self.stem(x)).relu()
        x = (x + self.inner_norm(self.inner(x))).relu()
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("network", ["resnet20", "one stream"])
def test_the_expected_cost_is_the_mean_over_sampled_architectures(network: str) -> None:
    torch.manual_seed(0)
    if network == "one stream":
        graph = PruningGraph.trace(OneStream(), torch.randn(1, 1, 8, 8))
    else:
        from tasks.models.resnet import cifar_resnet

        graph = PruningGraph.trace(cifar_resnet(20), torch.randn(1, 3, 32, 32))
    expected = ExpectedMacs(graph)
    assert bool(expected.squared) == (network == "one stream")
    generator = torch.Generator().manual_seed(1)
    method = DCSS()
    widths = {g.name: (torch.rand(8, generator=generator).softmax(0), method.widths(g)) for g in graph.groups}
    presence = {b.name: torch.rand((), generator=generator) for b in graph.blocks}
    draws = []
    for _ in range(3000):
        drawn = {name: int(n[torch.multinomial(p, 1, generator=generator)]) for name, (p, n) in widths.items()}
        there = {name: int(torch.rand((), generator=generator) < q) for name, q in presence.items()}
        draws.append(graph.macs(drawn, there))
    sampled = torch.tensor(draws, dtype=torch.float64)
    error = float(sampled.std()) / math.sqrt(len(draws))
    exact = float(expected(widths, presence))
    assert abs(float(sampled.mean()) - exact) < 4 * error
    assert error < 0.02 * exact
    if network == "one stream":
        means = {name: float((p * n).sum()) for name, (p, n) in widths.items()}
        assert exact - graph.macs(means) > 0.02 * exact  # what the variance adds


@functools.cache
def searched(ratio: float) -> tuple[Context, Found, Fitted]:
    bench = searching.digits()
    ctx = bench.context(12)
    return ctx, *bench.search(DCSS(), ratio, ctx)


@pytest.mark.parametrize("ratio", [0.7, 0.5, 0.3])
def test_the_search_ends_at_its_budget_and_the_network_where_the_search_did(ratio: float) -> None:
    ctx, found, fitted = searched(ratio)
    last = ctx.log.rows[-1]
    assert last["expected_macs_ratio"] == pytest.approx(ratio, rel=0.05)
    assert fitted.native_macs_ratio == pytest.approx(last["expected_macs_ratio"], rel=0.05)
    assert fitted.within
    assert (
        found.widths is not None and len({w / g.size for w, g in zip(found.widths.values(), graph(), strict=True)}) > 2
    )


def graph() -> tuple[Any, ...]:
    return searching.digits().graph.groups


def test_the_log_shows_the_distributions_settling() -> None:
    ctx, found, _ = searched(0.5)
    rows = ctx.log.rows
    assert rows[0]["temperature"] > rows[-1]["temperature"] > 0.1
    assert rows[-1]["entropy"] < 0.3 < rows[0]["entropy"] < 1
    assert len(ctx.log.snapshots["widths"]) == 12
    assert found.widths is not None
    for mean, width in zip(ctx.log.snapshots["widths"][-1]["values"], found.widths.values(), strict=True):
        assert abs(mean - width) <= 0.5 + 1e-3
    assert any(note.startswith("DCSS: E[MACs]") for note in ctx.log.notes)


def test_the_leading_channels_of_the_trained_network_stay() -> None:
    _, found, fitted = searched(0.5)
    for mask in fitted.pruning.keep.values():
        assert mask[: int(mask.sum())].all()
    assert found.model is not None
    dense = searching.digits().model.state_dict()
    assert not torch.equal(found.model.state_dict()["conv1.weight"].sort().values, dense["conv1.weight"].sort().values)


def test_argmax_is_there_for_comparison() -> None:
    method, group = DCSS(discretise="argmax"), graph()[0]
    n = method.widths(group)
    p = torch.tensor([0.3, 0.0, 0.0, 0.0, 0.2, 0.2, 0.1, 0.2])
    assert method.width(group, p, n) == int(n[0])
    assert DCSS().width(group, p, n) == round(float((p * n).sum()))


def test_a_killed_search_resumes_exactly(tmp_path: Path) -> None:
    searching.assert_resuming_is_exact(searching.digits(), DCSS(), 0.5, tmp_path)
