"""Adapters by name: the built-in catalogues and the entry points of other packages. Imports no torch itself.

Another package registers an adapter in its pyproject.toml::

    [project.entry-points."prunebench.methods"]
    my-norm = "my_package.my_norm:MyNorm"

The groups are `prunebench.methods` and `prunebench.tasks`. A name that this project has already stays this project's,
and one that two other packages have is refused when it is asked for; `clashes` says so in either case, and all other
names work.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any, cast, get_type_hints

import pydantic

import methods
import tasks
from bench.errors import RequestError, message_of, unknown
from bench.interface.method import Method, prunes
from bench.interface.task import Task


@cache
def method_names() -> dict[str, str]:
    """Every method and control, name -> "module:class"."""
    return _with_entry_points("method")


@cache
def task_names() -> dict[str, str]:
    """Every task, name -> "module:class"."""
    return _with_entry_points("task")


def control_names() -> tuple[str, ...]:
    """The methods that a matrix holds beside the ones that are compared, unless a suite says otherwise."""
    return tuple(methods.CONTROLS)


def unpruned_names() -> tuple[str, ...]:
    """The controls that leave the network whole: a reference beside the dense network, at no budget."""
    return tuple(name for name in control_names() if not prunes(method_class(name)))


def method_class(name: str) -> type[Any]:
    """The adapter class of a method.

    Raises:
        RequestError: there is none of that name.
    """
    return _load("method", name, method_names())


def task_class(name: str) -> type[Any]:
    """The adapter class of a task.

    Raises:
        RequestError: there is none of that name.
    """
    return _load("task", name, task_names())


def make_method(name: str, hyper: Mapping[str, Any]) -> Method:
    """A method with these hyper-parameters, the others at their defaults."""
    return cast(Method, build(method_class(name), hyper, f"method {name!r}"))


def make_task(name: str, options: Mapping[str, Any]) -> Task:
    """A task with these options, checked."""
    task = cast(Task, build(task_class(name), options, f"task {name!r}"))
    task.validate()
    return task


def build(kind: type[Any], values: Mapping[str, Any], what: str) -> Any:
    """An adapter from plain values, with every field's type checked.

    Raises:
        RequestError: an unknown field, or a value that its field does not allow.
    """
    fields = {f.name for f in dataclasses.fields(kind)}
    for name in values:
        if name not in fields:
            allowed = ", ".join(sorted(fields)) or "none"
            raise RequestError(f"{what} has no field {name!r}; available: {allowed}")
    hints = get_type_hints(kind, include_extras=True)
    checked: dict[str, Any] = {}
    for name, value in values.items():
        try:
            # As JSON, since a strict reading of Python values would take no list for a tuple.
            checked[name] = pydantic.TypeAdapter(hints[name]).validate_json(json.dumps(value), strict=True)
        except TypeError:
            raise RequestError(f"{what}: {name} = {value!r} is not allowed: use a number, a word or a list") from None
        except pydantic.ValidationError as error:
            reason = error.errors()[0]["msg"]
            reason = reason[:1].lower() + reason[1:]
            raise RequestError(f"{what}: {name} = {value!r} is not allowed: {reason}") from None
    try:
        return kind(**checked)
    except RequestError:
        raise
    except (TypeError, ValueError) as error:
        raise RequestError(f"{what}: {error}") from None
    except (Exception, SystemExit, GeneratorExit) as error:
        raise RequestError(f"{what} cannot be made: {type(error).__name__}: {message_of(error)}") from error


def _load(kind: str, name: str, available: Mapping[str, str]) -> type[Any]:
    if name not in available:
        raise unknown(kind, name, available)
    clash = _found(kind)[1].get(name)
    if clash is not None and name not in _GROUPS[kind][1]:
        raise RequestError(f"{clash}; uninstall one of the two packages")
    module, _, attribute = available[name].partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise RequestError(f"{kind} {name!r} cannot be loaded from {available[name]}: {error}") from error
    except (Exception, SystemExit, GeneratorExit) as error:  # whatever another package does when it is imported
        raise RequestError(
            f"{kind} {name!r} cannot be loaded from {available[name]}: {type(error).__name__}: {message_of(error)}"
        ) from error


def clashes() -> list[str]:
    """A sentence for each name that more than one package has given to an adapter."""
    return [sentence for kind in _GROUPS for sentence in _found(kind)[1].values()]


def _with_entry_points(kind: str) -> dict[str, str]:
    return dict(_found(kind)[0])


@cache
def _found(kind: str) -> tuple[dict[str, str], dict[str, str]]:
    """Adapters of a kind, name -> "module:class", and by name what is wrong with a name that several have."""
    group, built_in = _GROUPS[kind]
    found, wrong = dict(built_in), dict[str, str]()
    for point in entry_points(group=group):
        if point.name in found and found[point.name] != point.value:
            used = f"; {found[point.name]} is used" if point.name in built_in else ""
            wrong[point.name] = f"two {kind}s are named {point.name!r}: {found[point.name]} and {point.value}{used}"
        found.setdefault(point.name, point.value)
    return found, wrong
