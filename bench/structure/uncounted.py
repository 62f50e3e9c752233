"""Finds what multiplies out of the counter's sight: fused attention, recurrent layers, kernels that are no PyTorch.

The counter adds up the operations that it knows and passes over all others in silence. Most of those multiply nothing
that counts; this module names the ones that do.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.autograd.function import BackwardCFunction
from torch.multiprocessing.reductions import StorageWeakRef

from bench.structure.counter import MacsCounter, is_composite
from bench.structure.tensors import tensors_in

PRODUCTS = frozenset((
    "mm", "bmm", "addmm", "baddbmm", "addbmm", "matmul", "mv", "addmv", "dot", "vdot", "ger", "addr", "conv",
    "conv1d", "conv2d", "conv3d", "convolution", "linear", "trilinear", "rnn", "lstm", "gru", "attention",
    "transformer",
))  # fmt: skip
"""Words in the names of PyTorch's own operations that are products of matrices, or hold some."""
_PLAIN = ("aten", "prim", "prims", "profiler")
"""Where PyTorch's own operations live. Of those of others nobody knows whether they multiply."""


class WatchfulCounter(MacsCounter):
    """A counter that also notes the operations that multiply and that it does not know.

    Args:
        model: the network that is run.
        example: its input.
        stack: as `MacsCounter` has it; "" is the network itself.
    """

    def __init__(self, model: nn.Module, example: torch.Tensor, stack: Sequence[str]) -> None:
        super().__init__(stack)
        self.uncounted: dict[str, str] = {}
        """By layer, what it runs."""
        self._seen = {_storage(t) for t in (example, *model.parameters(), *model.buffers())}
        self._known: set[Any] = set()
        self._kept: list[StorageWeakRef] = []  # while they are here, no address stands for two storages

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given: list[torch.Tensor] = []
        for value in (*args, *kwargs.values()):
            if isinstance(value, torch.Tensor):
                given.append(value)
            elif type(value) is list and value and isinstance(value[0], torch.Tensor):
                given += tensors_in(value)
        self.note_functions(given)
        if func not in self._known and _multiplies(func) and not self.knows(func) and not is_composite(func):
            self.uncounted.setdefault(self._layer(), str(func).removesuffix(".default"))
        else:
            self._known.add(func)
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if any(t.untyped_storage()._cdata in self._seen for t in given):
            for t in (result,) if isinstance(result, torch.Tensor) else tensors_in(result):
                storage = t.untyped_storage()
                self._seen.add(storage._cdata)
                self._kept.append(StorageWeakRef(storage))
        return result

    def note_functions(self, tensors: Iterable[torch.Tensor], layer: str | None = None) -> None:
        """Note the autograd functions that made `tensors`, seen in `layer`, by no operation of PyTorch's."""
        for tensor in tensors:
            made_by = tensor.grad_fn
            if isinstance(made_by, BackwardCFunction) and _storage(tensor) not in self._seen:
                name = f"autograd function {type(made_by).__name__.removesuffix('Backward')}"
                if name not in self.uncounted.values():  # whoever reads it later is not to blame
                    self.uncounted[self._layer() if layer is None else layer] = name

    def _layer(self) -> str:
        """The innermost module that runs."""
        return self._stack[-1] if self._stack else ""


@functools.cache
def _multiplies(func: Any) -> bool:
    library, _, operation = str(func).partition(".")  # aten.addmm.default
    if library not in _PLAIN:
        return True
    words = operation.split(".")[0].split("_")
    return not PRODUCTS.isdisjoint(words) and "cell" not in words  # a fused cell is what follows its products


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata
