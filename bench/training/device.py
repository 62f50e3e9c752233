"""Where and in which precision a network is computed, and the seeds of its stages."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import nn

from bench.errors import RequestError
from bench.interface.cell import Recipe


@cache
def _computes_in_bf16(device_type: str) -> bool:
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def resolve_precision(recipe: Recipe, device: torch.device) -> str:
    """`fp32` or `bf16`: what `precision = "auto"` comes to on this device."""
    if recipe.precision != "auto":
        return recipe.precision
    return "bf16" if _computes_in_bf16(device.type) else "fp32"


def autocast(recipe: Recipe, device: torch.device) -> AbstractContextManager[Any]:
    """bf16 autocast where the recipe asks for it, else nothing."""
    if resolve_precision(recipe, device) == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def resolve_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` -> a device.

    Raises:
        RequestError: `cuda` is asked for and there is none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise RequestError(f"unknown device {name!r}; available: auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise RequestError("device 'cuda' was asked for, but torch sees no CUDA device; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def stage_seed(seed: int, *stage: object) -> int:
    """A seed for one stage of a run, independent of what ran before."""
    text = "/".join(map(str, (seed, *stage)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


def to_device(model: nn.Module, device: torch.device) -> nn.Module:
    """Move `model` to `device` in channels_last, the layout in which convolutions were fastest; returns it."""
    model.to(device)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.ndim == 4:  # `Module.to` would ask it of weights of five dimensions too, which have no such layout
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return model
