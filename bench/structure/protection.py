"""Layers whose channels stay because the caller says so, by name or pattern."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from torch import nn

from bench.errors import RequestError, did_you_mean
from bench.structure.layers import rule_of
from bench.structure.names import inside


def protected_layers(model: nn.Module, patterns: Iterable[str]) -> tuple[str, ...]:
    """The layers that `patterns` name, themselves or by a module that they lie in.

    Args:
        patterns: names of modules, in which `*`, `?` and `[…]` stand for what they do in file names; `*` passes dots.

    Raises:
        RequestError: a pattern that names no module, or only modules without channels of their own.
    """
    modules = dict(model.named_modules())
    names = [name for name in modules if name]
    layers = [name for name in names if rule_of(modules[name]) is not None]
    found: dict[str, None] = {}
    for pattern in patterns:
        named = [name for name in names if fnmatchcase(name, pattern)]
        if not named:
            near = did_you_mean(pattern.strip("*."), names)
            raise RequestError(f"cannot protect {pattern!r}: the network has no module of that name{near}")
        held = [n for n in layers if any(inside(n, outer) for outer in named)]
        if not held:
            kind = type(modules[named[0]]).__name__
            raise RequestError(
                f"cannot protect {pattern!r}: it names no layer with channels, only {named[0]} ({kind})"
                + (f" and {len(named) - 1} more" if len(named) > 1 else "")
            )
        found |= dict.fromkeys(held)
    return tuple(found)
