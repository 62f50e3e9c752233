"""The one counter of multiply-adds. Everything that counts asks it, so that another one goes here alone.

It is `torch.utils.flop_counter`: convolutions and matrix products and nothing else, one multiply-add for two of its
operations. Attention that PyTorch would run as one fused operation, of which the counter knows nothing, runs as the
same products one by one while they are counted.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

from torch import nn
from torch.backends import mha
from torch.utils.flop_counter import FlopCounterMode, flop_registry

OPERATIONS_PER_MAC = 2


class MacsCounter:
    """Counts the multiply-adds of what runs while it is entered; entered again, it starts from zero."""

    def __init__(self) -> None:
        self._mode = FlopCounterMode(display=False)
        self._fused = True

    def __enter__(self) -> MacsCounter:
        self._fused = mha.get_fastpath_enabled()
        mha.set_fastpath_enabled(False)
        self._mode.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._mode.__exit__(kind, error, trace)
        mha.set_fastpath_enabled(self._fused)

    @property
    def total(self) -> int:
        """Multiply-adds of all that ran."""
        return self._mode.get_total_flops() // OPERATIONS_PER_MAC

    @staticmethod
    def knows(operation: Any) -> bool:
        """Whether an operation of PyTorch's dispatcher is counted."""
        return operation in flop_registry or getattr(operation, "overloadpacket", None) in flop_registry

    def by_module(self, model: nn.Module) -> dict[str, int]:
        """Multiply-adds inside each module of `model`, containers included; "" is the whole network."""
        root = type(model).__name__
        return {
            name.removeprefix(root).removeprefix("."): sum(by_operation.values()) // OPERATIONS_PER_MAC
            for name, by_operation in self._mode.get_flop_counts().items()
            if name.split(".")[0] == root
        }
