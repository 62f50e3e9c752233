"""Images per second of the training loop against the common one, in the same run.

    python tests/speed/training_loop.py [--images 2560] [--rounds 3] [--model resnet20]

The common loop: fp32, a DataLoader with workers, PIL images, torchvision's RandomCrop, RandomHorizontalFlip, ToTensor
and Normalize. Both train the same network at the same batch size, in turn; medians over rounds are printed as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from bench.interface.cell import Recipe
from bench.training.device import resolve_precision
from bench.training.loop import Phase, train
from tasks.classification import Classification
from tasks.data.images import make_split
from tasks.models.resnet import cifar_resnet

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.262)


class PilImages(Dataset[tuple[torch.Tensor, int]]):
    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image: torch.Tensor = self.transform(Image.fromarray(self.images[index]))  # pyright: ignore[reportAssignmentType]
        return image, int(self.labels[index])


def common_loop(model: torch.nn.Module, loader: DataLoader[tuple[torch.Tensor, int]], device: torch.device) -> int:
    """One epoch; the number of images."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    model.train()
    count = 0
    for x, y in loader:
        x, y = x.to(device), y.to(device)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        count += len(y)
    return count


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=2560)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="resnet20")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    depth = int(options.model.removeprefix("resnet"))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (options.images, 32, 32, 3), np.uint8)
    labels = rng.integers(0, 10, options.images)
    split = make_split(images, labels, mean=[255 * m for m in MEAN], std=[255 * s for s in STD], margin=4, flip=True)
    task = Classification("cifar10", options.model)
    workers = min(4, os.cpu_count() or 1)
    loader = DataLoader(PilImages(images, labels), 128, shuffle=True, drop_last=True, num_workers=workers)
    recipe = Recipe(batch_size=128)
    speeds: dict[str, list[float]] = {"prunebench": [], "prunebench fp32": [], "common": []}
    count = options.images // 128 * 128
    for index in range(options.rounds + 1):
        for name in speeds:
            model = cifar_resnet(depth).to(device)
            start = time.perf_counter()
            if name == "common":
                common_loop(model, loader, device)
            else:
                own = recipe.model_copy(update={"precision": "fp32"}) if name.endswith("fp32") else recipe
                train(model, task, split, own, Phase("dense", 1, 0, device))
            if device.type == "cuda":
                torch.cuda.synchronize()
            if index:  # the first round warms up
                speeds[name].append(count / (time.perf_counter() - start))
    medians = {name: round(statistics.median(values)) for name, values in speeds.items()}
    facts = {
        "images_per_second": medians,
        "ratio": round(medians["prunebench"] / medians["common"], 2),
        "per_round_ratio": [round(a / b, 2) for a, b in zip(speeds["prunebench"], speeds["common"], strict=True)],
        "precision": resolve_precision(recipe, device),
        "threads": torch.get_num_threads(),
        "workers": workers,
        "device": device.type,
    }
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
