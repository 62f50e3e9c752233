"""A training step against what the processor can do: where its time goes, and how fast its convolutions are.

    python -m benchmarks.roofline [--tasks classification segmentation super_resolution]

The peak is the fastest of many products of two matrices of 1024×1024. A step of a network takes three times the
multiply-adds of its forward pass, but for the gradient of its input. All on one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch

from bench.structure.measure import count_macs
from bench.training.device import resolve_precision
from benchmarks.training import CPU, SIDES, Side, bare

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
FORWARD, BACKWARD = "aten::mkldnn_convolution", "aten::convolution_backward"


def peak(dtype: torch.dtype) -> float:
    """GFLOP/s of a product of matrices."""
    one, other = torch.randn(1024, 1024).to(dtype), torch.randn(1024, 1024).to(dtype)
    times: list[float] = []
    for _ in range(60):
        start = time.perf_counter()
        torch.mm(one, other)
        times.append(time.perf_counter() - start)
    return 2 * 1024**3 / min(times) / 1e9


def of_task(side: Side) -> dict[str, Any]:
    """Shares of a step's time, and the speed of its convolutions against the peak."""
    from torch.profiler import ProfilerActivity, profile

    model = side.network()
    bare(side, model)  # what is compiled or planned once does not count
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        bare(side, model)
    spent = {event.key: event.self_cpu_time_total / 1e6 for event in profiled.key_averages()}
    whole = sum(spent.values())
    convolutions = spent.get(FORWARD, 0.0) + spent.get(BACKWARD, 0.0)
    x, _ = next(iter(side.split.batches(2, seed=0, epoch=0, device=CPU)))
    flops = 2 * 3 * count_macs(model, x[:1]) * side.count
    precision = resolve_precision(side.recipe, CPU)
    top = peak(DTYPES[precision])
    reached = flops / convolutions / 1e9
    others = sorted(((s, name) for name, s in spent.items() if name not in (FORWARD, BACKWARD)), reverse=True)
    return {
        "precision": precision,
        "convolutions_share": round(convolutions / whole, 3),
        "gflops": round(reached, 1),
        "peak_gflops": round(top, 1),
        "of_peak": round(reached / top, 3),
        "others": {name.removeprefix("aten::"): round(s / whole, 3) for s, name in others[:6]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tasks", nargs="+", choices=SIDES, default=list(SIDES))
    chosen = parser.parse_args().tasks
    torch.set_num_threads(1)
    print(json.dumps({name: of_task(SIDES[name]()) for name in chosen}))


if __name__ == "__main__":
    main()
