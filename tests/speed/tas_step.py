"""Processor time of TAS's two steps against a dense step, in turn in the same run, printed as JSON.

    python tests/speed/tas_step.py [--batch 128] [--rounds 10]

ResNet-20 at 32×32 on one thread: a weight step and an architecture step of the supernet, forward and backward, and the
same of the dense network. Asked: 1.3 of a dense step for the weight step, 1.2 of two for the pair.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from bench.search.supernet import Supernet
from bench.structure.graph import PruningGraph
from methods.tas import TAS, interpolation, sample
from tasks.models.resnet import cifar_resnet


def timed_rounds(batch: int, count: int, in_a_row: int = 3) -> list[tuple[float, float, float]]:
    """Seconds of processor time of a dense step, a weight step and an architecture step, taken in turn.

    A few of a kind in a row, since steps of other kinds leave the allocator in a state that no training has.
    """
    torch.manual_seed(0)
    dense = cifar_resnet(20).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    graph = PruningGraph.trace(dense, torch.randn(1, 3, 32, 32))
    model, tas = copy.deepcopy(dense), TAS()
    candidates = {g.name: tas.widths(g.n_bundles) for g in graph.groups}
    net = Supernet(model, graph, candidates, depths=tas.depths, resize=interpolation)
    alpha = [nn.Parameter(torch.zeros(n)) for n in net.candidates]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)
    y = torch.arange(batch) % 10

    def step(network: nn.Module, parameters: list[Any], architecture: bool) -> float:
        start = time.process_time()
        for _ in range(in_a_row):
            if network is model:
                widths = len(net.groups)
                drawn = [sample(a, 1.0, "two", generator) for a in alpha[:widths]]
                drawn += [sample(a, 1.0, "all", generator) for a in alpha[widths:]]
                net.use(drawn if architecture else [(i, w.detach()) for i, w in drawn])
            torch.autograd.grad(F.cross_entropy(network(x), y), parameters, allow_unused=True)
        return (time.process_time() - start) / in_a_row

    own = [p for p in model.parameters() if p.requires_grad]
    return [
        (step(dense, list(dense.parameters()), False), step(model, own, False), step(model, alpha, True))
        for _ in range(count)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rounds = timed_rounds(options.batch, options.rounds + 2)[2:]
    plain, weights, architecture = (statistics.median(r[i] for r in rounds) for i in range(3))
    figures = {
        "dense_step_ms": plain * 1000,
        "weight_step": weights / plain,
        "architecture_step": architecture / plain,
        "pair_of_two": (weights + architecture) / (2 * plain),
    }
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}, indent=2))


if __name__ == "__main__":
    main()
