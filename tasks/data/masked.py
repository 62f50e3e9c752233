"""Images with masks in memory, mirrored and zoomed together, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

VOID = 255
"""The label of pixels that neither train nor count."""


class MaskedSplit:
    """uint8 images [N, H, W, C] and masks [N, H, W] of class indices and VOID.

    A training batch shows of each image a random rectangle of the same proportions, 1 / `zoom` to 1 of its sides,
    resized back (images bilinearly, masks by nearest), and mirrored half of the time where `flip` is set. Inputs are
    [B, C, H, W], targets [B, H, W] int64. Images move to a GPU once and stay there. `classes` are names, by index.
    """

    def __init__(
        self,
        images: Tensor,
        masks: Tensor,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        classes: tuple[str, ...],
        zoom: float = 1.0,
        flip: bool = False,
    ) -> None:
        self.images, self.masks, self.classes = images, masks, classes
        self.mean, self.std = torch.tensor(mean), torch.tensor(std)
        self.zoom, self.flip = zoom, flip

    def __len__(self) -> int:
        return len(self.masks)

    def subset(self, indices: Tensor) -> MaskedSplit:
        """The samples at `indices` [n], in that order."""
        return MaskedSplit(
            self.images[indices],
            self.masks[indices],
            mean=self.mean.tolist(),
            std=self.std.tolist(),
            classes=self.classes,
            zoom=self.zoom,
            flip=self.flip,
        )

    def halves(self, seed: int) -> tuple[MaskedSplit, MaskedSplit]:
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        half = len(self) // 2
        return self.subset(order[:half]), self.subset(order[half : 2 * half])

    def batches(
        self, batch_size: int, *, seed: int, epoch: int, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        self._move(device)
        # Drawn on the CPU in every case, so that a seed means the same batches on every device.
        random = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
        n = len(self)
        order = torch.randperm(n, generator=random)
        where = draw_views(torch.rand(4, n, generator=random), self.zoom, flip=self.flip)
        order, where = order.to(device), where.to(device)
        for start in range(0, n - batch_size + 1, batch_size):
            part = slice(start, start + batch_size)
            x, y = take_views(*self._take(order[part]), where[:, part], whole=self.zoom == 1)
            yield x.contiguous(memory_format=torch.channels_last), y

    def ordered(self, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        self._move(device)
        for start in range(0, len(self), batch_size):
            yield self._take(torch.arange(start, min(start + batch_size, len(self)), device=device))

    def _take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        return ((self.images[index].float() - self.mean) / self.std).permute(0, 3, 1, 2), self.masks[index].long()

    def _move(self, device: torch.device) -> None:
        if self.images.device != device:
            self.images, self.masks = self.images.to(device), self.masks.to(device)
            self.mean, self.std = self.mean.to(device), self.std.to(device)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """The images and masks as stored."""
        return self.images.cpu().numpy(), self.masks.cpu().numpy()


def draw_views(draws: Tensor, zoom: float, *, flip: bool) -> Tensor:
    """What is seen of n images, from `draws` [4, n] in [0, 1): rows of the result [4, n] are the rectangle's side as a
    share of the image's, the shift of its centre across and down in units of half an image, and −1 where mirrored."""
    side = 1 - draws[0] * (1 - 1 / zoom)
    shift = (2 * draws[1:3] - 1) * (1 - side)
    sign = torch.where(draws[3] < 0.5, -1.0, 1.0) if flip else torch.ones_like(side)
    return torch.cat([side[None], shift, sign[None]])


def take_views(x: Tensor, y: Tensor, views: Tensor, *, whole: bool) -> tuple[Tensor, Tensor]:
    """Images [n, C, H, W] and masks int64 [n, H, W] as `draw_views` says, of the same size.

    Args:
        whole: no side is smaller than 1; then nothing is interpolated.
    """
    side, across, down, sign = views
    if whole:
        mirrored = (sign < 0)[:, None, None]
        return torch.where(mirrored[:, None], x.flip(3), x), torch.where(mirrored, y.flip(2), y)
    zeros = torch.zeros_like(side)
    rows = (sign * side, zeros, across, zeros, side, down)
    grid = F.affine_grid(torch.stack(rows, 1).reshape(-1, 2, 3), list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    # Every float32 holds a label exactly; nearest mixes none.
    y = F.grid_sample(y[:, None].float(), grid, mode="nearest", padding_mode="border", align_corners=False)
    return x, y[:, 0].long()
