"""Settings of a cell that are not at their defaults, as tables name them. Imports no torch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

from bench.errors import RequestError
from bench.interface import registry
from bench.interface.cell import Recipe, Workload


def changed_settings(adapter: str, hyper: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the hyper-parameters that differ from the defaults that the adapter's class has today.

    All of them where the adapter is not there, as when the records of another machine are read.
    """
    return _changed(registry.method_class, adapter, hyper)


def changed_options(workload: Workload) -> dict[str, Any]:
    """As `changed_settings`, of the fields of a workload's task."""
    return _changed(registry.task_class, workload.task, workload.options)


def changed_recipe(workload: Workload, place: str) -> dict[str, Any]:
    """Those fields of a workload's recipe that differ from what its task has today; all where the task is not there.

    Args:
        place: "train" or "finetune".
    """
    given: Recipe = getattr(workload, place)
    try:
        own = getattr(registry.task_class(workload.task), place.replace("train", "recipe"))
    except RequestError:
        return dict(given)
    return {name: value for name, value in given if value != getattr(own, name)}


def _changed(load: Callable[[str], type[Any]], adapter: str, hyper: Mapping[str, Any]) -> dict[str, Any]:
    try:
        kind = load(adapter)
    except RequestError:
        return dict(hyper)
    if not dataclasses.is_dataclass(kind):
        return dict(hyper)
    defaults = {f.name: json.dumps(f.default) for f in dataclasses.fields(kind) if _has_plain_default(f)}
    return {name: value for name, value in hyper.items() if defaults.get(name) != json.dumps(value)}


def _has_plain_default(field: dataclasses.Field[Any]) -> bool:
    try:
        json.dumps(field.default)
    except TypeError:
        return False
    return True


def settings_text(settings: Mapping[str, Any]) -> str:
    """`sparsity_weight=0.1, order=taylor`"""
    return ", ".join(f"{name}={_plain(value)}" for name, value in settings.items())


def _plain(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
