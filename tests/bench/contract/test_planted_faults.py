"""Methods and tasks with one fault each: `check` names it, and nothing else where nothing else is wrong."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import methods
from bench.contract import suite
from bench.contract.method import METHOD_PROPERTIES
from bench.contract.task import task_takes_large_seeds
from bench.contract.trial import MethodTrial
from bench.contract.verdict import verdicts
from bench.errors import RequestError
from bench.interface import registry
from bench.interface.method import Found
from tasks.data.images import ImageSplit
from tests.bench.contract.planted import QUICK, assert_named

READS_TEST = "reads no data but the training and validation samples that it is handed"
LEAVES_ALONE = "leaves the dense network, the graph, the data and hooks on all modules as they were"
SEEDS = "seeds no global random state: its random numbers come from generators of its own"
REPRODUCES = "finds the same with the same seed, whatever the global random state"
WHOLE = "returns, if any, a network of the dense network's shape, free of gates and hooks"
GROUPS = "decides on groups and blocks of the graph alone, and silences no output of a head"
DEAD = "gives a channel of zeros the lowest score of its group, where it declares dead_lowest"
ENDS = "can be fitted to a budget of 1, and to one near the least that the network can keep"
LARGE_SEEDS = "searches with seeds up to 2³¹, the largest that a suite allows"
RESUMES = "finds the same when its search is interrupted after an epoch and goes on from its checkpoint"
FIELDS = "works with all fields at other values than their defaults and with each choice, or says why it cannot"


@dataclass(frozen=True)
class Plain:
    """Keeps the channels of the largest norms; nothing is wrong with it."""

    searches: ClassVar[bool] = False
    needs_dense: ClassVar[bool] = True
    dead_lowest: ClassVar[bool] = True
    recovery: ClassVar[str] = "finetune"
    standing: ClassVar[str] = "an example"

    def search(self, model: Any, graph: Any, task: Any, budget: Any, ctx: Any) -> Found:
        return Found(scores=graph.channel_scores(model))


@dataclass(frozen=True)
class Trains(Plain):
    """Trains the weights and keeps them; nothing is wrong with it."""

    searches: ClassVar[bool] = True
    architecture: ClassVar[bool] = False

    def search(self, model: Any, graph: Any, task: Any, budget: Any, ctx: Any) -> Found:
        ctx.train(model)
        return Found(scores=graph.channel_scores(model), model=model)


@dataclass(frozen=True)
class Peeks(Plain):
    """Looks at the test split."""

    def search(self, model: Any, graph: Any, task: Any, budget: Any, ctx: Any) -> Found:
        other = registry.make_task("classification", dataclasses.asdict(task))
        other.load(None).test()
        return super().search(model, graph, task, budget, ctx)


@dataclass(frozen=True)
class Patches(Plain):
    """Changes the class of a layer, and so the dense network with it."""

    def search(self, model: Any, graph: Any, task: Any, budget: Any, ctx: Any) -> Found:
        real = torch.nn.Linear.forward
        torch.nn.Linear.forward = lambda layer, x: 2 * real(layer, x)  # pyright: ignore[reportAttributeAccessIssue]
        return super().search(model, graph, task, budget, ctx)


@dataclass(frozen=True)
class Relabels(Plain):
    """Changes the labels that it is handed."""

    def search(self, model: Any, graph: Any, task: Any, budget: Any, ctx: Any) -> Found:
        ctx.data.train.labels.add_(1).remainder_(10)
        return super().search(model, graph, task, budget, ctx)


@dataclass(frozen=True)
class Seeds(Plain):
    """Seeds Python's, NumPy's and torch's global random states."""

    def search(self, model: Any, graph: Any, task: Any, budget: Any, ctx: Any) -> Found:
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(ctx.seed)
        return super().search(model, graph, task, budget, ctx)


@dataclass(frozen=True)
class Draws(Plain):
    """Draws from the global random state."""

    dead_lowest: ClassVar[bool] = False

    def search(self, model: Any, graph: Any, task: Any, budget: Any, ctx: Any) -> Found:
        return Found(scores={g.name: torch.rand(g.size) for g in graph.groups})


@dataclass(frozen=True)
class Hooks(Trains):
    """Leaves a hook that changes no output."""

    def search(self, model: Any, graph: Any, task: Any, budget: Any, ctx: Any) -> Found:
        model.get_submodule("conv1").register_forward_hook(lambda *_: None)
        return super().search(model, graph, task, budget, ctx)


@dataclass(frozen=True)
class Beheads(Trains):
    """Silences a class."""

    def search(self, model: Any, graph: Any, task: Any, budget: Any, ctx: Any) -> Found:
        found = super().search(model, graph, task, budget, ctx)
        head = [m for m in model.modules() if isinstance(m, torch.nn.Linear)][-1]
        head.weight.data[3] = 0
        return found


@dataclass(frozen=True)
class ScoresHead(Plain):
    """Decides on the classifier's outputs, which no pruning may remove."""

    def search(self, model: Any, graph: Any, task: Any, budget: Any, ctx: Any) -> Found:
        return Found(scores={**graph.channel_scores(model), "fc": torch.arange(10.0)})


@dataclass(frozen=True)
class Backwards(Plain):
    """Gives the smallest norms the highest scores."""

    def search(self, model: Any, graph: Any, task: Any, budget: Any, ctx: Any) -> Found:
        return Found(scores={name: -scores for name, scores in graph.channel_scores(model).items()})


@dataclass(frozen=True)
class Divides(Plain):
    """Divides by what a budget of 1 removes."""

    def search(self, model: Any, graph: Any, task: Any, budget: Any, ctx: Any) -> Found:
        return Found(scores={n: s * (1 / (1 - budget.ratio)) for n, s in graph.channel_scores(model).items()})


@dataclass(frozen=True)
class Overflows(Plain):
    """Has room for small seeds alone."""

    def search(self, model: Any, graph: Any, task: Any, budget: Any, ctx: Any) -> Found:
        np.array([ctx.seed], dtype=np.int32)
        return super().search(model, graph, task, budget, ctx)


@dataclass(frozen=True)
class Forgets(Trains):
    """Adds up what it saw in each epoch, and has no such sums in its checkpoint."""

    dead_lowest: ClassVar[bool] = False

    def search(self, model: Any, graph: Any, task: Any, budget: Any, ctx: Any) -> Found:
        steps = [0]

        def count() -> torch.Tensor:
            steps[0] += 1
            return 1e-6 * torch.stack([p.abs().sum() for p in model.parameters()]).sum()

        ctx.train(model, penalty=count)
        generator = torch.Generator().manual_seed(steps[0])
        return Found(scores={g.name: torch.rand(g.size, generator=generator) for g in graph.groups}, model=model)


@dataclass(frozen=True)
class Narrow(Plain):
    """Works with its default alone."""

    power: float = 1.0

    def search(self, model: Any, graph: Any, task: Any, budget: Any, ctx: Any) -> Found:
        return Found(scores=graph.channel_scores(model, p=1 / (self.power == 1.0)))


@cache
def common() -> tuple[Any, Any, Any]:
    trial = MethodTrial("l1", QUICK)
    return trial.dense, trial.graph, trial.data


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[type[Any]], dict[str, str]]]:
    """What is wrong with a method of a class, by property; the dense network is trained once for all."""
    forward = torch.nn.Linear.forward

    def of(kind: type[Any]) -> dict[str, str]:
        monkeypatch.setitem(methods.CATALOGUE, "broken", f"{__name__}:{kind.__name__}")
        registry.method_names.cache_clear()
        trial = MethodTrial("broken", QUICK)
        vars(trial)["dense"], vars(trial)["graph"] = common()[:2]
        return {v.name: v.reason for v in verdicts(trial, METHOD_PROPERTIES) if not v.passed}

    yield of
    torch.nn.Linear.forward = forward  # pyright: ignore[reportAttributeAccessIssue]
    registry.method_names.cache_clear()


def test_nothing_is_found_where_nothing_is_wrong(failures: Callable[[type[Any]], dict[str, str]]) -> None:
    assert failures(Plain) == {}
    assert failures(Trains) == {}


FAULTS: list[tuple[type[Any], str, str]] = [
    (Peeks, READS_TEST, "its search loaded digits by itself, where the test split lies"),
    (Patches, LEAVES_ALONE, "its search changed the dense network"),
    (Relabels, LEAVES_ALONE, "its search changed the training data"),
    (Seeds, SEEDS, "its search seeds random, numpy.random, torch; use torch.Generator().manual_seed(ctx.seed)"),
    (Draws, REPRODUCES, "differs between two searches with one seed"),
    (Hooks, WHOLE, "forward_hooks were left in conv1"),
    (Beheads, GROUPS, "1 outputs of fc were set to zero"),
    (ScoresHead, GROUPS, "scores names 'fc', which is no group: no channel of it can be removed"),
    (Backwards, DEAD, "are all zero has a higher score than 15 of 15 others: the sign of the scores is backwards"),
    (Divides, ENDS, "budget 1: ZeroDivisionError"),
    (Overflows, LARGE_SEEDS, "seed 2147483648: OverflowError"),
    (Forgets, RESUMES, "differs after an interruption"),
    (Narrow, FIELDS, "power = 1.25: ZeroDivisionError"),
]


@pytest.mark.parametrize(("kind", "name", "reason"), FAULTS, ids=[kind.__name__ for kind, *_ in FAULTS])
def test_a_planted_fault_is_named(
    kind: type[Any], name: str, reason: str, failures: Callable[[type[Any]], dict[str, str]]
) -> None:
    assert_named(failures(kind), name, reason)


def test_a_task_that_overflows_is_found() -> None:
    """A run draws seeds of 48 bits: one that fits into 32 passes with small seeds."""
    data = common()[2]

    class Overflowing(ImageSplit):
        def batches(self, batch_size: int, *, seed: int, epoch: int, device: torch.device) -> Iterator[Any]:
            np.random.default_rng(np.array([seed], dtype=np.int32))
            return super().batches(batch_size, seed=seed, epoch=epoch, device=device)

    class Alike(ImageSplit):
        def batches(self, batch_size: int, *, seed: int, epoch: int, device: torch.device) -> Iterator[Any]:
            return super().batches(batch_size, seed=0, epoch=0, device=device)

    def trial(kind: type[Any]) -> Any:
        split = object.__new__(kind)
        vars(split).update(vars(data.train))
        return SimpleNamespace(data=dataclasses.replace(data, train=split))

    task_takes_large_seeds(trial(ImageSplit))
    with pytest.raises(AssertionError, match="seed 2147483648, epoch 0: OverflowError"):
        task_takes_large_seeds(trial(Overflowing))
    with pytest.raises(AssertionError, match="all seeds give the same batch"):
        task_takes_large_seeds(trial(Alike))


def test_the_network_and_the_task_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def noted(trial: Any, properties: Any) -> Iterator[Any]:
        seen.append((trial.task.model, len(trial.data.train), len(properties)))
        return iter(())

    monkeypatch.setattr(suite, "verdicts", noted)
    few, all_of_them = len(METHOD_PROPERTIES), len(METHOD_PROPERTIES) + len(suite.ELSEWHERE_PROPERTIES)
    chosen: list[dict[str, Any]] = [{}, {"quick": True}, {"model": "resnet20"}, {"task": "super_resolution"}]
    for arguments in chosen:
        list(suite.check("l1", **arguments))
    assert seen == [("resnet8", 200, all_of_them), ("resnet8", 200, few), ("resnet20", 200, few), ("edsr-tiny", 9, few)]
    list(suite.check("super_resolution", model="srresnet"))
    assert seen[-1][0] == "srresnet"
    with pytest.raises(RequestError, match="unknown task 'detection'; available: classification"):
        list(suite.check("l1", task="detection"))
    with pytest.raises(RequestError, match="unknown model 'resnet9'"):
        list(suite.check("l1", model="resnet9"))
    with pytest.raises(RequestError, match="--task segmentation is not allowed: 'classification' is a task itself"):
        list(suite.check("classification", task="segmentation"))
