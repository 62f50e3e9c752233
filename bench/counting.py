"""Counting what a network costs, by running it. The counter is `torch.utils.flop_counter`: convolutions and
matrix products and nothing else; one multiply-add is two of its operations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn as nn
from torch.utils.flop_counter import FlopCounterMode


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode, no gradients; every module's own training flag is put back."""
    training = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, flag in training:
            module.training = flag


def count_macs(model: nn.Module, example: torch.Tensor) -> int:
    """Multiply-adds of one forward pass on `example`, all of its samples counted (give a batch of one).

    Args:
        model: any network; left as it was, training mode included.
        example: one input batch, on the model's device.
    """
    with evaluating(model), FlopCounterMode(display=False) as counter:
        model(example)
    return counter.get_total_flops() // 2


def count_params(model: nn.Module) -> int:
    """Number of parameters, trainable or not; shared ones once, buffers not."""
    return sum(p.numel() for p in model.parameters())
