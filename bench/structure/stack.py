"""Which modules run at the moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def running(model: nn.Module) -> Iterator[list[str]]:
    """While it is entered, the list that it gives holds the names of the modules that run, outermost first.

    A module that raises stays in the list, so that it says where a run ended.
    """
    stack: list[str] = []
    handles: list[Any] = []
    for name, module in model.named_modules():

        def enter(module: nn.Module, args: object, name: str = name) -> None:
            stack.append(name)

        def leave(module: nn.Module, args: object, output: object) -> None:
            stack.pop()

        handles.append(module.register_forward_pre_hook(enter, prepend=True))
        handles.append(module.register_forward_hook(leave))
    try:
        yield stack
    finally:
        for handle in handles:
            handle.remove()
