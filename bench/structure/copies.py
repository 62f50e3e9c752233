"""Networks as they were: what is tried on one is undone, and a copy is made of what deep copies refuse."""

from __future__ import annotations

import copy
import functools
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from bench.errors import RequestError, first_line
from bench.structure.tensors import tensors_in

ATOMS = frozenset((bool, int, float, str, bytes, complex, type(None), torch.dtype, torch.device))
CONTAINERS = frozenset((dict, list, set, OrderedDict))
USUAL = frozenset(nn.Conv2d.__mro__)
"""`Module` itself, and convolutions, whose own `__setstate__` adds what files of old releases lack."""
FAILURES = (RuntimeError, ValueError, IndexError, TypeError, AssertionError, AttributeError, KeyError)
"""What a network raises that does not take its input, or whose widths do not fit."""


def duplicate(model: nn.Module, shared: Mapping[int, Any] | None = None) -> nn.Module:
    """A deep copy in the same modes. Activations that modules keep with their gradients are copied as plain numbers.

    Args:
        shared: objects that the copy shares with `model`, by `id`.

    Raises:
        RequestError: the network holds something that cannot be copied.
    """
    memo = dict(shared or {})
    for module in model.modules():
        for value in module.__dict__.values():
            if type(value) in ATOMS or (type(value) in CONTAINERS and not value):
                continue  # most of what modules hold
            for tensor in tensors_in(value):
                if tensor.grad_fn is not None:  # deep copies refuse a tensor that was computed
                    memo.setdefault(id(tensor), tensor.detach().clone())
    try:
        _copy_plain_modules(model, memo)
        return copy.deepcopy(model, memo)
    except (TypeError, RuntimeError, AttributeError, NotImplementedError) as error:
        raise RequestError(f"the network cannot be copied: {first_line(error)}") from error


def _copy_plain_modules(model: nn.Module, memo: dict[int, Any]) -> None:
    """Put copies of the modules that are copied in no way of their own into `memo`, as deep copies would be.

    Most of what modules hold is numbers, names and empty dictionaries, which take deep copies most of their time.
    """
    plain = [module for module in model.modules() if _copied_as_usual(type(module))]
    for module in plain:
        memo[id(module)] = object.__new__(type(module))
    for module in plain:
        state = module.__dict__
        copied = memo[id(module)].__dict__
        for key, value in state.items():
            if type(value) in CONTAINERS and not value:
                copied[key] = type(value)()
            elif key != "_compiled_call_impl":
                copied[key] = _copied(value, memo)


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    """A deep copy: of what modules hold most of at once, of all else by the standard library."""
    kind = type(value)
    if kind in ATOMS or (kind is tuple and all(type(item) in ATOMS for item in value)):
        return value
    if id(value) in memo:
        return memo[id(value)]
    if kind is dict and all(type(key) in ATOMS for key in value):
        memo[id(value)] = copied = {}
        copied |= {key: _copied(item, memo) for key, item in value.items()}
        return copied
    return copy.deepcopy(value, memo)


@functools.cache
def _copied_as_usual(kind: type[nn.Module]) -> bool:
    own = ("__deepcopy__", "__copy__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")
    return not any(key in base.__dict__ for base in kind.__mro__ if base not in USUAL for key in own)


@contextmanager
def borrowed(model: nn.Module) -> Iterator[None]:
    """Whatever changes of the modules' own attributes, parameters, buffers, parts and hooks is put back at the end.

    Tensors are put back, not their values: replace them, do not write into them.
    """
    entries = [(module, dict(module.__dict__)) for module in model.modules()]
    held = [value for _, entry in entries for value in entry.values() if type(value) in CONTAINERS]
    containers = [(value, copy.copy(value) if value else value.__class__()) for value in held]
    try:
        yield
    finally:
        for module, entry in entries:
            module.__dict__.clear()
            module.__dict__.update(entry)
        for value, before in containers:
            value.clear()
            value.extend(before) if isinstance(value, list) else value.update(before)


@contextmanager
def asking_for_gradients(tensors: Iterable[torch.Tensor]) -> Iterator[None]:
    """Tensors of real numbers ask for gradients, so that autograd shows what uses them."""
    before = {t: t.requires_grad for t in tensors if t.is_floating_point() and t.is_leaf}
    try:
        for tensor in before:
            tensor.requires_grad_()
        with torch.enable_grad():
            yield
    finally:
        for tensor, flag in before.items():
            tensor.requires_grad_(flag)
