"""Networks given to `torch.compile`, whole or in parts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def is_compiled(model: nn.Module) -> bool:
    """Whether a module of the network runs as compiled code."""
    compiler = sys.modules.get("torch._dynamo.eval_frame")  # not imported: then nothing is compiled, and it is slow
    wrapper = () if compiler is None else compiler.OptimizedModule
    return any(
        isinstance(module, wrapper) or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )


@contextmanager
def eagerly(model: nn.Module) -> Iterator[None]:
    """While it is entered, a compiled network runs as the Python that it was made from."""
    if is_compiled(model):
        with torch.compiler.set_stance("force_eager"):
            yield
    else:
        yield
