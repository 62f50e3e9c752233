"""A task with a useless part: does a search see the task, or does the cost alone decide?

    python -m tests.methods.planted [--seeds 3] [--methods dcss dais tas gdp]

A network has two branches of one shape. One reads a handwritten digit that is to be named, the other reads another
digit, drawn at random. Before a search, the second branch and its part of the classifier get the weights of the first:
nothing but the task tells them apart. A search that sees the task keeps fewer channels of the useless branch than the
same search without the task's gradient (`blind`).
"""

from __future__ import annotations

import argparse
import copy
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from bench.interface.cell import Recipe
from bench.interface.method import Budget, Method
from bench.interface.registry import make_method
from bench.interface.task import DataInfo, Splits
from bench.search.fit import fit
from bench.structure.graph import PruningGraph
from bench.training.context import search_context
from bench.training.loop import Phase, train
from tasks.classification import Classification
from tasks.data.images import ImageSplit, make_split

CPU = torch.device("cpu")
METHODS = ("dcss", "dais", "tas", "gdp")
WIDTH, EPOCHS, RATIO = 16, 12, 0.5
RECIPE = Recipe(batch_size=50, lr=0.02, weight_decay=0.0, precision="fp32")


class Branch(nn.Sequential):
    """Two convolutions with norms: one input channel to `WIDTH`."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, WIDTH, 3, padding=1, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
        )


class TwoBranches(nn.Module):
    """A branch for each of two input channels, and one classifier of both."""

    def __init__(self) -> None:
        super().__init__()
        self.useful, self.useless = Branch(), Branch()
        self.head = nn.Conv2d(2 * WIDTH, 10, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.useful(x[:, :1]), self.useless(x[:, 1:])], 1)).flatten(1)


@dataclass(frozen=True)
class Planted(Classification):
    """Two 8×8 digits a sample; the label is that of the first."""

    dataset: str = "digits"
    model: str = "two branches"

    def load(self, root: Path | None, *, download: bool = False) -> Splits:
        from sklearn.datasets import load_digits

        digits: Any = load_digits()
        images = (digits.images * 15).astype(np.uint8)[..., None]
        random = np.random.default_rng(0)
        order = random.permutation(len(images))
        pairs = np.concatenate([images[order], images[random.permutation(len(images))]], 3)
        labels = digits.target[order]

        def split(part: slice) -> ImageSplit:
            return make_split(pairs[part], labels[part], mean=(75.0, 75.0), std=(90.0, 90.0), margin=0, flip=False)

        info = DataInfo(2, 8, 8, tuple("0123456789"))
        return Splits(split(slice(0, 1000)), split(slice(1000, 1200)), lambda: split(slice(1200, None)), info)

    def network(self, info: DataInfo) -> nn.Module:
        return TwoBranches()


@functools.cache
def dense(seed: int) -> tuple[Planted, Splits, TwoBranches, PruningGraph]:
    """The task, its data, and a trained network whose useless branch has the weights of the useful one."""
    torch.set_num_threads(1)
    task = Planted()
    data = task.load(None)
    torch.manual_seed(seed)
    model = TwoBranches()
    train(model, task, data.train, RECIPE, Phase("dense", 3, seed, CPU))
    model.useless.load_state_dict(model.useful.state_dict())
    with torch.no_grad():
        model.head.weight[:, WIDTH:] = model.head.weight[:, :WIDTH]
    return task, data, model, PruningGraph.trace(model, task.example(data.info))


def useless_share(method: Method, seed: int, *, blind: bool, ratio: float = RATIO) -> float:
    """Of the channels that a search and the budget fit keep, the share that is in the useless branch."""
    task, data, model, graph = dense(seed)
    ctx = search_context(task, data.visible, RECIPE, epochs=EPOCHS, seed=seed, device=CPU, blind=blind)
    found = method.search(copy.deepcopy(model), graph, task, Budget(ratio), ctx)
    fitted = fit(graph, found, Budget(ratio))
    assert fitted.within, fitted.note
    return sum(w for name, w in fitted.widths.items() if name.startswith("useless")) / sum(fitted.widths.values())


@dataclass(frozen=True)
class Shares:
    """The useless branch's share with one seed."""

    real: float
    blind: float


def shares(name: str, seeds: int, hyper: Mapping[str, Any] | None = None) -> Iterator[Shares]:
    """Of each of the seeds 0, 1, …: with the task's gradient, and without."""
    method = make_method(name, dict(hyper or {}))
    for seed in range(seeds):
        yield Shares(*(useless_share(method, seed, blind=blind) for blind in (False, True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    options = parser.parse_args()
    print("share of the kept channels that is in the useless branch: real / blind, by seed")
    for name in options.methods:
        found = list(shares(name, options.seeds))
        print(f"{name:5}", *(f"{s.real:.2f}/{s.blind:.2f}" for s in found), flush=True)


if __name__ == "__main__":
    main()
