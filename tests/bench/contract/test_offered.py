"""Hooks that a task may leave out: `check` names what is wrong with them, and passes a task without them."""

from __future__ import annotations

import dataclasses
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from torch import nn

import tasks
from bench.contract.offered import OFFERED_PROPERTIES
from bench.contract.task import TaskTrial
from bench.contract.verdict import verdicts
from bench.interface import registry
from tasks.classification import Classification
from tests.bench.contract.planted import assert_named

FETCHES = "gives, as untrained(), itself with a network for which nothing is fetched"
DEPLOYS = "says, as deployment(info), in plain values how an image becomes the input and what the output means"


@dataclass(frozen=True)
class Fetching(Classification):
    """Has an option for which weights are fetched; nothing is wrong with it."""

    fetched: bool = False

    def untrained(self) -> Any:
        return dataclasses.replace(self, fetched=False)

    def network(self, info: Any) -> nn.Module:
        if self.fetched:
            urllib.request.urlopen("http://weights.example/resnet8.pth", timeout=1)
        return super().network(info)


@dataclass(frozen=True)
class Stays(Fetching):
    """Fetches whatever it is asked."""

    def untrained(self) -> Any:
        return self


@dataclass(frozen=True)
class Lacks(Fetching):
    """Fetches, and has no hook."""

    untrained = property()  # pyright: ignore[reportAssignmentType]


@dataclass(frozen=True)
class Always(Fetching):
    """Fetches with the trial's options."""

    def network(self, info: Any) -> nn.Module:
        return Fetching(self.dataset, self.model, fetched=True).network(info)


@dataclass(frozen=True)
class Shrinks(Fetching):
    """Builds another network where nothing is fetched."""

    def untrained(self) -> Any:
        return dataclasses.replace(self, fetched=False, model="resnet20") if self.fetched else self


@dataclass(frozen=True)
class Meddles(Fetching):
    """Changes an option that fetches nothing."""

    def untrained(self) -> Any:
        return dataclasses.replace(self, train_size=7)


@dataclass(frozen=True)
class Turns(Fetching):
    """Becomes another task."""

    def untrained(self) -> Any:
        return Classification(dataset=self.dataset, model=self.model)


@dataclass(frozen=True)
class Mute(Classification):
    """Has no hook for deployment; nothing is wrong with it."""

    deployment = property()  # pyright: ignore[reportAssignmentType]


class Deploys(Classification):
    """What the others say, changed."""

    changes: ClassVar[dict[str, Any]] = {}

    def deployment(self, info: Any) -> Any:
        found = super().deployment(info)
        return found | self.changes | {"input": found["input"] | self.changes.get("input", {})}


@dataclass(frozen=True)
class Holds(Deploys):
    changes: ClassVar[dict[str, Any]] = {"layer": nn.Identity()}


@dataclass(frozen=True)
class Hides(Deploys):
    changes: ClassVar[dict[str, Any]] = {"metrics": {"accuracy": 100.0}}


@dataclass(frozen=True)
class Silent(Deploys):
    changes: ClassVar[dict[str, Any]] = {"output": ""}


@dataclass(frozen=True)
class Renames(Deploys):
    changes: ClassVar[dict[str, Any]] = {"classes": ["cat", "dog"]}


@dataclass(frozen=True)
class Coloured(Deploys):
    changes: ClassVar[dict[str, Any]] = {"input": {"mean": [0.5, 0.5, 0.5]}}


@dataclass(frozen=True)
class Flat(Deploys):
    changes: ClassVar[dict[str, Any]] = {"input": {"std": [0.0]}}


@dataclass(frozen=True)
class Wavers(Classification):
    """Says something else each time."""

    def deployment(self, info: Any) -> Any:
        _counted.append(1)
        return super().deployment(info) | {"threshold": len(_counted)}


_counted: list[int] = []


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[type[Any]], dict[str, str]]]:
    def of(kind: type[Any]) -> dict[str, str]:
        monkeypatch.setitem(tasks.CATALOGUE, "broken", f"{__name__}:{kind.__name__}")
        registry.task_names.cache_clear()
        return {v.name: v.reason for v in verdicts(TaskTrial("broken"), OFFERED_PROPERTIES) if not v.passed}

    yield of
    registry.task_names.cache_clear()


@pytest.mark.parametrize("kind", [Fetching, Mute])
def test_nothing_is_found_where_nothing_is_wrong(
    kind: type[Any], failures: Callable[[type[Any]], dict[str, str]]
) -> None:
    assert failures(kind) == {}


FAULTS: list[tuple[type[Any], str, str]] = [
    (Stays, FETCHES, "with fetched = True the network of untrained() asks weights.example for weights"),
    (Lacks, FETCHES, "with fetched = True its network asks weights.example for weights, and it has no untrained()"),
    (Always, FETCHES, "its network asks weights.example for weights with the trial's options, which must fetch"),
    (Shrinks, FETCHES, "with fetched = True untrained() changes model too: the network is another one"),
    (Meddles, FETCHES, "untrained() changes train_size although the trial's options fetch nothing"),
    (Turns, FETCHES, "untrained() gives a Classification in place of a Turns"),
    (Holds, DEPLOYS, "deployment() gives what card.json cannot hold: Object of type Identity"),
    (Hides, DEPLOYS, "deployment() says metrics, which card.json says of every network"),
    (Silent, DEPLOYS, "deployment() says nothing of the output"),
    (Renames, DEPLOYS, "deployment() has the classes ['cat', 'dog']"),
    (Coloured, DEPLOYS, "deployment() has mean = [0.5, 0.5, 0.5] for 1 channels"),
    (Flat, DEPLOYS, "deployment() has std = [0.0]"),
    (Wavers, DEPLOYS, "deployment() says something else the second time"),
]


@pytest.mark.parametrize(("kind", "name", "reason"), FAULTS, ids=[kind.__name__ for kind, *_ in FAULTS])
def test_a_planted_fault_is_named(
    kind: type[Any], name: str, reason: str, failures: Callable[[type[Any]], dict[str, str]]
) -> None:
    assert_named(failures(kind), name, reason)
