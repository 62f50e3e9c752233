"""Splits of data that stay on disk: files are decoded, cropped and changed in other processes, batch after batch.

What a batch holds depends on the seed and the epoch alone: each sample's random changes start from a seed made of
(seed, epoch, sample).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from tasks.data import bicubic
from tasks.data.decode import as_rgb, read_rgb
from tasks.data.labelled import square
from tasks.data.masked import draw_views, take_views
from tasks.data.places import Places
from tasks.data.reading import Reader, Request, Sample, sample_seed, stream
from tasks.data.segmented import fit, read_pair

PIXELS_AT_A_TIME = 2**22
"""Of the inputs that `ordered` gives in one batch, however many samples are asked for."""
Crop = Literal["resized", "shifted"]


@dataclass(frozen=True)
class Streamed:
    """One split: which samples of which files, and how they are read."""

    reader: Reader
    files: tuple[Places, ...]
    """Tables of the same length: of images, and where there are any, of masks."""
    indices: np.ndarray
    """Of the split's samples in the tables, int64 [n]."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Of each channel, of pixel values from 0 to 255 (of patches: from 0 to 1)."""
    every_label: np.ndarray | None = None
    """Of all in the tables, int64 [N]."""
    classes: tuple[str, ...] = ()
    repeats: int = 1
    """How often an epoch takes each sample."""
    pixels: int = 1
    """Of an input."""

    def __len__(self) -> int:
        return len(self.indices) * self.repeats

    @property
    def labels(self) -> Tensor:
        """Of each sample, int64 [n]; nothing is decoded for them."""
        assert self.every_label is not None, "these samples have no labels"
        return torch.from_numpy(self.every_label[self.indices])

    def halves(self, seed: int) -> tuple[Streamed, Streamed]:
        order = torch.randperm(len(self.indices), generator=torch.Generator().manual_seed(seed)).numpy()
        half = len(order) // 2
        first, second = (self.indices[part] for part in (order[:half], order[half:]))
        return replace(self, indices=first), replace(self, indices=second)

    def batches(
        self, batch_size: int, *, seed: int, epoch: int, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        yield from self.part_of_batches(batch_size, slice(None), seed=seed, epoch=epoch, device=device)

    def part_of_batches(
        self, batch_size: int, rows: slice, *, seed: int, epoch: int, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        random = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
        order = torch.randperm(len(self), generator=random).numpy()
        whole = order[: len(order) - len(order) % batch_size]
        parts = (part[rows] for part in _cut(whole, batch_size))
        yield from self._stream(parts, (seed, epoch), device, augment=True)

    def ordered(self, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Every sample once, not augmented; in smaller batches where so many large images would fill the memory."""
        most = max(1, min(batch_size, PIXELS_AT_A_TIME // self.pixels))
        yield from self._stream(_cut(np.arange(len(self)), most), (), device, augment=False)

    def _stream(
        self, parts: Iterable[np.ndarray], seeds: tuple[int, ...], device: torch.device, *, augment: bool
    ) -> Iterator[tuple[Tensor, Tensor]]:
        # A GPU gets bytes and does the arithmetic itself; on a CPU the processes that read share it.
        there, here = (self._finish, None) if device.type == "cpu" else (None, self._finish)
        requests = (
            Request(self.reader, [self._sample(i, seeds) for i in part.tolist()], augment, there) for part in parts
        )
        for batch in stream(requests, pin=device.type == "cuda"):
            moved = tuple(tensor.to(device, non_blocking=True) for tensor in batch)
            x, y = moved if here is None else here(moved)
            yield x, y

    def _sample(self, number: int, seeds: tuple[int, ...]) -> Sample:
        copy, place = divmod(number, len(self.indices))
        index = int(self.indices[place])
        label = 0 if self.every_label is None else int(self.every_label[index])
        return Sample(tuple(table[index] for table in self.files), label, sample_seed(*seeds, index, copy))

    @property
    def _finish(self) -> Normalised:
        return Normalised(self.mean, self.std)


def _cut(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """What stands in each batch, from all that is read."""
    return (order[start : start + size] for start in range(0, len(order), size))


class StreamedPatches(Streamed):
    """Patches at two resolutions; inputs and targets are brought to the same mean and deviation, as in `patches`."""

    @property
    def _finish(self) -> Normalised:
        return Normalised(self.mean, self.std, unit=255, targets=True)


@dataclass(frozen=True)
class Normalised:
    """Pixel values [B, H, W, C] of 0 to 255 -> what networks see, [B, C, H, W]; targets too where they are images."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Of each channel, of pixel values divided by `unit`."""
    unit: int = 1
    targets: bool = False

    def __call__(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x, y = batch
        return self._normal(x), self._normal(y) if self.targets else y

    def _normal(self, values: Tensor) -> Tensor:
        mean, std = (torch.tensor(given, device=values.device) for given in (self.mean, self.std))
        pixels = values.float() if self.unit == 1 else values.float() / self.unit
        return ((pixels - mean) / std).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class ImageReader:
    """A labelled image: uint8 [size, size, 3] and its label.

    Training: `resized`, a rectangle of 8 to 100 % of the area and 3:4 to 4:3 in shape, resized (torchvision's
    RandomResizedCrop); `shifted`, a random square of what evaluation resizes, as in memory. Mirrored half of the time.
    Evaluation: resized so that it covers a square of `size` + 2 · `margin`, whose middle is cut out.
    """

    size: int
    margin: int
    crop: Crop

    def read(self, sample: Sample, *, augment: bool) -> tuple[Tensor, Tensor]:
        from PIL import Image

        pixels = read_rgb(sample.places[0].source)
        if not augment or self.crop == "shifted":
            pixels = square(pixels, self.size + 2 * self.margin)
        if augment:
            pixels = np.asarray(_changes(self.size, self.crop)(Image.fromarray(pixels)))
        else:
            pixels = pixels[self.margin : self.margin + self.size, self.margin : self.margin + self.size]
        return torch.from_numpy(pixels.copy()), torch.tensor(sample.label)


@lru_cache(maxsize=8)
def _changes(size: int, crop: Crop) -> Any:
    """The random changes of a training image, as a transform of Pillow's images."""
    from torchvision.transforms import v2

    cut = v2.RandomResizedCrop(size, antialias=True) if crop == "resized" else v2.RandomCrop(size)
    return v2.Compose([cut, v2.RandomHorizontalFlip()])


@dataclass(frozen=True)
class MaskReader:
    """An image with its mask: [height, width, 3] of 0 to 255, and class indices and VOID, int64 [height, width].

    Training shows what `tasks.data.masked` shows.
    """

    height: int
    width: int
    labels: tuple[tuple[int, int], ...]
    """(value in the mask, class index or VOID)."""
    zoom: float
    flip: bool

    def read(self, sample: Sample, *, augment: bool) -> tuple[Tensor, Tensor]:
        image, mask = read_pair(sample.places[0].source, sample.places[1].source, self.labels)
        x = torch.from_numpy(fit(image, self.height, self.width, nearest=False).copy())
        y = torch.from_numpy(fit(mask, self.height, self.width, nearest=True).astype(np.int64))
        if not augment:
            return x, y
        views = draw_views(torch.rand(4, 1), self.zoom, flip=self.flip)
        planes, masks = take_views(x.permute(2, 0, 1)[None].float(), y[None], views, whole=self.zoom == 1)
        return planes[0].permute(1, 2, 0).contiguous(), masks[0]


@dataclass(frozen=True)
class PatchReader:
    """A random patch of a photograph at two resolutions, uint8 [patch, patch, 3] and [scale·patch, scale·patch, 3];
    in training turned and mirrored in the eight possible ways."""

    scale: int
    patch: int

    def read(self, sample: Sample, *, augment: bool) -> tuple[Tensor, Tensor]:
        image = read_rgb(sample.places[0].source)
        rows, columns = (side // self.scale for side in image.shape[:2])
        random = torch.rand(2, dtype=torch.float64)
        top, left = (random * (torch.tensor([rows, columns]) - self.patch + 1)).long().tolist()
        low, high = self.cut(image[: rows * self.scale, : columns * self.scale], top, left)
        turn = int(torch.randint(0, 8, ())) if augment else 0
        return _turned(low, turn), _turned(high, turn)

    def cut(self, image: np.ndarray, top: int, left: int) -> tuple[np.ndarray, np.ndarray]:
        """The patch whose corner is at (top, left) in low-resolution pixels, small and large.

        The small one has the same values as in the whole photograph's small version: bicubic's kernel reaches two
        small pixels far, so that three more on each side are made and cut off.
        """
        patch, scale = self.patch, self.scale
        above, before = min(3, top), min(3, left)
        region = image[
            scale * (top - above) : scale * (top + patch + 3), scale * (left - before) : scale * (left + patch + 3)
        ]
        small = as_rgb(bicubic.resize(region, 1 / scale))
        high = image[scale * top : scale * (top + patch), scale * left : scale * (left + patch)]
        return small[above : above + patch, before : before + patch], high


def _turned(pixels: np.ndarray, turn: int) -> Tensor:
    """One of the eight ways, numbered as in `tasks.data.patches`."""
    pixels = pixels[::-1] if turn % 2 else pixels
    pixels = pixels[:, ::-1] if turn // 2 % 2 else pixels
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(1, 0, 2) if turn >= 4 else pixels))
