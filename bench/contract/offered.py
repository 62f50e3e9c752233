"""What a task may offer beside the rest, where it does: a network for which nothing is fetched, and how to use one.

Each property is a function as in `bench.contract.task`.
"""

from __future__ import annotations

import dataclasses
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bench.contract.task import TaskTrial
from bench.errors import RequestError
from bench.interface import registry
from bench.interface.exported import CARD_FACTS
from bench.interface.fields import fields_of
from bench.interface.task import Task, deployment, untrained


def task_builds_without_fetching(trial: TaskTrial) -> None:
    """gives, as untrained(), itself with a network for which nothing is fetched"""
    changed = _changed(trial.task)
    assert not changed, (
        f"untrained() changes {', '.join(changed)} although the trial's options fetch nothing: weights of a file would "
        "be refused"
    )
    asked = _asks(trial, trial.task)
    assert asked is None, f"its network asks {asked} for weights with the trial's options, which must fetch nothing"
    for name, value, task in _switched(trial):
        with_it = f"with {name} = {value}"
        asked = _asks(trial, task)
        if asked is not None and not hasattr(task, "untrained"):
            raise AssertionError(f"{with_it} its network asks {asked} for weights, and it has no untrained()")
        beside = [other for other in _changed(task) if other != name]
        assert not beside, f"{with_it} untrained() changes {', '.join(beside)} too: the network is another one"
        asked = _asks(trial, untrained(task))
        assert asked is None, f"{with_it} the network of untrained() asks {asked} for weights"


def _changed(task: Task) -> list[str]:
    """The fields that `untrained` changes."""
    other = untrained(task)
    assert type(other) is type(task), f"untrained() gives a {type(other).__name__} in place of a {type(task).__name__}"
    return [name for name, value in _options(task).items() if _options(other)[name] != value]


def _options(task: Task) -> dict[str, Any]:
    return {field.name: getattr(task, field.name) for field in dataclasses.fields(task)}  # pyright: ignore


def _switched(trial: TaskTrial) -> Iterator[tuple[str, Any, Task]]:
    """The trial's task with each switch and choice at each of its other values that go with the rest."""
    for field in fields_of(trial.kind):
        if field.kind not in ("yes or no", "choice"):
            continue
        for value in field.others():
            try:
                yield field.name, value, registry.make_task(trial.name, {**_options(trial.task), field.name: value})
            except RequestError:
                continue


def _asks(trial: TaskTrial, task: Task) -> str | None:
    """The machine that is asked when the task's network is built, where none can be reached; None: none is."""
    with _no_network() as asked:
        try:
            task.network(trial.data.info)
        except Exception:
            if not asked:
                raise
    return asked[0] if asked else None


@contextmanager
def _no_network() -> Iterator[list[str]]:
    """Let no connection to another machine be made; gives the names of those that were asked for."""
    asked: list[str] = []

    def refuse(host: Any) -> OSError:
        asked.append(str(host))
        return OSError(f"{host} must not be asked here")

    def look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        raise refuse(host)

    def connect(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            raise refuse(address[0])
        return real_connect(self, address)

    real_look_up, real_connect = socket.getaddrinfo, socket.socket.connect
    socket.getaddrinfo, socket.socket.connect = look_up, connect  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield asked
    finally:
        socket.getaddrinfo, socket.socket.connect = real_look_up, real_connect


def task_says_how_to_deploy(trial: TaskTrial) -> None:
    """says, as deployment(info), in plain values how an image becomes the input and what the output means"""
    if not hasattr(trial.task, "deployment"):
        return
    info = trial.data.info
    found = deployment(trial.task, info)
    try:
        again = json.loads(json.dumps(found, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"deployment() gives what card.json cannot hold: {error}") from error
    assert all(isinstance(name, str) for name in found), f"deployment() has names that are no text: {list(found)}"
    taken = sorted(CARD_FACTS & found.keys())
    assert not taken, f"deployment() says {', '.join(taken)}, which card.json says of every network"
    for part in ("input", "output"):
        assert found.get(part), f"deployment() says nothing of the {part}"
    assert deployment(trial.task, info) == found, "deployment() says something else the second time"
    classes = again.get("classes")
    assert classes is None or classes == list(info.classes), f"deployment() has the classes {classes}"
    _require_statistics(again["input"], info.channels)


def _require_statistics(given: Any, channels: int) -> None:
    """Refuse means and deviations that are not one finite number a channel, a deviation above 0."""
    if not isinstance(given, Mapping):
        return
    for name in ("mean", "std"):
        values = given.get(name)
        if values is not None:
            assert isinstance(values, list) and len(values) == channels, (
                f"deployment() has {name} = {values} for {channels} channels"
            )
    assert all(value > 0 for value in given.get("std") or ()), f"deployment() has std = {given['std']}"


OFFERED_PROPERTIES: tuple[Callable[[TaskTrial], None], ...] = (task_builds_without_fetching, task_says_how_to_deploy)
"""The properties of hooks that a task may leave out."""
