"""A method on a small network: what its searches find, and what they were seen to do besides."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.contract.places import MAIN, Place
from bench.contract.watch import RandomStates, fingerprint, loads_counted, random_states_kept
from bench.interface import registry
from bench.interface.cell import Recipe
from bench.interface.log import Observer
from bench.interface.method import Budget, Context, Found, Method, Penalty, Search, left_whole
from bench.interface.task import Splits, Task
from bench.search import fit as budgets
from bench.search.fit import Fitted
from bench.structure.graph import PruningGraph
from bench.structure.measure import count_macs
from bench.structure.surgery import prune
from bench.training.context import search_context
from bench.training.loop import Phase, train

CPU = torch.device("cpu")
RECIPE = Recipe(batch_size=32, precision="fp32")
RATIOS = (0.7, 0.5, 0.3)

Trainer = Callable[[nn.Module, Search | None, Recipe, Penalty | None], nn.Module]


class Interrupted(BaseException):
    """A search was stopped between two of its epochs."""


class StopAfter(Observer):
    """Stops a search once an epoch has ended and is in the checkpoint, as a kill would."""

    def __init__(self, epoch: int) -> None:
        self.last = epoch

    def epoch(self, phase: str, epoch: int, row: Mapping[str, Any]) -> None:
        if epoch >= self.last:
            raise Interrupted


class MethodTrial:
    """A method on a network and data of one place."""

    def __init__(self, name: str, place: Place = MAIN, *, dense_epochs: int = 2) -> None:
        self.name, self.place, self.dense_epochs = name, place, dense_epochs
        self.kind = registry.method_class(name)
        self.task: Task = place.make()
        self.data: Splits = self.task.load(None)
        self.penalties: list[tuple[Tensor, list[Tensor | None]]] = []
        """Of each search that adds to its weights' loss: the penalty before the first step, and its gradients."""
        self.loaded: list[str] = []
        """Data sets that searches loaded by themselves."""
        self.changed: set[str] = set()
        """What searches changed that is not theirs."""
        self.random_states: list[RandomStates] = []
        """Of each search."""

    @cached_property
    def dense(self) -> nn.Module:
        torch.manual_seed(0)
        model = self.task.network(self.data.info)
        return train(model, self.task, self.data.train, RECIPE, Phase("dense", self.dense_epochs, 0, CPU)).cpu()

    @cached_property
    def example(self) -> Tensor:
        return self.task.example(self.data.info)

    @cached_property
    def graph(self) -> PruningGraph:
        return PruningGraph.trace(self.dense, self.example)

    @cached_property
    def dense_macs(self) -> int:
        return count_macs(self.dense, self.example)

    def search(
        self,
        ratio: float,
        seed: int = 0,
        epochs: int = 2,
        *,
        hyper: Mapping[str, Any] | None = None,
        dense: nn.Module | None = None,
        workdir: Path | None = None,
        observer: Observer | None = None,
    ) -> tuple[Found, Context]:
        """One search from the same dense network, watched.

        Args:
            hyper: fields that are not at their defaults.
            dense: a network in place of the trial's own.
            workdir: where the search's checkpoint goes.
        """
        method: Method = registry.make_method(self.name, hyper or {})
        ctx = search_context(
            self.task, self.data.visible, RECIPE, epochs=epochs, seed=seed, device=CPU,
            workdir=workdir, observer=observer,
        )  # fmt: skip
        states = RandomStates(len(self.random_states))
        self.random_states.append(states)
        watched = dataclasses.replace(ctx, trainer=self._watching(ctx.trainer, states))
        before = self._untouched
        model = copy.deepcopy(self.dense if dense is None else dense)
        with loads_counted(self.task) as loaded, random_states_kept():
            states.begin()
            try:
                found = method.search(model, self.graph, self.task, Budget(ratio), watched)
            finally:
                states.end()
                self.loaded += loaded
        now = self._fingerprint()
        self.changed |= {name for name, digest in now.items() if digest != before[name]}
        return found, ctx

    def _watching(self, trainer: Trainer, states: RandomStates) -> Trainer:
        """The shared loop, with a look at the penalty that it is given, and apart from what the search seeds."""

        def train(model: nn.Module, search: Search | None, recipe: Recipe, penalty: Penalty | None) -> nn.Module:
            states.end()
            if penalty is not None:
                value = penalty()
                weights = [p for p in model.parameters() if p.requires_grad]
                slopes: list[Tensor | None] = []
                if value.ndim == 0 and value.requires_grad:
                    slopes = list(torch.autograd.grad(value, weights, allow_unused=True))
                self.penalties.append((value.detach(), slopes))
            trained = trainer(model, search, recipe, penalty)
            states.begin()
            return trained

        return train

    @cached_property
    def _untouched(self) -> dict[str, str]:
        """What no search may change, before the first."""
        return self._fingerprint()

    def _fingerprint(self) -> dict[str, str]:
        splits = {"training": self.data.train, "validation": self.data.val}
        return fingerprint(self.dense, self.graph, self.example, splits)

    @cached_property
    def _first(self) -> tuple[Found, Context, RandomStates]:
        found, ctx = self.search(0.5)
        return found, ctx, self.random_states[-1]

    @property
    def found(self) -> tuple[Found, Context]:
        """The search at a budget of one half."""
        return self._first[:2]

    @cached_property
    def repeated(self) -> tuple[Found, Found, RandomStates, RandomStates]:
        """The search at one half, and the same once more from other global random states; and those of both."""
        first = self._first
        again, _ = self.search(0.5)
        return first[0], again, first[2], self.random_states[-1]

    @cached_property
    def found_at(self) -> dict[float, Found]:
        """One search at each of `RATIOS`."""
        return {ratio: self.found[0] if ratio == 0.5 else self.search(ratio)[0] for ratio in RATIOS}

    def least(self, hyper: Mapping[str, Any] | None = None) -> float:
        """The smallest share of the MACs that the network can keep beside what the method leaves whole."""
        fixed = left_whole(registry.make_method(self.name, hyper or {}), self.graph)
        return budgets.reachable(self.graph, fixed=fixed)[0]

    def require_scores(self, found: Found) -> None:
        """Raise AssertionError where a score is missing or not finite."""
        for group in self.graph.groups:
            assert group.name in found.scores, f"no scores for group {group.name}"
            scores = found.scores[group.name]
            assert tuple(scores.shape) == (group.size,), f"scores of {group.name} have shape {tuple(scores.shape)}"
            assert bool(torch.isfinite(scores).all()), f"scores of {group.name} are not finite"

    def require_fit(self, found: Found, ratio: float) -> Fitted:
        """The finding fitted to a budget.

        Raises:
            AssertionError: a score is missing or not finite, or the pruned network misses the budget.
        """
        self.require_scores(found)
        fitted = budgets.fit(self.graph, found, Budget(ratio))
        macs = count_macs(prune(found.model or self.dense, self.graph, fitted.pruning), self.example)
        assert Budget(ratio).holds(macs, self.dense_macs), f"budget {ratio:g}: measured {macs / self.dense_macs:.4f}"
        return fitted
