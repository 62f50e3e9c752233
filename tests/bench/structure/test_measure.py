"""Latency and memory of networks whose order is known."""

from __future__ import annotations

import pytest
import torch
import torch.nn as nn

from bench.structure.measure import compare_latencies, measure_latency, peak_memory
from tasks.models.resnet import cifar_resnet


def test_a_larger_network_takes_longer() -> None:
    x = torch.randn(1, 3, 32, 32)
    small, large = (measure_latency(cifar_resnet(d), x, min_seconds=0.1, threads=1) for d in (8, 56))
    assert 0 < small.median_ms < large.median_ms
    assert small.iqr_ms >= 0 and small.threads == 1 and small.runs >= 10 and small.device


class Logged(nn.Module):
    def __init__(self, name: str, log: list[str]) -> None:
        super().__init__()
        self.name, self.log = name, log

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.log.append(self.name)
        return x


def test_models_are_measured_in_turn() -> None:
    log: list[str] = []
    both = compare_latencies([Logged("a", log), Logged("b", log)], torch.zeros(1), min_seconds=0.0, threads=1)
    turns = "".join(name for i, name in enumerate(log) if i == 0 or log[i - 1] != name)
    assert turns == "ab" * (1 + both[0].runs) and [m.runs for m in both] == [10, 10]


def test_measuring_leaves_the_network_and_the_threads_alone() -> None:
    model, threads = cifar_resnet(8).train(), torch.get_num_threads()
    measure_latency(model, torch.randn(1, 3, 32, 32), min_seconds=0.01, threads=1)
    assert model.training and torch.get_num_threads() == threads
    assert int(model.bn1.num_batches_tracked or 0) == 0


class Chain(nn.Module):
    """Doubles its input `depth` times: never more than two tensors alive."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.depth = depth

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.depth):
            x = x * 2
        return x


@pytest.mark.parametrize("depth", [2, 3, 10])
def test_peak_memory_counts_what_is_alive_at_once(depth: int) -> None:
    x = torch.randn(1, 1024)
    assert peak_memory(Chain(depth), x) == 2 * x.nbytes
    assert peak_memory(Chain(1), x) == x.nbytes


def test_peak_memory_grows_with_the_input() -> None:
    model = cifar_resnet(8)
    one, four = (peak_memory(model, torch.randn(n, 3, 32, 32)) for n in (1, 4))
    assert one >= 2 * 16 * 32 * 32 * 4  # a block's input and what it computes
    assert 3.5 * one < four < 4.5 * one


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu() -> None:
    model, x = cifar_resnet(8).cuda(), torch.randn(1, 3, 32, 32, device="cuda")
    assert measure_latency(model, x, min_seconds=0.01).device == torch.cuda.get_device_name()
    assert peak_memory(model, x) >= 16 * 32 * 32 * 4
