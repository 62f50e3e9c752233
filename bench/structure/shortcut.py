"""What stands where a removed block was."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn as nn

MODULES: dict[str, type[nn.Module]] = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
}
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {name: kind() for name, kind in MODULES.items()}


def shortcut(block: nn.Module, activation: str) -> nn.Module:
    """What a removed block leaves behind: the activation's own module, in the block's mode.

    Blocks that take more than one tensor are called with more: there it is a `Shortcut`.
    """
    takes = list(inspect.signature(block.forward).parameters.values())
    plain = len(takes) == 1 and takes[0].kind in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )
    module = MODULES[activation]() if plain else Shortcut(activation)
    return module.train(block.training)


class Shortcut(nn.Module):
    """An activation that takes a block's arguments and uses the first."""

    def __init__(self, activation: str) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return ACTIVATIONS[self.activation](x)

    def extra_repr(self) -> str:
        return self.activation
