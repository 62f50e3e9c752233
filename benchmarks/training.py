"""Samples a second of the training loop against the common loop and against a bare one, on three tasks.

    python -m benchmarks.training [--rounds 3] [--tasks classification segmentation super_resolution] [--threads 1 2]

The common loop: fp32, a DataLoader with workers, PIL images and torchvision's transforms sample by sample. The bare
loop: the same batches and precision as this project's loop, channels_last, torch's fused optimiser, and nothing else:
no schedule, no log, no check. Data are random and of the shapes of CIFAR-10, CamVid at 96×128 and BSD's patches; all
sides train the same network at the same batch size, in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from bench.interface.cell import Recipe
from bench.interface.task import Split, Task
from bench.training.device import autocast, resolve_precision, to_device
from bench.training.loop import Phase, train
from benchmarks.measure import in_turn, medians, ratio, timed

CPU = torch.device("cpu")


@dataclass
class Side:
    """A task with its data in both forms."""

    task: Task
    split: Split
    network: Callable[[], nn.Module]
    recipe: Recipe
    samples: Dataset[tuple[Tensor, Any]]
    """One by one, as the common loop reads them."""
    loss: Callable[[Tensor, Tensor], Tensor]

    @property
    def count(self) -> int:
        """Samples of an epoch of full batches."""
        return len(self.split) // self.recipe.batch_size * self.recipe.batch_size


class Samples(Dataset[tuple[Tensor, Any]]):
    """Images, or pairs of them, that a transform makes tensors of."""

    def __init__(self, count: int, read: Callable[[int], tuple[Tensor, Any]]) -> None:
        self.count, self.read = count, read

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        return self.read(index)


def classification() -> Side:
    """ResNet-20 on images as large as CIFAR-10's."""
    from tasks.classification import Classification
    from tasks.data.images import make_split
    from tasks.models.resnet import cifar_resnet

    mean, std = (0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.262)
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (2560, 32, 32, 3), np.uint8), random.integers(0, 10, 2560)
    split = make_split(images, labels, mean=[255 * m for m in mean], std=[255 * s for s in std], margin=4, flip=True)
    steps = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), v2.ToImage()]
    change = v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
    samples = Samples(len(labels), lambda i: (change(Image.fromarray(images[i])), int(labels[i])))
    task = Classification("cifar10", "resnet20")
    return Side(task, split, lambda: cifar_resnet(20), Recipe(batch_size=128), samples, F.cross_entropy)


def segmentation() -> Side:
    """A U-Net with a ResNet-18 on images of 96×128."""
    from tasks.segmentation import Segmentation

    task = Segmentation("scattered-digits", "smp:unet/resnet18", (96, 128), train_size=160, test_size=8)
    data = task.load(None)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (len(data.train), 96, 128, 3), np.uint8)
    masks = random.integers(0, len(data.info.classes), (len(data.train), 96, 128), np.uint8)
    steps = [v2.ToImage(), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)]
    change = v2.Compose([*steps, v2.Normalize((0.5,) * 3, (0.25,) * 3)])

    def read(index: int) -> tuple[Tensor, Any]:
        return change(Image.fromarray(images[index])), torch.from_numpy(masks[index]).long()

    samples = Samples(len(data.train), read)
    return Side(task, data.train, lambda: task.network(data.info), Recipe(batch_size=8), samples, F.cross_entropy)


def super_resolution() -> Side:
    """A small EDSR on patches of 48 low-resolution pixels."""
    from tasks.super_resolution import SuperResolution

    task = SuperResolution("photographs", "edsr-tiny", crops=64)
    data = task.load(None)
    random = np.random.default_rng(0)
    photos = [random.integers(0, 256, (480, 480, 3), np.uint8) for _ in range(8)]
    small = [np.asarray(Image.fromarray(p).resize((240, 240), Image.Resampling.BICUBIC)) for p in photos]
    change = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])

    def read(index: int) -> tuple[Tensor, Any]:
        low, high = small[index % 8], photos[index % 8]
        y, x = (int(place) for place in torch.randint(0, 240 - 48, (2,)))
        return (
            change(Image.fromarray(low[y : y + 48, x : x + 48])),
            change(Image.fromarray(high[2 * y : 2 * y + 96, 2 * x : 2 * x + 96])),
        )

    recipe = SuperResolution.recipe.model_copy(update={"batch_size": 16})
    return Side(task, data.train, lambda: task.network(data.info), recipe, Samples(len(data.train), read), F.l1_loss)


SIDES: dict[str, Callable[[], Side]] = {
    "classification": classification,
    "segmentation": segmentation,
    "super_resolution": super_resolution,
}


def common(side: Side, model: nn.Module, loader: DataLoader[tuple[Tensor, Any]]) -> None:
    """One epoch as most code trains."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    model.train()
    for x, y in loader:
        loss = side.loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def bare(side: Side, model: nn.Module) -> None:
    """One epoch with nothing but its steps."""
    recipe, parameters = side.recipe, to_device(model, CPU).parameters()
    rates: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "fused": True}
    if recipe.optimizer == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(parameters, momentum=0.9, nesterov=True, **rates)
    else:
        optimizer = torch.optim.Adam(parameters, **rates)
    model.train()
    batches: Iterator[tuple[Tensor, Tensor]] = side.split.batches(side.recipe.batch_size, seed=0, epoch=0, device=CPU)
    for x, y in batches:
        with autocast(side.recipe, CPU):
            loss = side.task.loss(model(x), y, side.recipe)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def own(side: Side, model: nn.Module) -> None:
    """One epoch of this project's loop."""
    train(model, side.task, side.split, side.recipe, Phase("dense", 1, 0, CPU))


def figures(side: Side, rounds: int) -> dict[str, Any]:
    """Samples a second of each loop, and the ratios."""
    workers = min(4, os.cpu_count() or 1)
    size = side.recipe.batch_size
    loader = DataLoader(side.samples, size, shuffle=True, drop_last=True, num_workers=workers)
    plain = Side(**{**vars(side), "recipe": side.recipe.model_copy(update={"precision": "fp32"})})

    def speed(loop: Callable[[nn.Module], None]) -> float:
        model = side.network()
        time.sleep(1)  # until the workers of the side before have gone
        return side.count / timed(lambda: loop(model))

    loops: dict[str, Callable[[nn.Module], None]] = {
        "own": lambda model: own(side, model),
        "bare": lambda model: bare(side, model),
        "own_fp32": lambda model: own(plain, model),
        "common": lambda model: common(side, model, loader),
    }
    found = in_turn({name: partial(speed, loop) for name, loop in loops.items()}, rounds)
    return {
        "samples_a_second": medians(found, 1),
        "own_over_common": ratio(found, "own", "common"),
        "own_over_bare": ratio(found, "own", "bare"),
        "own_fp32_over_common": ratio(found, "own_fp32", "common"),
        "precision": resolve_precision(side.recipe, CPU),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, os.cpu_count() or 1}))
    options = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    for name in options.tasks:
        side = SIDES[name]()
        for threads in options.threads:
            torch.set_num_threads(threads)
            found.setdefault(name, {})[f"threads_{threads}"] = figures(side, options.rounds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
