"""Budget fitting: inside the tolerance on both sides, by the smallest change."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bench.errors import RequestError
from bench.interface.method import Budget, Found, Scope
from bench.search.fit import check, fit, reachable, require_reachable
from bench.structure.graph import PruningGraph
from bench.structure.measure import count_macs
from bench.structure.surgery import prune
from tasks.models.edsr import sr_network
from tasks.models.resnet import cifar_resnet


@cache
def traced(name: str) -> tuple[nn.Module, PruningGraph, torch.Tensor]:
    torch.manual_seed(0)
    model: nn.Module
    if name == "edsr-tiny":
        model, example = sr_network("edsr-tiny", 2), torch.randn(1, 3, 16, 16)
    else:
        model, example = cifar_resnet(int(name.removeprefix("resnet"))), torch.randn(1, 3, 32, 32)
    return model, PruningGraph.trace(model, example), example


def random_scores(graph: PruningGraph, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {g.name: torch.rand(g.size, generator=generator) for g in graph.groups}


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(["resnet8", "resnet20", "edsr-tiny"]),
    ratio=st.sampled_from([0.9, 0.75, 0.5, 0.25, 0.15]),
    scope=st.sampled_from(["layer", "global", "raw"]),
    seed=st.integers(0, 1000),
)
def test_scores_are_fitted_inside_the_tolerance_as_measured(name: str, ratio: float, scope: Scope, seed: int) -> None:
    model, graph, example = traced(name)
    budget = Budget(ratio)
    fitted = fit(graph, Found(scores=random_scores(graph, seed), scope=scope), budget)
    pruned = prune(model, graph, fitted.pruning)
    ratio_measured, within = check(pruned, example, budget, count_macs(model, example))
    assert within and fitted.within and abs(ratio_measured - ratio) <= 0.005
    assert ratio_measured == pytest.approx(fitted.macs_ratio, abs=1e-12)
    assert fitted.note == ""


def test_a_raw_threshold_takes_scores_as_they_are() -> None:
    """A group whose scores are all higher loses nothing; divided by their means, the groups are alike."""
    _, graph, _ = traced("resnet20")
    scores = {g.name: torch.arange(1.0, g.size + 1) / g.size for g in graph.groups}
    high = graph.groups[2].name
    scores[high] = scores[high] + 1
    raw = fit(graph, Found(scores, scope="raw"), Budget(0.5)).native_widths
    assert raw[high] == graph.group(high).size
    lowest = [float(scores[n].sort(descending=True).values[w - 1]) for n, w in raw.items() if n != high]
    removed = [float(scores[n].sort(descending=True).values[w]) for n, w in raw.items() if n != high]
    assert min(lowest) >= max(removed)  # one threshold
    scores[high] = 1000 * (scores[high] - 1)
    alike = fit(graph, Found(scores, scope="global"), Budget(0.5)).native_widths
    shares = [alike[g.name] / g.size for g in graph.groups]
    assert max(shares) - min(shares) < 0.1


@pytest.mark.parametrize("scope", ["layer", "global", "raw"])
def test_the_highest_scores_stay(scope: Scope) -> None:
    _, graph, _ = traced("resnet20")
    scores = random_scores(graph, 3)
    fitted = fit(graph, Found(scores=scores, scope=scope), Budget(0.5))
    for g in graph.groups:
        kept = fitted.pruning.keep[g.name]
        assert int(kept.sum()) == fitted.widths[g.name]
        if not kept.all():
            assert scores[g.name][kept].min() > scores[g.name][~kept].max()


def test_layer_scope_is_uniform() -> None:
    _, graph, _ = traced("resnet20")
    fitted = fit(graph, Found(scores=random_scores(graph, 0)), Budget(0.5))
    ratios = [fitted.widths[g.name] / g.size for g in graph.groups]
    assert max(ratios) - min(ratios) <= 2.5 / 16  # a step of rounding and one of fitting in the narrowest group


def test_global_scope_lets_groups_differ() -> None:
    _, graph, _ = traced("resnet20")
    scores = random_scores(graph, 0)
    first = graph.groups[0].name
    scores[first] = torch.linspace(0, 1e-4, len(scores[first])) + torch.eye(len(scores[first]))[0]
    fitted = fit(graph, Found(scores=scores, scope="global"), Budget(0.6))
    assert fitted.widths[first] < 0.4 * graph.groups[0].size


def test_what_meets_the_budget_is_left_alone() -> None:
    _, graph, _ = traced("resnet20")
    scores = random_scores(graph, 5)
    first = fit(graph, Found(scores=scores), Budget(0.5))
    again = fit(graph, Found(scores=scores, keep=dict(first.pruning.keep)), Budget(0.5))
    assert again.fitted_channels == 0
    assert again.native_macs_ratio == again.macs_ratio
    assert all(torch.equal(again.pruning.keep[n], first.pruning.keep[n]) for n in first.pruning.keep)


def test_a_mask_slightly_off_changes_by_a_few_channels_and_says_how_many() -> None:
    _, graph, _ = traced("resnet20")
    scores = random_scores(graph, 6)
    near = fit(graph, Found(scores=scores), Budget(0.52, 0.003))
    fitted = fit(graph, Found(scores=scores, keep=dict(near.pruning.keep)), Budget(0.5))
    changed = sum(int((fitted.pruning.keep[n] != near.pruning.keep[n]).sum()) for n in near.pruning.keep)
    assert fitted.within
    assert fitted.fitted_channels == changed
    # One channel of ResNet-20 is worth up to 0.9 % of its MACs: two to four bring 0.52 inside 0.505.
    assert 1 <= changed <= 4


def test_the_change_is_the_smallest_that_lands_inside() -> None:
    _, graph, _ = traced("resnet8")
    dense = graph.macs()
    start = {g.name: g.size for g in graph.groups}
    names = list(start)
    single = [graph.macs({**start, n: start[n] - 1}) / dense for n in names]
    target = single[1]
    found = Found(scores=random_scores(graph, 0), widths=start)
    fitted = fit(graph, found, Budget(target, 1e-6))
    assert fitted.within and fitted.fitted_channels == 1
    assert fitted.macs_ratio == pytest.approx(target, abs=1e-6)


def test_a_far_miss_is_not_paid_for_by_one_group() -> None:
    _, graph, _ = traced("resnet20")
    start = {g.name: g.size for g in graph.groups}
    fitted = fit(graph, Found(scores=random_scores(graph, 0), widths=start), Budget(0.5))
    assert fitted.within
    assert min(fitted.widths[g.name] / g.size for g in graph.groups) >= 0.6


def test_widths_of_a_pixel_shuffle_come_in_bundles() -> None:
    model, graph, example = traced("edsr-tiny")
    assert {g.bundle for g in graph.groups} == {1, 4}
    fitted = fit(graph, Found(scores=random_scores(graph, 1)), Budget(0.5))
    assert all(fitted.widths[g.name] % g.bundle == 0 for g in graph.groups)
    assert prune(model, graph, fitted.pruning)(example).shape == model(example).shape


def test_widths_round_to_eight() -> None:
    _, graph, _ = traced("resnet20")
    fitted = fit(graph, Found(scores=random_scores(graph, 2)), Budget(0.5, 0.02), round_to=8)
    assert all(fitted.widths[g.name] % 8 == 0 for g in graph.groups)
    assert fitted.within


def test_a_budget_between_the_steps_gives_the_nearest_and_is_flagged() -> None:
    _, graph, _ = traced("resnet8")
    fitted = fit(graph, Found(scores=random_scores(graph, 2)), Budget(0.5, 1e-9), round_to=8)
    assert not fitted.within
    assert "too coarse" in fitted.note
    assert abs(fitted.macs_ratio - 0.5) < 0.1


def test_an_unreachable_budget_is_refused_with_the_range() -> None:
    _, graph, _ = traced("resnet20")
    low, high = reachable(graph)
    assert high == 1.0
    assert low == pytest.approx(graph.minimum_macs() / graph.macs())
    with pytest.raises(RequestError, match=r"budget 0\.001 cannot be reached .* from 0\.\d+ to 1 of its MACs"):
        require_reachable(graph, Budget(0.001))
    require_reachable(graph, Budget(math.ceil(low * 1e4) / 1e4))


def test_the_smallest_budget_leaves_a_channel_everywhere() -> None:
    _, graph, _ = traced("resnet20")
    low, _ = reachable(graph)
    fitted = fit(graph, Found(scores=random_scores(graph, 2), scope="global"), Budget(low, 0.001))
    assert set(fitted.widths.values()) == {1}


def test_a_full_budget_removes_nothing() -> None:
    _, graph, _ = traced("resnet8")
    fitted = fit(graph, Found(scores=random_scores(graph, 2)), Budget(1.0))
    assert fitted.macs_ratio == 1.0
    assert all(mask.all() for mask in fitted.pruning.keep.values())


@pytest.mark.parametrize("ratio", [0, -0.5, 1.2, float("nan"), float("inf")])
def test_impossible_ratios_are_refused(ratio: float) -> None:
    with pytest.raises(RequestError, match="use a kept fraction above 0 and up to 1"):
        Budget(ratio)


@pytest.mark.parametrize("tolerance", [0, -0.1, 1, float("nan")])
def test_impossible_tolerances_are_refused(tolerance: float) -> None:
    with pytest.raises(RequestError, match="tolerance"):
        Budget(0.5, tolerance)


def test_both_ends_of_the_tolerance_hold_and_nothing_beyond() -> None:
    budget = Budget(0.5, 0.005)
    assert budget.holds(495, 1000) and budget.holds(505, 1000)
    assert not budget.holds(494, 1000) and not budget.holds(506, 1000)


def test_scores_that_do_not_fit_the_network_are_errors_of_the_method() -> None:
    _, graph, _ = traced("resnet8")
    scores = random_scores(graph, 0)
    first = graph.groups[0].name
    with pytest.raises(ValueError, match=f"no scores for group '{first}'"):
        fit(graph, Found(scores={n: s for n, s in scores.items() if n != first}), Budget(0.5))
    with pytest.raises(ValueError, match="have shape"):
        fit(graph, Found(scores={**scores, first: torch.rand(3)}), Budget(0.5))
    with pytest.raises(ValueError, match="not finite"):
        fit(graph, Found(scores={**scores, first: torch.full_like(scores[first], float("nan"))}), Budget(0.5))
    with pytest.raises(ValueError, match="must be bool"):
        fit(graph, Found(scores=scores, keep={first: torch.ones(len(scores[first]))}), Budget(0.5))


FIXED = frozenset({"conv1", "layer2.0.conv2", "layer3.0.conv2"})


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("ratio", [0.9, 0.5, 0.1])
def test_fixed_groups_stay_whole(scope: Scope, ratio: float) -> None:
    model, graph, example = traced("resnet20")
    fitted = fit(graph, Found(scores=random_scores(graph, 0), scope=scope, fixed=FIXED), Budget(ratio))
    assert fitted.within
    assert all(fitted.widths[name] == graph.group(name).size for name in FIXED)
    assert any(fitted.widths[g.name] < g.size for g in graph.groups if g.name not in FIXED)
    pruned = prune(model, graph, fitted.pruning)
    assert check(pruned, example, Budget(ratio), count_macs(model, example))[1]


def test_fixed_groups_stay_whole_whatever_the_masks_say() -> None:
    _, graph, _ = traced("resnet20")
    keep = {g.name: torch.arange(g.size) < g.size // 2 for g in graph.groups}
    fitted = fit(graph, Found(scores=random_scores(graph, 0), keep=keep, fixed=FIXED), Budget(0.5))
    assert fitted.within and all(fitted.widths[name] == graph.group(name).size for name in FIXED)


def test_a_budget_that_the_other_groups_cannot_reach_is_refused() -> None:
    """Inner groups alone: 0.0477 of the MACs are left with one channel in each."""
    _, graph, _ = traced("resnet20")
    assert reachable(graph, fixed=FIXED)[0] == pytest.approx(0.0477, abs=1e-4)
    with pytest.raises(RequestError, match=r"0\.04 cannot .* where 3 of 12 groups stay whole: .* from 0\.0478 to 1"):
        fit(graph, Found(scores=random_scores(graph, 0), fixed=FIXED), Budget(0.04))


def test_an_unknown_fixed_group_is_refused() -> None:
    _, graph, _ = traced("resnet20")
    with pytest.raises(ValueError, match="unknown group 'stem'"):
        fit(graph, Found(scores=random_scores(graph, 0), fixed=frozenset({"stem"})), Budget(0.5))
