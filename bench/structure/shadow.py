"""Weights that are hidden behind others for the length of one forward pass: what gates are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


def hide(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Let `tensors` ("weight", "bias") stand in for the module's parameters of these names until `unhide`."""
    # An instance attribute hides the registered parameter of the same name.
    module.__dict__.update(tensors)


def unhide(module: nn.Module, args: Any, output: Any) -> None:
    """Forward hook that ends `hide`."""
    module.__dict__.pop("weight", None)
    module.__dict__.pop("bias", None)


def gated(model: nn.Module) -> bool:
    """Whether some layer of `model` has hidden weights while it runs: gates are in place."""
    return any(hook is unhide for module in model.modules() for hook in module._forward_hooks.values())
