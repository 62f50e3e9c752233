"""GDP: gate and proximal step by hand, exact extraction, planted blocks, budgets without a cliff, resuming, cost."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from bench.interface.cell import Recipe
from bench.interface.method import Budget, Context, Found, Penalty, Search
from bench.search.fit import Fitted
from bench.structure.graph import PruningGraph
from bench.structure.groups import Pruning
from bench.structure.surgery import prune
from methods.gdp import GDP, Cost, Polarization, gate, gate_slope, prox, zero_lowest
from tasks.models.edsr import sr_network
from tasks.models.resnet import cifar_resnet
from tests.methods import searching


def test_gate_by_hand() -> None:
    """Equation (1): exact zeros, one half at φ² = ε, and a slope that vanishes at 0 and for large φ."""
    phi = torch.tensor([0.0, 0.1, -0.1, 3.0], dtype=torch.float64, requires_grad=True)
    g = gate(phi, 0.01)
    assert g.tolist() == pytest.approx([0, 0.5, 0.5, 9 / 9.01])
    (slope,) = torch.autograd.grad(g.sum(), phi)
    assert slope.tolist() == pytest.approx([0, 5, -5, 0.06 / 9.01**2])
    assert torch.allclose(gate_slope(phi.detach(), 0.01), slope)


def test_proximal_operator_by_hand() -> None:
    """Equation (4)."""
    phi = torch.tensor([-0.5, 0.05, 0.3, 0.0, -0.1])
    assert prox(phi, 0.1).tolist() == pytest.approx([-0.4, 0, 0.2, 0, 0])


def chain(phi: list[float], *, epsilon: float, F: float, **hyper: Any) -> Polarization:
    """A search on `searching.chain` at gates of these φ and this ε, one step being the whole of it: R(g) = 432 Σ g."""
    model, graph = searching.chain()
    start, budget = torch.ones(len(phi)), Budget(F / 1728)
    search = Polarization(GDP(**hyper), model, graph, budget, start=start, steps=1, device=searching.CPU)
    search.phi.data = torch.tensor(phi)
    search.before_step, search.epsilon = search.phi.detach().clone(), epsilon
    return search


def test_proximal_step_by_hand() -> None:
    """Equation (5): all φ = 1 at ε = 1, so g = 1/2, g' = 1/2 and R = 864; the strongest gate is exempt."""
    search = chain([1.2, 1.0, 1.0, 1.0], epsilon=1.0, F=400, cap=1.0)
    assert search.cost.dense == 1728
    R = 432 * (1.44 / 2.44 + 1.5)
    assert search.R(search.phi, 1.0) == pytest.approx(R)
    step, refused = search.proximal_step(R - 64)
    expected = 64 / (3 * 432 * 0.5)
    assert (step, refused) == (pytest.approx(expected), False)
    assert search.phi.tolist() == pytest.approx([1.2, *[1 - expected] * 3])


def test_proximal_step_is_capped_and_rests_below_its_target() -> None:
    search = chain([1.2, 1.0, 1.0, 1.0], epsilon=1.0, F=400, cap=0.01)
    assert search.proximal_step(0.0)[0] == 0.01
    rested = search.phi.clone()
    assert search.proximal_step(1728.0) == (0.0, False)
    assert torch.equal(search.phi, rested)


def test_no_zero_takes_the_macs_below_the_budget() -> None:
    search = chain([0.5, 0.001, 0.002, 1.0], epsilon=1e-6, F=3 * 432, cap=0.01, band=0.01)
    _, refused = search.proximal_step(0.0)
    assert refused
    # The lowest went, the next would have been too much.
    assert (search.phi == 0).tolist() == [False, True, False, False]
    zero_lowest(search.phi.detach(), torch.ones(4, dtype=torch.bool), search.cost, F=2 * 432, band=0.01)
    assert (search.phi == 0).tolist() == [False, True, True, False]


def test_a_gate_that_is_too_dear_stays_and_a_later_one_goes() -> None:
    """16 pixels × (9 a + a b + 9 b) multiply-adds at a = 2, b = 4: 49 at a = 1, 51 at b = 3, and 39 at both."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 4, 1), nn.Conv2d(4, 1, 3, padding=1))
    cost = Cost(PruningGraph.trace(model, torch.randn(1, 1, 4, 4)))
    phi = torch.tensor([0.01, 1.0, 0.02, 0.03, 0.04, 1.0])
    assert (cost.dense, cost.nonzero(phi)) == (16 * 62, 16 * 62)
    zero_lowest(phi, torch.ones(6, dtype=torch.bool), cost, F=16 * 51, band=0.01)
    assert (phi == 0).tolist() == [False, False, True, False, False, False]


def test_the_target_falls_to_the_budget_and_never_fast() -> None:
    """R* by hand at ε = 1, with a start of φ = 1 (R = 864) and a budget of one half."""
    search = chain([1.0] * 4, epsilon=1.0, F=864, prune_from=0.2, prune_until=0.6, epsilon_start=1.0, epsilon_end=1.0)
    search.start, search.steps = torch.ones(4), 100
    search.before_step = torch.full((4,), 1e-3)  # R has fallen as far as it may: no limit on the fall
    assert search.target(0.1) == pytest.approx(864)
    assert search.target(0.4) == pytest.approx(0.75 * 864)  # half-way
    assert search.target(0.6) == pytest.approx(0.5 * 864)
    search.before_step = torch.ones(4)  # R has not fallen at all: half as fast again as its target, a fortieth a step
    assert search.target(0.6) == pytest.approx(864 - 1.5 * 864 / 40)


def test_a_gradient_step_beyond_the_target_is_taken_back_by_halves() -> None:
    """From φ = 1 (R = 864 at ε = 1) to 0: half of the way back is R = 432·4·0.2, three quarters 432·4·0.36."""
    search = chain([1.0] * 4, epsilon=1.0, F=864)
    for target, phi in ((300.0, 0.5), (600.0, 0.75), (864.0, 1.0)):
        search.phi.data.zero_()
        search.shorten(target)
        assert search.phi.tolist() == pytest.approx([phi] * 4)


def test_gradients_are_stated_in_their_root_mean_square_and_clipped() -> None:
    search = chain([1.0] * 4, epsilon=1.0, F=864, clip=1.5)
    search.phi.grad = torch.tensor([3.0, -1.0, 1.0, 1.0])  # root mean square √3
    search.before_architecture(0.5)
    assert search.phi.grad.tolist() == pytest.approx([1.5, -(3**-0.5), 3**-0.5, 3**-0.5])
    search.frozen.fill_(1)
    search.before_architecture(0.5)
    assert search.phi.grad is None


def test_an_iteration_ends_when_the_budget_is_met() -> None:
    """Two of four gates at zero are the budget: φ is frozen, and the next iteration changes nothing."""
    search = chain([1.0, 0.9, 0.0, 0.0], epsilon=1e-6, F=864)
    search.after(0.5)
    assert search.frozen and search.eta_lambda == 0
    before = search.phi.clone()
    search.phi.data.mul_(0.5)
    search.after(0.6)
    assert torch.equal(search.phi, 0.5 * before)


def test_what_exceeds_the_budget_at_the_deadline_goes_at_once() -> None:
    search = chain([1.0, 0.9, 0.8, 0.7], epsilon=1e-6, F=864, deadline=0.75)
    search.freeze(at_once=False)
    assert not search.frozen and (search.phi > 0).all()
    search.after(0.75)
    assert search.frozen
    assert (search.phi == 0).tolist() == [False, False, True, True]


def test_a_negative_gate_is_set_to_almost_nothing_and_not_to_zero() -> None:
    """The proximal step alone makes zeros; here it has nothing to do, since R is at its target."""
    search = chain([1.0, 0.9, -0.1, 0.8], epsilon=0.1, F=1728)
    search.start = search.before_step = torch.tensor([1.0, 0.9, 1e-8, 0.8])
    search.after(0.0)
    assert search.phi.tolist() == pytest.approx([1.0, 0.9, 1e-8, 0.8])


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet": (lambda: cifar_resnet(20), (2, 3, 32, 32)),
    "mobilenetv2": (lambda: timm.create_model("mobilenetv2_050", num_classes=10), (2, 3, 64, 64)),
    "unet": (lambda: smp.Unet("resnet18", encoder_weights=None, classes=3), (2, 3, 64, 64)),
    "deeplabv3plus": (lambda: smp.DeepLabV3Plus("resnet18", encoder_weights=None, classes=3), (2, 3, 64, 64)),
    "edsr": (lambda: sr_network("edsr-tiny", 2), (2, 3, 24, 24)),
}


@torch.no_grad()
def lively(model: nn.Module) -> nn.Module:
    """Norms with statistics and shifts of their own, so that a zeroed channel would show."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.weight, 0.5), (module.running_var, 0.5), (module.bias, -0.5)):
                assert tensor is not None
                tensor.uniform_(low, low + 1)
    return model.eval()


@pytest.mark.parametrize("name", list(NETWORKS))
def test_extraction_is_exact(name: str) -> None:
    """What the gated network computes, the extracted one computes: zeros, middling gates and a block included."""
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    model, x = lively(build()), torch.randn(shape)
    graph = PruningGraph.trace(model, x[:1])
    outputs: list[Tensor] = []

    @torch.no_grad()
    def look(gated: nn.Module, search: Search | None, recipe: Recipe, penalty: Penalty | None) -> nn.Module:
        assert search is not None and search.before is not None
        search.before(0.0)
        outputs.append(gated(x))
        (phi, *_) = search.state["gates"].parameters()  # pyright: ignore[reportAttributeAccessIssue]
        cost = Cost(graph)
        phi.uniform_(1e-4, 1e-2)
        phi[(torch.rand(len(phi)) < 0.4) & ~cost.strongest(phi, 0.2, cost.dense)] = 0
        phi[cost.channels :] = 0.01
        if graph.blocks:
            phi[-1] = 0
        search.before(1.0)
        outputs.append(gated(x))
        return gated

    bench = searching.digits()
    ctx = dataclasses.replace(bench.context(1), trainer=look)
    found = GDP().search(copy.deepcopy(model), graph, bench.task, Budget(0.5), ctx)
    with torch.no_grad():
        dense = model(x)
    start, before = outputs
    assert (start - dense).abs().max() <= 1e-4 * dense.abs().max()  # the search starts from the dense function
    assert found.keep is not None and found.model is not None
    small = prune(found.model.eval(), graph, Pruning(found.keep, found.drop_blocks))
    assert (len(found.drop_blocks) == 1) == bool(graph.blocks)
    removed = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in small.parameters())
    assert removed > 0.4 * sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        after = small(x)
    assert (after - before).abs().max() <= 1e-4 * before.abs().max()
    assert (before - dense).abs().max() > 1e-2 * dense.abs().max()  # the gates did something


def test_a_planted_useless_block_goes_whole_and_exactly() -> None:
    bench = searching.digits("resnet20", 1)
    model = copy.deepcopy(bench.model)
    block = model.get_submodule("layer2.1")
    with torch.no_grad():
        for name, p in block.named_parameters():
            p.requires_grad_(False)
            if name.startswith("bn2"):
                p.zero_()
    found = GDP().search(model, bench.graph, bench.task, Budget(0.5), bench.context(5))
    assert "layer2.1" in found.drop_blocks
    assert found.model is not None and found.keep is not None
    small = prune(found.model.eval(), bench.graph, Pruning(found.keep, found.drop_blocks))
    assert isinstance(small.get_submodule("layer2.1"), torch.nn.ReLU)
    x = torch.randn(8, 1, 8, 8)
    with torch.no_grad():
        whole, cut = found.model(x), small(x)
    assert (whole - cut).abs().max() <= 1e-4 * whole.abs().max()


def traced(ctx: Context) -> tuple[Context, list[float]]:
    """The same context, and R(g) over the dense MACs after every iteration of the search that it trains."""
    steps: list[float] = []

    def trainer(model: nn.Module, search: Search | None, recipe: Recipe, penalty: Penalty | None) -> nn.Module:
        assert search is not None and search.after is not None and search.metrics is not None
        after, metrics = search.after, search.metrics

        def trace(progress: float) -> None:
            after(progress)
            steps.append(metrics()["expected_macs_ratio"])

        return ctx.trainer(model, dataclasses.replace(search, after=trace), recipe, penalty)

    return dataclasses.replace(ctx, trainer=trainer), steps


def steepest(steps: list[float]) -> float:
    """The largest fall of R(g) within ten iterations, or within a sixteenth of them where they are fewer than 160."""
    return max(a - b for a, b in zip(steps, steps[min(10, len(steps) // 16) :], strict=False))


@functools.cache
def searched(ratio: float, seed: int) -> tuple[Found, Fitted, Context, list[float]]:
    bench = searching.digits()
    # A fall of 0.75 within 0.55 of the steps must take longer than one of 0.25.
    ctx, steps = traced(bench.context(12 if ratio < 0.5 else 8, seed))
    return (*bench.search(GDP(), ratio, ctx), ctx, steps)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("ratio", [0.75, 0.5, 0.25])
def test_budgets_are_met_without_a_collapse(ratio: float, seed: int) -> None:
    bench = searching.digits()
    found, fitted, ctx, _ = searched(ratio, seed)
    last = ctx.log.rows[-1]
    assert fitted.native_macs_ratio == pytest.approx(ratio, rel=0.02)
    assert last["nonzero_macs_ratio"] == pytest.approx(fitted.native_macs_ratio)
    assert last["exact_zeros"] > 0.1 and last["decided"] > 0.9
    assert min(fitted.native_widths[g.name] / g.size for g in bench.graph.groups) > 0.12
    # The surviving gates are in the weights: extraction needs no recovery.
    assert found.model is not None
    small = prune(found.model, bench.graph, fitted.pruning)
    accuracy = bench.task.evaluate(small, bench.data.val, searching.CPU, bench.recipe)["accuracy"]
    assert accuracy > (60 if fitted.fitted_channels else last["val_accuracy"] - 0.01)
    assert accuracy > 60


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("ratio", [0.75, 0.5, 0.25])
def test_no_run_falls_off_a_cliff(ratio: float, seed: int) -> None:
    *_, steps = searched(ratio, seed)
    assert steepest(steps) <= 0.12  # 0.08 on average; a fall that nothing slows takes 0.2 at once


@pytest.mark.parametrize(("ratio", "seed"), [(0.25, 1), (0.5, 2)])
def test_a_longer_run_falls_more_gently(ratio: float, seed: int) -> None:
    bench = searching.digits()
    ctx, steps = traced(bench.context(24 if ratio < 0.5 else 16, seed))
    bench.search(GDP(), ratio, ctx)
    assert len(steps) >= 300 and max(a - b for a, b in zip(steps, steps[20:], strict=False)) <= 0.1


def test_a_unet_falls_off_no_cliff() -> None:
    bench = searching.residual_unet()
    ctx, steps = traced(bench.context(5))
    _, fitted = bench.search(GDP(), 0.5, ctx)
    assert fitted.native_macs_ratio == pytest.approx(0.5, rel=0.02)
    assert steepest(steps) <= 0.1


def test_one_gate_may_fall_where_all_are_dear() -> None:
    """Two gates at the edge, each a quarter of the MACs: an excess of a hundredth takes one of them."""
    search = chain([0.02, 0.0201, 1.0, 1.2], epsilon=1e-4, F=400, cap=0.02, floor=0.0)
    R = search.R(search.phi, 1e-4)
    for _ in range(50):
        before = search.R(search.phi, 1e-4)
        search.proximal_step(R - 20)
        assert before - search.R(search.phi, 1e-4) <= 432 + 2
    assert search.R(search.phi, 1e-4) <= R - 18


@pytest.mark.parametrize(
    ("name", "ratio"),
    [
        ("small_unet", 0.75),
        ("small_unet", 0.5),
        ("residual_unet", 0.25),
        *(("super_resolution", ratio) for ratio in (0.75, 0.5, 0.25)),
    ],
)
def test_other_tasks_meet_their_budget(name: str, ratio: float) -> None:
    bench = getattr(searching, name)()
    ctx = bench.context(3)
    _, fitted = bench.search(GDP(), ratio, ctx)
    assert fitted.native_macs_ratio == pytest.approx(ratio, rel=0.02)
    assert min(fitted.native_widths[g.name] / g.size for g in bench.graph.groups) >= 0.1
    assert ctx.log.rows[-1]["exact_zeros"] > 0.05


def test_the_log_says_what_happened() -> None:
    _, _, ctx, _ = searched(0.5, 0)
    assert {"expected_macs_ratio", "nonzero_macs_ratio", "epsilon", "lambda", "decided"} <= set(ctx.log.rows[0])
    graph = searching.digits().graph
    entries = sum(g.size for g in graph.groups) + len(graph.blocks)
    assert all(len(row["values"]) == entries for row in ctx.log.snapshots["gates"])
    assert all(len(row["values"]) == len(graph.groups) for row in ctx.log.snapshots["widths"])
    widths = torch.tensor([row["values"] for row in ctx.log.snapshots["widths"]])
    assert (widths.diff(dim=0) <= 0).all()  # zeros absorb


def test_resuming_is_exact(tmp_path: Path) -> None:
    searching.assert_resuming_is_exact(searching.digits(), GDP(), 0.5, tmp_path)


def test_a_search_step_keeps_what_a_dense_step_keeps() -> None:
    assert searching.cost_of(searching.enlarged_digits(), GDP()).memory <= 1.1


@pytest.mark.speed
def test_a_search_step_costs_what_a_dense_step_costs() -> None:
    cost = searching.cost_of(searching.enlarged_digits("resnet20", 0), GDP(), rounds=5, batch_size=128)
    assert cost.time <= 1.25  # 1.0 to 1.05 on an idle machine
