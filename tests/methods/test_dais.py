"""DAIS: its regularisers by hand, its central claim and what it stands on, budgets, resuming, cost."""

from __future__ import annotations

import copy
import functools
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.interface.method import Budget, Context, Found
from bench.search.fit import Fitted
from bench.search.gates import Gates
from bench.search.ranking import ranks
from bench.training.evaluate import recalibrate
from methods.dais import DAIS, IndicatorSearch, flops_loss, same_stage, settle, sparsity_loss, symmetry_loss
from tests.methods import searching

T64 = torch.float64


def test_flops_loss_by_hand() -> None:
    """Equation (4): +log(E/F) above the target, -log(E/F) below the band, and 0 between."""
    for value, loss, slope in ((0.8, math.log(1.6), 1 / 0.8), (0.498, 0.0, 0.0), (0.4, math.log(1.25), -1 / 0.4)):
        E = torch.tensor(value, dtype=T64, requires_grad=True)
        found = flops_loss(E, 0.5, 0.01)
        (gradient,) = torch.autograd.grad(found, E)
        assert found.item() == pytest.approx(loss)
        assert gradient.item() == pytest.approx(slope)


def test_sparsity_loss_by_hand() -> None:
    """Equation (3), through the sigmoid: d mean|I| / dα = I (1 - I) / T / n."""
    alpha = torch.tensor([0.0, math.log(3.0)], dtype=T64, requires_grad=True)
    loss = sparsity_loss(torch.sigmoid(alpha / 0.5))  # I = 1/2 and 9/10
    (gradient,) = torch.autograd.grad(loss, alpha)
    assert loss.item() == pytest.approx(0.7)
    assert gradient.tolist() == pytest.approx([0.25 / 0.5 / 2, 0.09 / 0.5 / 2])


def test_symmetry_loss_by_hand() -> None:
    """Equation (5): three groups of one stage, and one that stands alone."""
    r = torch.tensor([0.5, 0.7, 0.4, 0.9], dtype=T64, requires_grad=True)
    loss = symmetry_loss(r.unbind(), [[0, 1, 2]])
    (gradient,) = torch.autograd.grad(loss, r)
    assert loss.item() == pytest.approx((0.2**2 + 0.1**2 + 0.3**2) / 3)
    assert gradient.tolist() == pytest.approx([2 * (-0.2 + 0.1) / 3, 2 * (0.2 + 0.3) / 3, 2 * (-0.1 - 0.3) / 3, 0])
    assert symmetry_loss(r.unbind(), []).item() == 0


def test_a_stage_holds_groups_that_differ_in_their_number_alone() -> None:
    names = ["conv1", "layer1.0.conv1", "layer1.1.conv1", "layer2.0.conv1", "layer2.1.conv1", "layer1.0.conv2"]
    assert same_stage(names, [16, 16, 16, 32, 32, 16]) == [[1, 2], [3, 4]]
    assert same_stage(["features.2.conv.0.0", "features.3.conv.0.0", "features.4.conv.0.0"], [96, 144, 144]) == [[1, 2]]


def test_temperature_falls_geometrically_and_stays() -> None:
    method = DAIS(temperature_start=1.0, temperature_end=0.01, anneal_until=0.8)
    assert [method.temperature(p) for p in (0, 0.4, 0.8, 1)] == pytest.approx([1, 0.1, 0.01, 0.01])


def test_indicators_start_in_l1_order_around_their_mean() -> None:
    bench = searching.digits()
    scores = bench.graph.channel_scores(bench.model)
    alpha = DAIS(start=0.9, spread=0.5).initial(ranks(bench.graph, scores))
    first, scores = alpha[: bench.graph.groups[0].size], scores[bench.graph.groups[0].name]
    assert first.argsort().tolist() == scores.argsort().tolist()
    assert first.mean().item() == pytest.approx(math.log(9), abs=1e-5)
    assert (first.min().item(), first.max().item()) == pytest.approx((math.log(9) - 0.5, math.log(9) + 0.5))


def chain(I: list[float], ratio: float, **hyper: Any) -> IndicatorSearch:  # noqa: E741
    """A search on `searching.chain` with these indicators at T = 1; E = 432 Σ I."""
    model, graph = searching.chain(len(I))
    start = torch.tensor(I).logit()
    return IndicatorSearch(DAIS(**hyper), model, graph, Budget(ratio), start=start, steps=10, device=searching.CPU)


def test_the_penalty_by_hand() -> None:
    """Equation (1) with Σ I = 2.5 of 4 channels against a budget of a half; a group alone has no symmetry.

    log(E/F) has the gradient I (1 - I) / Σ I, of length √(0.09² + 0.16² + 0.25² + 0.21²) / 2.5; λ is in units of the
    task's, which is 0.5 here.
    """
    search = chain([0.9, 0.8, 0.5, 0.3], 0.5, sparsity_weight=0.1, flops_weight=3.0)
    assert search.E(search.I()).item() == pytest.approx(432 * 2.5)
    assert search.penalty().item() == pytest.approx(0.1 * 2.5 / 4)  # nothing is known of the task's gradient yet
    search.balance.square.fill_(0.25)
    length = (0.09**2 + 0.16**2 + 0.25**2 + 0.21**2) ** 0.5 / 2.5
    assert search.penalty().item() == pytest.approx(0.1 * 2.5 / 4 + 3 * 0.5 / length * math.log(2.5 / 2), rel=1e-5)


def test_symmetry_belongs_to_the_penalty() -> None:
    bench = searching.digits("resnet20", 1)
    values: list[float] = []
    for weight in (0.0, 2.0):
        method = DAIS(symmetry_weight=weight, sparsity_weight=0.0, flops_weight=0.0, spread=0.0)
        start = method.initial(ranks(bench.graph, bench.graph.channel_scores(bench.model)))
        search = IndicatorSearch(
            method, bench.model, bench.graph, Budget(0.5), start=start, steps=1, device=searching.CPU
        )
        with torch.no_grad():
            search.units.parts(search.alpha)[search.stages[0][0]].fill_(-100.0)  # one group of a stage is off
        values.append(float(search.penalty()))
        search.gates.remove()
    n, pairs = len(search.stages[0]), sum(len(s) * (len(s) - 1) // 2 for s in search.stages)
    assert n > 1
    assert values == pytest.approx([0.0, 2.0 * (n - 1) * 0.9**2 / pairs])


def test_the_best_indicators_of_a_group_are_kept_from_going_off() -> None:
    search = chain([0.4, 0.3, 0.2, 0.1], 0.5, floor=0.25)
    assert search.floors == [1]
    search.after(0.5)
    assert search.I().tolist() == pytest.approx([torch.tensor(0.1).sigmoid().item(), 0.3, 0.2, 0.1])


def test_after_annealing_the_indicators_are_settled_at_the_budget() -> None:
    search = chain([0.9, 0.8, 0.7, 0.6], 0.5, anneal_until=0.9)
    search.after(0.9)
    assert (search.I() > 0.5).all()
    search.after(0.91)
    assert (search.I() > 0.5).tolist() == [True, True, False, False]


def test_settling_flips_the_nearest_indicators_and_no_others() -> None:
    bench = searching.digits()
    floors = [1] * len(bench.graph.groups)
    n = sum(g.size for g in bench.graph.groups)
    alpha = torch.linspace(0.5, 2.0, n)[torch.randperm(n, generator=torch.Generator().manual_seed(0))]
    F = 0.9 * bench.graph.macs()
    before = alpha.clone()
    flipped = settle(alpha, bench.graph, F, 0.01, floors)
    off = alpha <= 0
    widths = {
        g.name: int((p > 0).sum())
        for g, p in zip(bench.graph.groups, alpha.split([g.size for g in bench.graph.groups]), strict=True)
    }
    assert abs(bench.graph.macs(widths) - F) <= 0.01 * F
    assert flipped == off.sum() > 0
    assert before[off].max() < before.quantile(0.25)  # the nearest ones, but for a last fit
    assert torch.equal(alpha[~off], before[~off])


@functools.cache
def searched(ratio: float, seed: int, **hyper: Any) -> tuple[Found, Fitted, Context]:
    bench = searching.digits()
    ctx = bench.context(8, seed)
    return (*bench.search(DAIS(**hyper), ratio, ctx), ctx)


def judged(found: Found, temperature: float, seed: int) -> tuple[float, float, float]:
    """Validation accuracy with continuous and with binary indicators, both recalibrated; share decided."""
    bench = searching.digits()
    I = {name: torch.sigmoid(alpha / temperature) for name, alpha in found.scores.items()}  # noqa: E741
    accuracies: list[float] = []
    for factors in (I, {name: (i > 0.5).float() for name, i in I.items()}):
        model = copy.deepcopy(found.model)
        assert model is not None
        with Gates(model, bench.graph) as gates:
            gates.set(factors)
            recalibrate(model, bench.data.train, searching.CPU, seed=seed, recipe=bench.recipe)
            metrics = bench.task.evaluate(model, bench.data.val, searching.CPU, bench.recipe)
        accuracies.append(metrics["accuracy"])
    flat = torch.cat(list(I.values()))
    return accuracies[0], accuracies[1], ((flat <= 0.05) | (flat >= 0.95)).double().mean().item()


@pytest.mark.parametrize("ratio", [0.5, 0.25])
def test_annealing_closes_the_gap(ratio: float) -> None:
    """The paper's central claim, with the cost at its target and indicators off: else it would hold vacuously."""
    gaps: list[float] = []
    binary: list[float] = []
    for seed in (0, 1, 2):
        found, fitted, ctx = searched(ratio, seed)
        last = ctx.log.rows[-1]
        assert last["expected_macs_ratio"] == pytest.approx(ratio, rel=0.02)
        assert fitted.native_macs_ratio == pytest.approx(ratio, rel=0.02)
        assert last["off"] > 0.1
        continuous, discrete, decided = judged(found, DAIS().temperature(1), seed)
        assert decided >= 0.99
        gaps.append(abs(continuous - discrete))
        binary.append(discrete)
    noise = max(torch.tensor(binary).std().item(), 100 / len(searching.digits().data.val))
    assert max(gaps) <= noise, (gaps, binary)
    assert min(binary) > 80  # of 10 classes: the network works before any recovery


def test_without_annealing_the_gap_stays() -> None:
    """The ablation: T stays at 1, and cutting is no longer what was searched."""
    found, _, _ = searched(0.25, 0, temperature_end=1.0)
    continuous, discrete, decided = judged(found, 1.0, 0)
    assert decided < 0.5
    assert continuous - discrete > 10


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
    _, fitted = bench.search(DAIS(), ratio, ctx)
    assert fitted.native_macs_ratio == pytest.approx(ratio, rel=0.02)
    assert min(fitted.native_widths[g.name] / g.size for g in bench.graph.groups) >= min(0.1, ratio / 2)
    assert ctx.log.rows[-1]["decided"] > 0.95


def test_the_log_says_what_happened() -> None:
    _, _, ctx = searched(0.5, 0)
    assert len(ctx.log.rows) == 8
    assert {"expected_macs_ratio", "nonzero_macs_ratio", "temperature", "lambda", "decided", "exact_zeros"} <= set(
        ctx.log.rows[0]
    )
    graph = searching.digits().graph
    assert all(len(row["values"]) == sum(g.size for g in graph.groups) for row in ctx.log.snapshots["gates"])
    assert all(len(row["values"]) == len(graph.groups) for row in ctx.log.snapshots["widths"])
    assert any("binarised" in note for note in ctx.log.notes)


def test_resuming_is_exact(tmp_path: Path) -> None:
    searching.assert_resuming_is_exact(searching.digits(), DAIS(), 0.5, tmp_path)


def test_a_search_step_keeps_what_a_dense_step_keeps() -> None:
    assert searching.cost_of(searching.enlarged_digits(), DAIS()).memory <= 1.1


@pytest.mark.speed
def test_a_search_step_costs_what_a_dense_step_costs() -> None:
    cost = searching.cost_of(searching.enlarged_digits("resnet20", 0), DAIS(), rounds=5, batch_size=128)
    assert cost.time <= 1.25  # 1.0 to 1.05 on an idle machine
