"""The one counter of multiply-adds. Everything that counts asks it, so that another one goes here alone.

It counts by the formulas of `torch.utils.flop_counter`: convolutions and matrix products and nothing else, one
multiply-add for two of its operations. Attention that PyTorch would run as one fused operation, of which no formula is
known, runs as the same products one by one while it is counted.
"""

from __future__ import annotations

import functools
import math
import sys
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import torch
from torch.backends import mha
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, register_flop_formula

OPERATIONS_PER_MAC = 2


class MacsCounter(TorchDispatchMode):
    """Counts the multiply-adds of what runs while it is entered; entered again, it starts from zero.

    Args:
        stack: names of the modules that run at the moment, outermost first, kept by whoever runs them.
    """

    def __init__(self, stack: Sequence[str] = ()) -> None:
        super().__init__()
        self._stack = stack
        self._operations = 0
        self._inside: Counter[str] = Counter()
        self._own: Counter[str] = Counter()
        self._fused = True

    def __enter__(self) -> MacsCounter:
        _know_torchvision()
        self._operations = 0
        self._inside, self._own = Counter(), Counter()
        self._fused = mha.get_fastpath_enabled()
        mha.set_fastpath_enabled(False)
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        mha.set_fastpath_enabled(self._fused)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = _formula(func)
        if formula is None and is_composite(func):
            super().__enter__()  # a mode does not see what it does itself
            try:
                return func.decompose(*args, **kwargs)
            finally:
                super().__exit__(None, None, None)
        result = func(*args, **kwargs)
        if formula is not None:
            operations = formula(*args, **kwargs, out_val=result)
            self._operations += operations
            for name in dict.fromkeys(self._stack):
                self._inside[name] += operations
            if self._stack:
                self._own[self._stack[-1]] += operations
        return result

    @property
    def total(self) -> int:
        """Multiply-adds of all that ran."""
        return self._operations // OPERATIONS_PER_MAC

    @property
    def inside(self) -> dict[str, int]:
        """Multiply-adds while a module ran, by module."""
        return {name: operations // OPERATIONS_PER_MAC for name, operations in self._inside.items()}

    @property
    def own(self) -> dict[str, int]:
        """Multiply-adds by the innermost module that ran."""
        return {name: operations // OPERATIONS_PER_MAC for name, operations in self._own.items()}

    @staticmethod
    def knows(operation: Any) -> bool:
        """Whether an operation of PyTorch's dispatcher is counted."""
        return _formula(operation) is not None


def _know_torchvision() -> None:
    """Give PyTorch a formula for deformable convolutions, if they can be there: they multiply as others do."""
    library = getattr(torch.ops, "torchvision", None) if "torchvision" in sys.modules else None
    operation = getattr(library, "deform_conv2d", None)
    if operation is not None and operation not in flop_registry:

        @register_flop_formula(operation)
        def _(input: Any, weight: list[int], *args: Any, out_shape: list[int], **kwargs: Any) -> int:
            return OPERATIONS_PER_MAC * math.prod(out_shape) * math.prod(weight[1:])


def _formula(operation: Any) -> Any:
    """Multiply-adds of an operation from its operands, twice over; None if PyTorch has no formula for it."""
    return flop_registry.get(getattr(operation, "overloadpacket", operation)) or flop_registry.get(operation)


@functools.cache
def is_composite(operation: Any) -> bool:
    """Whether an operation is made of others, which have formulas of their own."""
    composite = torch._C.DispatchKey.CompositeImplicitAutograd
    return isinstance(operation, torch._ops.OpOverload) and torch._C._dispatch_has_kernel_for_dispatch_key(
        operation.name(), composite
    )
