"""Budgets of parameters: the closed form by hand, the fit on both sides, and what a method is asked for."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

from bench import PruningGraph, count_macs, count_params, prune_to
from bench.errors import RequestError
from bench.interface.method import Budget, Found, Scope
from bench.search.fit import check, fit, reachable, require_reachable, search_budget
from bench.structure.groups import Pruning
from bench.structure.surgery import prune
from tasks.models.resnet import cifar_resnet

X = torch.randn(1, 3, 8, 8)


class Small(nn.Module):
    """3 -> 8 channels at 8x8, 8 -> 16 at 4x4, ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False)
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.norm(self.first(x)).relu()).relu().mean((2, 3)))


@cache
def small() -> tuple[nn.Module, PruningGraph]:
    torch.manual_seed(0)
    model = Small()
    return model, PruningGraph.trace(model, X)


DENSE = (3 * 8 * 9 + 8) + 2 * 8 + 8 * 16 * 9 + (16 * 10 + 10)  # 1562
THINNER = (3 * 6 * 9 + 6) + 2 * 6 + 6 * 12 * 9 + (12 * 10 + 10)  # 958, of 6 and 12 channels


def test_parameters_are_a_closed_form_of_the_widths() -> None:
    model, graph = small()
    assert (graph.params(), count_params(model)) == (DENSE, DENSE) == (1562, 1562)
    names = {g.size: g.name for g in graph.groups}
    widths = {names[8]: 6, names[16]: 12}
    assert graph.params(widths) == THINNER == 958
    masks = {g.name: torch.arange(g.size) < widths[g.name] for g in graph.groups}
    assert count_params(prune(model, graph, Pruning(masks))) == 958


def test_a_method_is_asked_for_the_macs_of_the_thinner_network_of_so_many_parameters() -> None:
    _, graph = small()
    asked = search_budget(graph, Budget(THINNER / DENSE, 0.004, "params"))
    dense = 3 * 8 * 9 * 64 + 8 * 16 * 9 * 16 + 160
    thinner = 3 * 6 * 9 * 64 + 6 * 12 * 9 * 16 + 120
    assert (asked.kind, asked.tolerance) == ("macs", 0.004)
    assert asked.ratio == thinner / dense == 20856 / 32416
    of_macs = Budget(0.5)
    assert search_budget(graph, of_macs) is of_macs
    assert search_budget(graph, Budget(1.0, kind="params")).ratio == 1.0


@pytest.mark.parametrize("scope", ["layer", "global", "raw"])
@pytest.mark.parametrize("ratio", [0.9, 0.5, 0.2])
def test_parameters_are_fitted_inside_the_tolerance_as_counted(ratio: float, scope: Scope) -> None:
    torch.manual_seed(0)
    model = cifar_resnet(20)
    example = torch.randn(1, 3, 16, 16)
    graph = PruningGraph.trace(model, example, verify=False)
    budget = Budget(ratio, kind="params")
    generator = torch.Generator().manual_seed(1)
    scores = {g.name: torch.rand(g.size, generator=generator) for g in graph.groups}
    fitted = fit(graph, Found(scores, scope=scope), budget)
    pruned = prune(model, graph, fitted.pruning)
    measured, within = check(pruned, example, budget, count_params(model))
    assert within and fitted.within and abs(measured - ratio) <= 0.005
    assert measured == count_params(pruned) / count_params(model) == fitted.params_ratio == fitted.ratio("params")
    assert fitted.macs_ratio == count_macs(pruned, example) / count_macs(model, example)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_widths_on_either_side_are_brought_onto_the_budget(share: float) -> None:
    """From above and from below; what the method itself decided is kept in both units."""
    torch.manual_seed(0)
    model = cifar_resnet(8)
    graph = PruningGraph.trace(model, torch.randn(1, 3, 16, 16), verify=False)
    widths = {g.name: max(1, round(share * g.size)) for g in graph.groups}
    budget = Budget(0.5, 0.005, "params")
    fitted = fit(graph, Found(graph.channel_scores(model), widths=widths), budget)
    assert fitted.within and fitted.params_ratio is not None and abs(fitted.params_ratio - 0.5) <= 0.005
    assert fitted.native_widths == widths
    assert fitted.native_params_ratio == graph.params(widths) / graph.params()
    assert fitted.native_macs_ratio == graph.macs(widths) / graph.macs()
    grown = [fitted.widths[name] - width for name, width in widths.items()]
    assert all(change >= 0 for change in grown) if share < 0.5 else all(change <= 0 for change in grown)


def test_what_cannot_be_reached_is_said_in_parameters() -> None:
    _, graph = small()
    least = ((3 * 9 + 1) + 2 + 9 + (10 + 10)) / DENSE  # one channel each
    assert reachable(graph, kind="params") == (least, 1.0)
    with pytest.raises(RequestError, match=r"this network goes from 0\.0378 to 1 of its parameters"):
        require_reachable(graph, Budget(0.03, kind="params"))
    with pytest.raises(RequestError, match="budget kind 'latency' is not allowed; use one of macs, params"):
        Budget(0.5, kind="latency")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("method", ["l1", "random-widths"])
def test_one_network_is_pruned_to_a_share_of_its_parameters(method: str) -> None:
    torch.manual_seed(0)
    model, x = cifar_resnet(8), torch.randn(1, 3, 16, 16)
    smaller = prune_to(model, x, budget=0.4, method=method, budget_kind="params")
    assert abs(count_params(smaller) / count_params(model) - 0.4) <= 0.005
