"""Which devices there are for cells, and on which of them a cell is computed."""

from __future__ import annotations

import os
import socket

from bench.errors import RequestError
from bench.interface.devices import index_of
from bench.runs.job import Settings

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""Names of the GPUs that a process sees, with commas; read when CUDA is first used."""


def visible_gpus() -> list[str]:
    """The GPUs that this process sees, by the names that CUDA_VISIBLE_DEVICES has for them."""
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    return named[:count] if len(named) >= count else [str(number) for number in range(count)]


def shared_out(workers: int, settings: Settings) -> list[str]:
    """What CUDA_VISIBLE_DEVICES is to be in each worker: GPUs of its own, as far as there are enough.

    Empty where GPUs are not used, or one is named. Workers beyond the number of GPUs share them, in turn.
    """
    if settings.device not in ("auto", "cuda"):
        return []
    gpus, each = visible_gpus(), settings.resources.devices_per_cell
    parts = [",".join(gpus[k : k + each]) for k in range(0, len(gpus) - each + 1, each)]
    return [parts[worker % len(parts)] for worker in range(workers)] if parts else []


def device_of_rank(rank: int, settings: Settings) -> str:
    """The device of one of several processes that train one network together."""
    return f"cuda:{rank}" if settings.device != "cpu" and visible_gpus() else "cpu"


def require_devices(settings: Settings) -> None:
    """Refuse `devices_per_cell` where this machine has not so many devices.

    Raises:
        RequestError: with how many there are.
    """
    each = settings.resources.devices_per_cell
    if each == 1:
        return
    if index_of(settings.device) is not None or settings.device == "mps":
        raise RequestError(
            f"devices_per_cell = {each} does not go with --device {settings.device}, which is one device; use auto, "
            "cuda or cpu"
        )
    count = 0 if settings.device == "cpu" else len(visible_gpus())
    if 0 < count < each or (settings.device == "cuda" and not count):
        raise RequestError(
            f"devices_per_cell = {each} was asked for, but torch sees {count} CUDA devices; lower it, or use "
            "--device cpu"
        )


def where(settings: Settings) -> str:
    """The devices of a cell and their machine, as `cuda:2 of HOST`; the machine alone where its device is not there."""
    from bench.training.device import resolve_device

    host, each = socket.gethostname(), settings.resources.devices_per_cell
    try:
        device = resolve_device(settings.device)
    except RequestError:
        return host
    if device.type != "cuda":
        return f"{device.type}{f' ×{each}' * (each > 1)} of {host}"
    gpus, start = visible_gpus(), device.index or 0
    return f"cuda:{','.join(gpus[start : start + each])} of {host}"


def is_plain(place: str) -> bool:
    """Whether a place is the CPU of this machine, which goes without saying."""
    return place in ("", f"cpu of {socket.gethostname()}")
