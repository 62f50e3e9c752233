"""Networks as they were: what is tried on one is undone, and a copy is made of what deep copies refuse."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from bench.errors import RequestError, first_line
from bench.structure.tensors import tensors_in

CONTAINERS = frozenset((dict, list, set, OrderedDict))
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
            for tensor in tensors_in(value):
                if tensor.grad_fn is not None:  # deep copies refuse a tensor that was computed
                    memo.setdefault(id(tensor), tensor.detach().clone())
    try:
        return copy.deepcopy(model, memo)
    except (TypeError, RuntimeError, AttributeError, NotImplementedError) as error:
        raise RequestError(f"the network cannot be copied: {first_line(error)}") from error


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
