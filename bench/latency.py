"""How long a forward pass takes and how much memory it needs, measured where the model lies."""

from __future__ import annotations

import platform
import statistics
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.benchmark import Timer

from bench.channels import tensors_in
from bench.counting import evaluating


@dataclass(frozen=True)
class Latency:
    """A latency, and what it was measured with."""

    median_ms: float
    iqr_ms: float
    """Interquartile range over the runs."""
    threads: int
    """CPU threads that were used."""
    device: str
    runs: int


def measure_latency(
    model: nn.Module, example: torch.Tensor, *, min_seconds: float = 0.5, threads: int | None = None
) -> Latency:
    """Latency of `model(example)` in eval mode without gradients, after a warm-up.

    On the CPU with `torch.utils.benchmark`; on a GPU with CUDA events around each run.

    Args:
        example: one input batch, on the model's device.
        min_seconds: measure for at least this long, and at least ten times.
        threads: CPU threads; None: as many as torch is set to use.
    """
    threads = torch.get_num_threads() if threads is None else threads
    with evaluating(model):
        if example.device.type == "cuda":
            times = _cuda_times(model, example, min_seconds)
        else:
            timer = Timer("model(example)", globals={"model": model, "example": example}, num_threads=threads)
            once = timer.timeit(2).median  # also the warm-up
            block = max(1, round(0.002 / once))  # at least 2 ms a measurement
            times = []
            while len(times) < 10 or sum(times) * block < 1e3 * min_seconds:
                times.append(1e3 * timer.timeit(block).median)
    low, _, high = statistics.quantiles(times, n=4)
    return Latency(statistics.median(times), high - low, threads, _name(example.device), len(times))


def _cuda_times(model: nn.Module, example: torch.Tensor, min_seconds: float) -> list[float]:
    for _ in range(5):
        model(example)
    torch.cuda.synchronize(example.device)
    times: list[float] = []
    while len(times) < 10 or sum(times) < 1e3 * min_seconds:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        model(example)
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return times


def peak_memory(model: nn.Module, example: torch.Tensor) -> int:
    """Bytes that one forward pass in eval mode needs beyond parameters, buffers and input.

    On a GPU what the allocator reports. On the CPU the largest sum of live activations, followed through the
    operations' outputs: it does not see an operation's inner workspace.
    """
    with evaluating(model):
        if example.device.type == "cuda":
            torch.cuda.synchronize(example.device)
            before = torch.cuda.memory_allocated(example.device)
            torch.cuda.reset_peak_memory_stats(example.device)
            model(example)
            torch.cuda.synchronize(example.device)
            return torch.cuda.max_memory_allocated(example.device) - before
        with _LiveBytes(model, example) as live:
            model(example)
        return live.peak


class _LiveBytes(TorchDispatchMode):
    """Bytes of the storages that operations made and that are still alive."""

    def __init__(self, model: nn.Module, example: torch.Tensor) -> None:
        super().__init__()
        self.peak = 0
        given = (*model.parameters(), *model.buffers(), example)
        self.known = {t.untyped_storage()._cdata for t in given}
        self.held: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.held = {key: (ref, size) for key, (ref, size) in self.held.items() if not ref.expired()}
        for tensor in tensors_in(result):
            storage = tensor.untyped_storage()
            if storage._cdata not in self.known:
                self.held[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.peak = max(self.peak, sum(size for _, size in self.held.values()))
        return result


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or device.type
