"""Hyper-parameters of a cell that are not at their defaults, as tables name them. Imports no torch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from bench.errors import RequestError
from bench.interface import registry


def changed_settings(adapter: str, hyper: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the hyper-parameters that differ from the defaults that the adapter's class has today.

    All of them where the adapter is not there, as when the records of another machine are read.
    """
    try:
        kind = registry.method_class(adapter)
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
