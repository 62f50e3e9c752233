"""Pairs of low- and high-resolution photographs in memory: random patches for training, whole ones for measuring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Photo:
    """One photograph at both resolutions, uint8."""

    name: str
    low: Tensor
    """[H, W, 3]"""
    high: Tensor
    """[scale·H, scale·W, 3], or one channel where the file is grey."""

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Both resolutions."""
        return self.low.numpy(), self.high.numpy()


class PatchSplit:
    """`crops` random patches of every photograph an epoch, turned and mirrored in the eight possible ways.

    All pixels lie in one table [pixels, 3], whatever the photographs' sizes, and one gather makes a batch. Inputs are
    [B, 3, patch, patch], targets [B, 3, scale·patch, scale·patch], both (value / 255 − `mean`) / `std`.
    """

    def __init__(
        self,
        photos: Sequence[Photo],
        *,
        scale: int,
        patch: int,
        crops: int,
        mean: Sequence[float],
        std: Sequence[float] = (1.0, 1.0, 1.0),
        places: Tensor | None = None,
    ) -> None:
        """`places` [N, crops, 2] in [0, 1): where the patches lie that `ordered` gives; drawn where it is None."""
        self.photos, self.scale, self.patch, self.crops = tuple(photos), scale, patch, crops
        self.mean, self.std = torch.tensor(mean), torch.tensor(std)
        self._sizes = torch.tensor([photo.low.shape[:2] for photo in photos]).reshape(-1, 2)  # [N, 2]
        areas = self._sizes.prod(1)
        self._starts = areas.cumsum(0) - areas  # first pixel of each photograph in the low-resolution table
        if places is None:
            random = torch.Generator().manual_seed(0)
            places = torch.rand(len(photos), crops, 2, generator=random, dtype=torch.float64)
        self._places = places
        self._low = _table([photo.low for photo in photos])
        self._high = _table([photo.high for photo in photos])

    def __len__(self) -> int:
        return len(self.photos) * self.crops

    def halves(self, seed: int) -> tuple[PatchSplit, PatchSplit]:
        """Halves of the photographs, not of the patches: two patches of one photograph may overlap."""
        order = torch.randperm(len(self.photos), generator=torch.Generator().manual_seed(seed)).tolist()
        half = len(order) // 2
        return self._of(order[:half]), self._of(order[half : 2 * half])

    def _of(self, indices: Sequence[int]) -> PatchSplit:
        photos, places = [self.photos[i] for i in indices], self._places[list(indices)]
        return PatchSplit(
            photos,
            scale=self.scale,
            patch=self.patch,
            crops=self.crops,
            mean=self.mean.tolist(),
            std=self.std.tolist(),
            places=places,
        )

    def batches(
        self, batch_size: int, *, seed: int, epoch: int, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        # Drawn on the CPU in every case, so that a seed means the same batches on every device.
        random = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
        n = len(self)
        photo = torch.randperm(n, generator=random) % max(1, len(self.photos))
        corners = self._corners(photo, torch.rand(n, 2, generator=random, dtype=torch.float64))
        turns = torch.randint(0, 8, (n,), generator=random)
        yield from self._stream(photo, corners, turns, batch_size, n - n % batch_size, device)

    def ordered(self, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """The same patches each time, `crops` of every photograph, as stored."""
        n = len(self)
        photo = torch.arange(n) // self.crops
        corners = self._corners(photo, self._places.flatten(0, 1))
        yield from self._stream(photo, corners, torch.zeros(n, dtype=torch.long), batch_size, n, device)

    def _corners(self, photo: Tensor, places: Tensor) -> Tensor:
        """Upper left corners [n, 2] in low-resolution pixels, from `places` in [0, 1)."""
        return (places * (self._sizes[photo] - self.patch + 1)).long()

    def _stream(
        self, photo: Tensor, corners: Tensor, turns: Tensor, batch_size: int, end: int, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        if self._low.device != device:
            self._low, self._high = self._low.to(device), self._high.to(device)
            self.mean, self.std = self.mean.to(device), self.std.to(device)
        starts, widths = self._starts[photo].to(device), self._sizes[photo, 1].to(device)
        corners, turns = corners.to(device), turns.to(device)
        for first in range(0, end, batch_size):
            part = slice(first, min(first + batch_size, end))
            where = (starts[part], widths[part], corners[part], turns[part])
            yield self._gather(self._low, 1, *where), self._gather(self._high, self.scale, *where)

    def _gather(
        self, table: Tensor, scale: int, starts: Tensor, widths: Tensor, corners: Tensor, turns: Tensor
    ) -> Tensor:
        side = scale * self.patch
        grid = torch.arange(side, device=table.device)
        row, column = grid[None, :, None].expand(1, side, side), grid[None, None, :].expand(1, side, side)
        turn = turns[:, None, None]
        row, column = torch.where(turn >= 4, column, row), torch.where(turn >= 4, row, column)
        row = torch.where(turn % 2 == 1, side - 1 - row, row)
        column = torch.where(turn // 2 % 2 == 1, side - 1 - column, column)
        top, left = (scale * corners).T[:, :, None, None]
        index = (scale**2 * starts)[:, None, None] + (top + row) * (scale * widths)[:, None, None] + left + column
        values = (table[index].float() / 255 - self.mean) / self.std  # [B, side, side, 3] in memory
        return values.permute(0, 3, 1, 2)


class WholeSplit:
    """Whole photographs, one at a time: input [1, 3, H, W]; target [1, 3, scale·H, scale·W], one channel where grey."""

    def __init__(
        self, photos: Sequence[Photo], *, mean: Sequence[float], std: Sequence[float] = (1.0, 1.0, 1.0)
    ) -> None:
        self.photos, self.mean, self.std = tuple(photos), torch.tensor(mean), torch.tensor(std)

    def __len__(self) -> int:
        return len(self.photos)

    def halves(self, seed: int) -> tuple[WholeSplit, WholeSplit]:
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed)).tolist()
        half = len(order) // 2
        mean, std = self.mean.tolist(), self.std.tolist()
        first, second = ([self.photos[i] for i in part] for part in (order[:half], order[half:]))
        return WholeSplit(first, mean=mean, std=std), WholeSplit(second, mean=mean, std=std)

    def batches(
        self, batch_size: int, *, seed: int, epoch: int, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Whole photographs in random order; photographs of several sizes make no larger batch than one."""
        random = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
        for index in torch.randperm(len(self), generator=random).tolist():
            yield self._pair(self.photos[index], device)

    def ordered(self, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        for photo in self.photos:
            yield self._pair(photo, device)

    def _pair(self, photo: Photo, device: torch.device) -> tuple[Tensor, Tensor]:
        mean, std = self.mean.to(device), self.std.to(device)
        low = (photo.low.to(device).float() / 255 - mean) / std
        # A grey target keeps its one channel and is not centred: its mean over the colours would mean nothing.
        high = photo.high.to(device).float() / 255
        high = (high - mean) / std if high.shape[2] == 3 else high
        return low.permute(2, 0, 1)[None], high.permute(2, 0, 1)[None]


def _table(images: Sequence[Tensor]) -> Tensor:
    """All pixels of all images, uint8 [pixels, 3]; grey ones in three equal channels."""
    if not images:
        return torch.zeros(0, 3, dtype=torch.uint8)
    return torch.cat([image.expand(*image.shape[:2], 3).reshape(-1, 3) for image in images])
