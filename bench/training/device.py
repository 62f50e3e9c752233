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
from bench.interface.devices import index_of, require_device_name


@cache
def _computes_in_bf16(device_type: str) -> bool:
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type != "cpu":
        return False
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
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps` -> a device; `auto` is CUDA's first where it is there, else the CPU.

    Raises:
        RequestError: an unknown name, or a device that is not there.
    """
    require_device_name(name)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "mps" and not torch.backends.mps.is_available():
        raise RequestError("device 'mps' was asked for, but torch sees no GPU of Apple; use --device cpu or auto")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise RequestError(f"device {name!r} was asked for, but torch sees no CUDA device; use --device cpu or auto")
    count = torch.cuda.device_count() if index_of(name) is not None else 0
    if (index_of(name) or 0) >= max(1, count):
        there = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise RequestError(f"device {name!r} was asked for, but torch sees {there}; use one of these, or auto")
    return torch.device(name)


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
