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

from bench.errors import RequestError, choices, message_of, unknown
from bench.interface.cell import Recipe
from bench.interface.method import Method, prunes
from bench.interface.task import Task
from bench.own import claim

claim("methods", "tasks")

import methods  # noqa: E402 - those that lie beside this package
import tasks  # noqa: E402

METHOD_DECLARES: Mapping[str, type[Any]] = {"searches": bool, "needs_dense": bool, "recovery": str, "standing": str}
"""Class variables of a method, and their types."""
TASK_DECLARES: Mapping[str, type[Any]] = {
    "metric": str,
    "unit": str,
    "higher_is_better": bool,
    "recipe": Recipe,
    "finetune": Recipe,
}


class Names(dict[str, str]):
    """Adapters of a kind, name -> "module:class"."""

    def __init__(self, kind: str, group: str, built_in: Mapping[str, str]) -> None:
        super().__init__(built_in)
        self.ours = frozenset(built_in)
        """Names of this project's own adapters."""
        self.clashes: dict[str, str] = {}
        """What is wrong with a name that several packages have given to an adapter, in a sentence."""
        for point in entry_points(group=group):
            known = self.setdefault(point.name, point.value)
            if known != point.value:
                used = f"; {known} is used" if point.name in self.ours else ""
                self.clashes[point.name] = f"two {kind}s are named {point.name!r}: {known} and {point.value}{used}"


@cache
def method_names() -> Names:
    """Every method and control."""
    return Names("method", "prunebench.methods", {**methods.CATALOGUE, **methods.CONTROLS})


@cache
def task_names() -> Names:
    """Every task."""
    return Names("task", "prunebench.tasks", tasks.CATALOGUE)


def clashes() -> list[str]:
    """A sentence for each name that more than one package has given to an adapter."""
    return [*method_names().clashes.values(), *task_names().clashes.values()]


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


def declared_method(name: str) -> type[Any]:
    """The adapter class of a method, which declares all that a suite asks of it.

    Raises:
        RequestError: there is none of that name, it cannot be loaded, or it declares too little.
    """
    return _declared("method", name, method_class(name), METHOD_DECLARES, method_names())


def declared_task(name: str) -> type[Any]:
    """The adapter class of a task, which declares all that a suite asks of it.

    Raises:
        RequestError: as of `declared_method`.
    """
    return _declared("task", name, task_class(name), TASK_DECLARES, task_names())


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
    if not dataclasses.is_dataclass(kind):
        raise RequestError(f"{what} cannot be made: {kind} is no dataclass")
    fields = {f.name for f in dataclasses.fields(kind)}
    for name in values:
        if name not in fields:
            raise RequestError(f"{what} has no field {name!r}{choices(name, fields)}")
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


def _declared(
    what: str, name: str, kind: Any, declares: Mapping[str, type[Any]], names: Mapping[str, str]
) -> type[Any]:
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise RequestError(f"{what} {name!r} cannot be used: {names[name]} is no dataclass")
    for field, allowed in declares.items():
        if not isinstance(getattr(kind, field, None), allowed):
            raise RequestError(
                f"{what} {name!r} cannot be used: {names[name]} declares no {field} of type {allowed.__name__} "
                f"(`prunebench check {name}` tries all of it)"
            )
    return kind


def _load(kind: str, name: str, available: Names) -> type[Any]:
    if name not in available:
        raise unknown(kind, name, available)
    if name in available.clashes and name not in available.ours:
        raise RequestError(f"{available.clashes[name]}; uninstall one of the two packages")
    module, _, attribute = available[name].partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise RequestError(f"{kind} {name!r} cannot be loaded from {available[name]}: {error}") from error
    except (Exception, SystemExit, GeneratorExit) as error:  # whatever another package does when it is imported
        raise RequestError(
            f"{kind} {name!r} cannot be loaded from {available[name]}: {type(error).__name__}: {message_of(error)}"
        ) from error
