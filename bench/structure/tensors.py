"""Tensors in whatever a network returns, and float64 where a device has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass

import torch


def tensors_in(output: object) -> Iterator[torch.Tensor]:
    """The tensors of a network's output, whether tensor, list, dict, or dataclass."""
    if isinstance(output, torch.Tensor):
        yield output
    elif output is None or type(output) in (bool, int, float, str):
        return  # most of what is asked about, and soon told
    elif isinstance(output, Mapping):
        for item in output.values():
            yield from tensors_in(item)
    elif isinstance(output, (list, tuple)):
        for item in output:
            yield from tensors_in(item)
    elif is_dataclass(output) and not isinstance(output, type):
        for entry in fields(output):
            yield from tensors_in(getattr(output, entry.name))


WITHOUT_FLOAT64 = {"mps"}
"""Kinds of devices that do not compute in float64."""


def precise(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in float64, with gradients: on its device, or on the CPU where the device has none."""
    return (tensor.cpu() if tensor.device.type in WITHOUT_FLOAT64 else tensor).double()
