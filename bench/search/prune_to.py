"""One network pruned to a budget in one call, by a method that needs no data."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, cast

import torch

from bench.errors import RequestError
from bench.interface import registry
from bench.interface.cell import BudgetKind, Recipe
from bench.interface.method import Budget, Context, left_whole, prunes
from bench.interface.task import TrainVal
from bench.search.fit import fit, require_reachable, search_budget
from bench.structure.graph import PruningGraph
from bench.structure.surgery import prune

if TYPE_CHECKING:
    from torch import nn


def prune_to(
    model: nn.Module,
    example: torch.Tensor,
    budget: float = 0.5,
    method: str = "l1",
    *,
    hyper: Mapping[str, Any] | None = None,
    protect: Iterable[str] = (),
    tolerance: float = 0.005,
    round_to: int = 1,
    seed: int = 0,
    budget_kind: BudgetKind = "macs",
) -> nn.Module:
    """A smaller copy of `model` that keeps the fraction `budget` of its multiply-adds, or parameters; `model` stays.

    Weights are those of `model`, cut: train the result before it is used. `save_pruned` and `load_pruned` store it.

    Args:
        model: any network whose forward takes one tensor.
        example: one input batch of one sample, e.g. [1, 3, 32, 32].
        budget: what is kept as a fraction of the network's, above 0 and up to 1; met within `tolerance` on both sides,
            as counted on the result.
        budget_kind: `macs`, multiply-adds on the example, or `params`.
        method: a method or control that decides by the weights alone, such as l1, fpgm or group-l2. One that trains or
            looks at data runs in a suite.
        hyper: the method's fields that differ from their defaults.
        protect: names or patterns (`decoder.*`) of modules whose channels stay.
        round_to: keep widths at multiples of this many channels.
        seed: of a method that draws random numbers.

    Raises:
        RequestError: an unknown method or field, a method that needs data, or a budget that cannot be met.
    """
    wanted, kind = Budget(budget, tolerance, budget_kind), registry.method_class(method)
    if kind.searches:
        raise RequestError(f"method {method!r} trains while it searches, which prune_to cannot: run it in a suite")
    if not prunes(kind):
        raise RequestError(f"{method!r} prunes nothing; use a method such as l1")
    adapter = registry.make_method(method, hyper or {})
    graph = PruningGraph.trace(model, example, protect=protect)
    if not graph.groups:
        raise RequestError(
            "no channel of this network can be pruned; PruningGraph.trace(model, example).skipped says why"
        )
    require_reachable(graph, wanted, round_to=round_to, fixed=left_whole(adapter, graph))
    nothing = cast(Any, _Nothing(method))
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    ctx = Context(TrainVal(nothing, nothing), device, seed, 0, Recipe(), nothing)
    with torch.random.fork_rng(devices=[]):
        asked = search_budget(graph, wanted, round_to=round_to)
        found = adapter.search(copy.deepcopy(model), graph, nothing, asked, ctx)
    fitted = fit(graph, found, wanted, round_to=round_to)
    if not fitted.within:
        raise RequestError(f"budget {budget:g} is missed: {fitted.note}")
    return prune(found.model or model, graph, fitted.pruning)


class _Nothing:
    """Stands for the task, the data and the training loop, which there are not; whoever asks for them is told so."""

    def __init__(self, method: str) -> None:
        self._method = method

    def _refuse(self, *arguments: object, **named: object) -> NoReturn:
        raise RequestError(
            f"method {self.__dict__['_method']!r} looks at data or trains, and prune_to has none: run it in a suite, "
            "or use one that decides by the weights alone, such as l1"
        )

    __len__ = __iter__ = __call__ = __getitem__ = _refuse

    def __getattr__(self, name: str) -> NoReturn:
        self._refuse()
