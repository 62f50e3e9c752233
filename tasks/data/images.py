"""Labelled images in memory, cropped and flipped a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor


class ImageSplit:
    """uint8 images [N, H + 2m, W + 2m, C] with a margin m that random crops move in, and labels [N].

    One gather makes a batch: random crop, random flip and selection together, in channels_last memory. Images
    move to a GPU once and stay there.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        margin: int = 0,
        flip: bool = False,
    ) -> None:
        self.images, self.labels = images, labels
        self.mean, self.std = torch.tensor(mean), torch.tensor(std)
        self.margin, self.flip = margin, flip
        self.height, self.width = images.shape[1] - 2 * margin, images.shape[2] - 2 * margin

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor) -> ImageSplit:
        """The samples at `indices` [n], in that order."""
        return ImageSplit(
            self.images[indices],
            self.labels[indices],
            mean=self.mean.tolist(),
            std=self.std.tolist(),
            margin=self.margin,
            flip=self.flip,
        )

    def halves(self, seed: int) -> tuple[ImageSplit, ImageSplit]:
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        half = len(self) // 2
        return self.subset(order[:half]), self.subset(order[half:])

    def batches(
        self, batch_size: int, *, seed: int, epoch: int, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        self._move(device)
        # Drawn on the CPU in every case, so that a seed means the same batches on every device.
        random = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
        n = len(self)
        order = torch.randperm(n, generator=random)
        shifts = torch.randint(0, 2 * self.margin + 1, (2, n), generator=random)
        flips = torch.rand(n, generator=random) < 0.5 if self.flip else torch.zeros(n, dtype=torch.bool)
        order, shifts, flips = order.to(device), shifts.to(device), flips.to(device)
        for start in range(0, n - batch_size + 1, batch_size):
            part = slice(start, start + batch_size)
            yield self._gather(order[part], shifts[0, part], shifts[1, part], flips[part])

    def ordered(self, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        self._move(device)
        for start in range(0, len(self), batch_size):
            index = torch.arange(start, min(start + batch_size, len(self)), device=device)
            centre = torch.full_like(index, self.margin)
            yield self._gather(index, centre, centre, torch.zeros_like(index, dtype=torch.bool))

    def _gather(self, index: Tensor, top: Tensor, left: Tensor, flip: Tensor) -> tuple[Tensor, Tensor]:
        rows = top[:, None] + torch.arange(self.height, device=index.device)  # [B, H]
        columns = torch.arange(self.width, device=index.device)[None]
        columns = left[:, None] + torch.where(flip[:, None], self.width - 1 - columns, columns)  # [B, W]
        images = self.images[index[:, None, None], rows[:, :, None], columns[:, None, :]]  # [B, H, W, C]
        return ((images.float() - self.mean) / self.std).permute(0, 3, 1, 2), self.labels[index]

    def _move(self, device: torch.device) -> None:
        if self.images.device != device:
            self.images, self.labels = self.images.to(device), self.labels.to(device)
            self.mean, self.std = self.mean.to(device), self.std.to(device)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """The images and labels as stored."""
        return self.images.cpu().numpy(), self.labels.cpu().numpy()


def make_split(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    margin: int,
    flip: bool,
    padded: bool = False,
) -> ImageSplit:
    """A split from uint8 images [N, H, W, C] and integer labels [N].

    `padded` says that the images already carry the margin (they were resized larger); else zeros are added.
    """
    if margin and not padded:
        images = np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    return ImageSplit(
        torch.from_numpy(np.require(images, requirements=("C", "W"))),
        torch.from_numpy(labels.astype(np.int64)),
        mean=mean,
        std=std,
        margin=margin,
        flip=flip,
    )


def stratified_split(
    labels: np.ndarray, fraction: float, seed: int, *, leave: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of a kept and a held-out part with `fraction` of every class held out.

    At least `leave` samples of a class are kept, and at least one is held out where it has two.
    """
    rng = np.random.default_rng(seed)
    kept, held = [], []
    for label in np.unique(labels):
        index = rng.permutation(np.flatnonzero(labels == label))
        count = max(1, round(fraction * len(index))) if len(index) > 1 else 0
        count = min(count, len(index) - leave)
        held.append(index[:count])
        kept.append(index[count:])
    return np.sort(np.concatenate(kept)), np.sort(np.concatenate(held))


def evenly(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Indices of `count` samples with every class in its proportion, and with one at least.

    `count` is from the number of classes to that of samples.
    """
    rest, part = stratified_split(labels, count / len(labels), seed=seed, leave=0)
    # Rounding per class can leave the part a few samples off: fill up or cut, in a fixed order.
    part = np.concatenate([np.random.default_rng(seed + 1).permutation(part), rest])[:count]
    for label in np.setdiff1d(labels, labels[part]):
        # In place of one of the class that has the most.
        most = np.bincount(labels[part]).argmax()
        part[np.flatnonzero(labels[part] == most)[-1]] = np.flatnonzero(labels == label)[0]
    return np.sort(part)
