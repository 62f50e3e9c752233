"""Taylor: the gate's derivative by hand, behind a norm and without one, and beside Torch-Pruning's."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.interface.method import Budget
from bench.interface.task import TrainVal
from bench.search.ranking import TAYLOR_BATCHES, gate_gradients, taylor_batches
from bench.structure.graph import PruningGraph
from methods.taylor import Taylor
from tests.methods.importances import LIBRARY, plain, ranking, theirs
from tests.methods.searching import CPU, digits


class Batches:
    """Training data that are these batches."""

    def __init__(self, *batches: tuple[Tensor, Tensor]) -> None:
        self.given = batches

    def __len__(self) -> int:
        return 4

    def batches(self, *args: Any, **options: Any) -> Any:
        return iter(self.given)


class Sum:
    """A task whose loss is the sum of the network's output times the target."""

    def loss(self, output: Tensor, target: Tensor, recipe: Any) -> Tensor:
        return (output * target).sum()


def context(*batches: tuple[Tensor, Tensor]) -> Any:
    ctx = digits().context(0)
    data: Any = Batches(*batches)
    ctx.data = TrainVal(data, ctx.data.val)
    return ctx


def chain() -> tuple[nn.Sequential, PruningGraph]:
    """1×1: x -> (2x, -x) -> 3·2x + 5·(-x) = x."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Conv2d(2, 1, 1, bias=False))
    with torch.no_grad():
        model.get_parameter("0.weight").copy_(torch.tensor([2.0, -1.0]).view(2, 1, 1, 1))
        model.get_parameter("1.weight").copy_(torch.tensor([3.0, 5.0]).view(1, 2, 1, 1))
    return model, PruningGraph.trace(model, torch.ones(1, 1, 1, 1))


def test_the_score_by_hand() -> None:
    """∂L/∂z = target · (6x, -5x): squared in each batch, then averaged, so that signs do not cancel."""
    model, graph = chain()
    one, two = torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 2.0)
    ctx = context((one, one), (two, -one))
    task: Any = Sum()
    slopes = [batch["0"].tolist() for batch in gate_gradients(graph, model, task, ctx)]
    assert slopes == [[6.0, -5.0], [-12.0, 10.0]]
    found = Taylor().search(model, graph, task, Budget(0.5), ctx)
    assert found.scores["0"].tolist() == pytest.approx([(36 + 144) / 2, (25 + 100) / 2])
    assert found.scope == "raw" and "2 training batches" in ctx.log.notes[0]


def test_a_gate_that_layers_share_sees_their_sum() -> None:
    """x -> 2x + 4x read by 3: ∂L/∂z = 18 for both together, divided by the two layers that it stands behind."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 2, 1, bias=False), nn.Conv2d(1, 2, 1, bias=False)
            self.head = nn.Conv2d(2, 1, 1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.a(x) + self.b(x))

    model = Residual()
    with torch.no_grad():
        for layer, values in ((model.a, [2.0, 1.0]), (model.b, [4.0, -1.0])):
            layer.weight.copy_(torch.tensor(values).view(2, 1, 1, 1))
        model.head.weight.fill_(3.0)
    one = torch.ones(1, 1, 1, 1)
    graph = PruningGraph.trace(model, one)
    task: Any = Sum()
    found = Taylor().search(model, graph, task, Budget(0.5), context((one, one)))
    assert found.scores["a"].tolist() == pytest.approx([18**2 / 2, 0.0])


def test_behind_a_norm_it_is_the_sum_over_scale_and_shift() -> None:
    """γ·g_γ + β·g_β, from the gradients of the norm's own parameters."""
    bench = digits()
    ctx = bench.context(0)
    slopes = list(gate_gradients(bench.graph, bench.model, bench.task, ctx))
    assert len(slopes) == min(TAYLOR_BATCHES, len(list(taylor_batches(ctx))))
    model = copy.deepcopy(bench.model).eval()
    x, y = next(taylor_batches(ctx))
    bench.task.loss(model(x), y, bench.recipe).backward()
    for group in bench.graph.groups:
        expected = torch.zeros(group.size)
        for member in group.gates:
            for name in ("weight", "bias"):
                parameter = model.get_parameter(f"{member.module}.{name}")
                assert parameter.grad is not None
                expected += (parameter * parameter.grad).detach()[torch.as_tensor(member.rows.ravel())]
        assert torch.allclose(slopes[0][group.name], expected, atol=1e-5), group.name
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), bench.model.parameters(), strict=True))


def test_torch_pruning_ranks_plain_layers_alike() -> None:
    """Of the layer alone and one batch: theirs is |Σ w g| of a filter, ours its square."""
    bench, model = digits(), plain(seed=3)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(16, 1, 6, 6, generator=generator), torch.randint(0, 10, (16,), generator=generator)
    graph = PruningGraph.trace(model, x[:1])
    scores = Taylor().search(model, graph, bench.task, Budget(0.5), context((x, y))).scores
    bench.task.loss(model(x), y, bench.recipe).backward()
    importance = LIBRARY.GroupTaylorImportance(multivariable=True, group_reduction="first", normalizer=None)
    for layer in ("0", "3"):
        expected = theirs(importance, model, layer)
        assert torch.allclose(scores[layer], expected.square().to(CPU), rtol=1e-3, atol=1e-12)
        assert ranking(scores[layer]) == ranking(expected)
