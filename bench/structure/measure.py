"""What a network costs, measured by running it: multiply-adds, parameters, latency and memory."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.benchmark import Timer

from bench.structure.compiled import eagerly
from bench.structure.copies import borrowed
from bench.structure.counter import MacsCounter
from bench.structure.tensors import tensors_in


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode, no gradients; every module's own training flag is put back, and so is what asks for gradients.

    Torch's counter fails on a view of a parameter that asks for gradients where none are taken, such as an expanded
    class token.
    """
    training = [(module, module.training) for module in model.modules()]
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.is_leaf]
    model.eval()
    for parameter in asking:
        parameter.requires_grad = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module, flag in training:
            module.training = flag
        for parameter in asking:
            parameter.requires_grad = True


def count_macs(model: nn.Module, example: torch.Tensor) -> int:
    """Multiply-adds of one forward pass on `example`, all of its samples counted (give a batch of one).

    Args:
        model: any network; left as it was, training mode included.
        example: one input batch, on the model's device.
    """
    with borrowed(model), evaluating(model), eagerly(model), MacsCounter() as counter:
        model(example.clone())  # a network may change its input in place
    return counter.total


def count_params(model: nn.Module) -> int:
    """Number of parameters, trainable or not; shared ones once, buffers not."""
    return sum(p.numel() for p in model.parameters())


@dataclass(frozen=True)
class Latency:
    """A latency, and what it was measured with."""

    median_ms: float
    iqr_ms: float
    """Interquartile range over the runs."""
    threads: int
    """CPU threads that were used; 0 on a GPU, where they mean nothing."""
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
    return compare_latencies([model], example, min_seconds=min_seconds, threads=threads)[0]


def compare_latencies(
    models: Sequence[nn.Module], example: torch.Tensor, *, min_seconds: float = 0.5, threads: int | None = None
) -> list[Latency]:
    """Latencies of several models as `measure_latency` gives them, measured in turn, a few runs each.

    A processor's pace changes from second to second; in turn it changes for all alike, and their ratios hold.
    """
    threads = torch.get_num_threads() if threads is None else threads
    timers = [_cuda_timer(m, example) if example.device.type == "cuda" else _timer(m, example, threads) for m in models]
    times: list[list[float]] = [[] for _ in models]
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(evaluating(model))
        blocks = [max(1, round(0.002 / timer(2))) for timer in timers]  # at least 2 ms a measurement; also the warm-up
        spent = [0.0] * len(models)
        while min(map(len, times)) < 10 or min(spent) < min_seconds:
            for i, timer in enumerate(timers):
                times[i].append(1e3 * timer(blocks[i]))
                spent[i] += times[i][-1] * blocks[i] / 1e3
    found = []
    for own in times:
        low, _, high = statistics.quantiles(own, n=4)
        used = 0 if example.device.type == "cuda" else threads
        found.append(Latency(statistics.median(own), high - low, used, _name(example.device), len(own)))
    return found


def _timer(model: nn.Module, example: torch.Tensor, threads: int) -> Callable[[int], float]:
    """Seconds of one run, the mean over so many."""
    timer = Timer("model(example)", globals={"model": model, "example": example}, num_threads=threads)
    return lambda runs: timer.timeit(runs).median


def _cuda_timer(model: nn.Module, example: torch.Tensor) -> Callable[[int], float]:
    def timed(runs: int) -> float:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        model(example)
        torch.cuda.synchronize(example.device)
        start.record()
        for _ in range(runs):
            model(example)
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / runs

    return timed


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
