"""Handwritten digits, training and accuracy: what your own project has already."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

MEAN, STD = 0.3, 0.4
TRAIN = 1200
"""The first images train, the others test."""


def load() -> tuple[Tensor, Tensor]:
    """1797 images [N, 1, 16, 16] and their labels [N]."""
    pixels, labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
    images = pixels.reshape(-1, 1, 8, 8).float() / 16
    images = F.interpolate(images, size=(16, 16), mode="bilinear")
    return (images - MEAN) / STD, labels


def train(model: nn.Module, steps: int, rate: float) -> None:
    """Train in place."""
    images, labels = (part[:TRAIN] for part in load())
    random = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for _ in range(steps):
        batch = torch.randint(len(images), (64,), generator=random)
        optimizer.zero_grad()
        F.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
        schedule.step()


@torch.no_grad()
def accuracy(model: nn.Module) -> float:
    """Share of the test images that are classified rightly, in percent."""
    images, labels = (part[TRAIN:] for part in load())
    return 100 * float((model.eval()(images).argmax(1) == labels).float().mean())
