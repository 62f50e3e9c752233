"""Every registered adapter passes the contract suite, and the suite can fail."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

import methods
from bench.contract import suite
from bench.contract.suite import ELSEWHERE_PROPERTIES, METHOD_PROPERTIES, TASK_PROPERTIES, MethodTrial, TaskTrial, check
from bench.contract.task import (
    task_draws,
    task_halves_are_disjoint,
    task_splits_are_disjoint,
    task_tells_its_data_apart,
)
from bench.errors import CellError, RequestError
from bench.interface import registry
from bench.interface.method import Budget, Found
from bench.search.fit import fit
from tasks.data.images import ImageSplit
from tests.bench.contract.planted import QUICK


@cache
def method_trial(name: str) -> MethodTrial:
    return MethodTrial(name)


@cache
def task_trial(name: str) -> TaskTrial:
    return TaskTrial(name)


@pytest.mark.parametrize("holds", METHOD_PROPERTIES, ids=lambda p: p.__name__)
@pytest.mark.parametrize("name", sorted(registry.method_names()))
def test_method(name: str, holds: Any) -> None:
    holds(method_trial(name))


@pytest.mark.parametrize("holds", ELSEWHERE_PROPERTIES, ids=lambda p: p.__name__)
@pytest.mark.parametrize("name", ["dais", "gdp", "l1", "slimming", "taylor"])
def test_method_on_other_networks(name: str, holds: Any) -> None:
    """One of each kind: a mask, a schedule, a norm, a penalty and gradients. `check` tries them all."""
    holds(method_trial(name))


@pytest.mark.parametrize("holds", TASK_PROPERTIES, ids=lambda p: p.__name__)
@pytest.mark.parametrize("name", sorted(registry.task_names()))
def test_task(name: str, holds: Any) -> None:
    holds(task_trial(name))


def failures(kind: type[Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What `check` says is wrong with a method of this class, by property."""
    monkeypatch.setattr(suite, "MAIN", QUICK)
    monkeypatch.setitem(methods.CATALOGUE, "broken", f"{__name__}:{kind.__name__}")
    registry.method_names.cache_clear()
    try:
        return {v.name: v.reason for v in check("broken", quick=True) if not v.passed}
    finally:
        registry.method_names.cache_clear()


@dataclass(frozen=True)
class Sloppy:
    """Breaks most of the contract."""

    searches: ClassVar[bool] = True
    needs_dense: ClassVar[bool] = True
    recovery: ClassVar[str] = "finetune"

    def search(self, model: Any, graph: Any, task: Any, budget: Any, ctx: Any) -> Found:
        return Found(scores={g.name: torch.rand(g.size) for g in graph.groups[1:]})


def test_the_suite_finds_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = failures(Sloppy, monkeypatch)
    assert "standing is missing" in failed["declares searches, needs_dense, recovery and standing"]
    assert "no scores for group" in failed["gives finite scores for every channel of every group"]
    assert "epochs [] were trained where [1, 2] were due" in " ".join(failed.values())
    assert len(failed) >= 5


@dataclass(frozen=True)
class Deaf:
    """Trains as it should, and keeps 0.7 of the MACs whatever it is asked."""

    kept: ClassVar[float] = 0.7
    architecture: ClassVar[bool] = False
    searches: ClassVar[bool] = True
    needs_dense: ClassVar[bool] = True
    recovery: ClassVar[str] = "finetune"
    standing: ClassVar[str] = "a broken method"

    def search(self, model: Any, graph: Any, task: Any, budget: Any, ctx: Any) -> Found:
        ctx.train(model)
        scores = graph.channel_scores(model)
        return Found(scores=scores, widths=fit(graph, Found(scores=scores), Budget(self.kept)).widths)


@dataclass(frozen=True)
class HalfDeaf(Deaf):
    """Keeps one half: the least that a method can be off which does not listen."""

    kept: ClassVar[float] = 0.5


HEEDS = "decides near budgets 0.7, 0.5 and 0.3 by itself, where it decides widths or masks"


@pytest.mark.parametrize(
    ("kind", "reason"), [(Deaf, "budget 0.5: .* costs 0.(699|70)"), (HalfDeaf, "budget 0.7: .* costs 0.(499|50)")]
)
def test_a_method_that_ignores_its_budget_is_found(
    kind: type[Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else is wrong with it: the fit brings every decision to the budget."""
    failed = failures(kind, monkeypatch)
    assert list(failed) == [HEEDS]
    assert re.match(reason, failed[HEEDS])


STEPS = "takes steps of its weights in every epoch of a search, and of an architecture exactly if it declares one"


@dataclass(frozen=True)
class Boastful:
    """Declares, by leaving it out, steps of an architecture that it does not take."""

    searches: ClassVar[bool] = True
    needs_dense: ClassVar[bool] = True
    recovery: ClassVar[str] = "finetune"
    standing: ClassVar[str] = "a broken method"

    def search(self, model: Any, graph: Any, task: Any, budget: Any, ctx: Any) -> Found:
        ctx.train(model)
        return Found(scores=graph.channel_scores(model))


def test_a_search_without_the_architecture_that_it_declares_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failures(Boastful, monkeypatch) == {
        STEPS: "its searches take 0 steps of an architecture, where it declares architecture = True"
    }


PENALISES = (
    "adds to the loss of its weights' steps, if anything, a finite number whose slopes reach them and are finite"
)


@dataclass(frozen=True)
class Idle(Boastful):
    """Its penalty is of a copy of the weights."""

    architecture: ClassVar[bool] = False

    def search(self, model: Any, graph: Any, task: Any, budget: Any, ctx: Any) -> Found:
        own = [p.detach().clone().requires_grad_() for p in model.parameters()]
        ctx.train(model, penalty=lambda: sum(p.abs().sum() for p in own))
        return Found(scores=graph.channel_scores(model))


@dataclass(frozen=True)
class Steep(Boastful):
    """The slope of its penalty is infinite at the shifts of norms that are 0."""

    architecture: ClassVar[bool] = False

    def search(self, model: Any, graph: Any, task: Any, budget: Any, ctx: Any) -> Found:
        last = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)][-1]
        last.bias.data.zero_()
        with contextlib.suppress(CellError):  # weights that are not finite
            ctx.train(model, penalty=lambda: last.bias.abs().sqrt().sum())
        return Found(scores=graph.channel_scores(model))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Idle, "the penalty's slopes reach no weight of the network"),
        (Steep, "the penalty's slopes are not finite"),
    ],
)
def test_a_penalty_that_does_nothing_or_cannot_be_followed_is_found(
    kind: type[Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert failures(kind, monkeypatch)[PENALISES] == reason


def with_halves(halves: Callable[[Any, int], Any]) -> Any:
    """The trial of a task whose training split is halved like this."""
    trial = TaskTrial("classification")
    kind = type("Halved", (type(trial.data.train),), {"halves": halves})
    split: Any = copy.copy(trial.data.train)
    split.__class__ = kind
    return SimpleNamespace(data=dataclasses.replace(trial.data, train=split))


def test_halves_that_overlap_or_come_from_elsewhere_are_found() -> None:
    def overlapping(split: Any, seed: int) -> Any:
        half = len(split) // 2
        return split.subset(torch.arange(half)), split.subset(torch.arange(half) + 1)

    def invented(split: Any, seed: int) -> Any:
        one, other = ImageSplit.halves(split, seed)
        other.images = other.images.flip(1)
        return one, other

    def lopsided(split: Any, seed: int) -> Any:
        return split.subset(torch.arange(4)), split.subset(torch.arange(4, len(split)))

    task_halves_are_disjoint(with_halves(ImageSplit.halves))
    for halves, reason in (
        (overlapping, "stand in the halves more often than in the training split"),
        (invented, "are not in the training split"),
        (lopsided, "a half has 4 of"),
    ):
        with pytest.raises(AssertionError, match=reason):
            task_halves_are_disjoint(with_halves(halves))


def test_a_task_that_tests_on_what_it_trains_on_or_cannot_tell_its_data_apart_is_found() -> None:
    trial = TaskTrial("classification")
    task_splits_are_disjoint(trial)
    task_tells_its_data_apart(trial)
    leaking: Any = SimpleNamespace(data=dataclasses.replace(trial.data, test=lambda: trial.data.val))
    with pytest.raises(AssertionError, match=f"^{len(trial.data.val)} samples stand in the validation and in the test"):
        task_splits_are_disjoint(leaking)
    nameless: Any = SimpleNamespace(data=dataclasses.replace(trial.data, fingerprint=""), task=trial.task)
    with pytest.raises(AssertionError, match="the fingerprint is empty"):
        task_tells_its_data_apart(nameless)
    changing: Any = SimpleNamespace(data=dataclasses.replace(trial.data, fingerprint="0" * 16), task=trial.task)
    with pytest.raises(AssertionError, match="loaded twice, the data have the fingerprints 0000000000000000 and "):
        task_tells_its_data_apart(changing)


def test_a_picture_that_no_figure_would_show_is_found() -> None:
    def draw(networks: Any, test: Any, folder: Path, device: Any, recipe: Any) -> list[str]:
        (folder / "tile.png").write_bytes(b"\x89PNG")
        return ["tile.png"]

    known = task_trial("classification")
    task = SimpleNamespace(pictures=draw)
    trial: Any = SimpleNamespace(data=known.data, network=None, kind=known.kind, task=task)
    with pytest.raises(AssertionError, match=r"tile\.png has no sample's number in its name"):
        task_draws(trial)


def test_an_unknown_adapter_is_named() -> None:
    with pytest.raises(RequestError, match="unknown adapter 'nope'; available: classification, dais"):
        list(check("nope"))
