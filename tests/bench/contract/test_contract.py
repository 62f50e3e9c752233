"""Every registered adapter passes the contract suite, and the suite can fail."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import pytest
import torch

import methods
from bench.contract.suite import METHOD_PROPERTIES, TASK_PROPERTIES, MethodTrial, TaskTrial, check
from bench.interface import registry
from bench.interface.method import Found


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


@pytest.mark.parametrize("holds", TASK_PROPERTIES, ids=lambda p: p.__name__)
@pytest.mark.parametrize("name", sorted(registry.task_names()))
def test_task(name: str, holds: Any) -> None:
    holds(task_trial(name))


@dataclass(frozen=True)
class Sloppy:
    """Breaks most of the contract."""

    searches: ClassVar[bool] = True
    needs_dense: ClassVar[bool] = True
    recovery: ClassVar[str] = "finetune"

    def search(self, model: Any, graph: Any, task: Any, budget: Any, ctx: Any) -> Found:
        return Found(scores={g.name: torch.rand(g.size) for g in graph.groups[1:]})


def test_the_suite_finds_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(methods.CATALOGUE, "sloppy", f"{__name__}:Sloppy")
    registry.method_names.cache_clear()
    try:
        failed = {v.name: v.reason for v in check("sloppy") if not v.passed}
    finally:
        registry.method_names.cache_clear()
    assert "standing is missing" in failed["declares searches, needs_dense, recovery and standing"]
    assert "no scores for group" in failed["gives finite scores for every channel of every group"]
    assert "epochs [] were trained where [1, 2] were due" in " ".join(failed.values())
    assert len(failed) >= 5
