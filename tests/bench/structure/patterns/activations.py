"""Activations that turn zero into something else, and other operations element by element."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

from tests.bench.structure.patterns.base import Net, pattern


@pattern("exact")
class Sigmoid(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(y)


@pattern("exact")
class Softplus(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.softplus(y)


@pattern("exact")
class Cosine(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return torch.cos(y)


@pattern("exact")
class Exponential(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return torch.exp(-y.abs())


@pattern("exact")
class Hardsigmoid(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.hardsigmoid(y)


@pattern("exact")
class PlusOne(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(y) + 1


@pattern("exact")
class SigmoidThenBatchNorm(Net):
    def build(self) -> None:
        self.norm, self.last = nn.BatchNorm2d(16), nn.BatchNorm2d(16)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return self.last(torch.sigmoid(self.norm(y)))


@pattern("exact")
class SigmoidThenPadding(Net):
    """A padded convolution sees zeros at the border and 0.5 inside."""

    def build(self) -> None:
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.depthwise(torch.sigmoid(y)))


@pattern("exact")
class SoftmaxOverSpace(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return y.flatten(2).softmax(-1).view_as(y)


@pattern("exact")
class ReciprocalAndLog(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return torch.log1p(y.square()) / (1 + y.square())


@pattern("exact")
class ClampedBelow(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return y.clamp(0.1, 3)


@pattern("exact")
class ClampedByOwnTensors(Net):
    """Bounds of channel size."""

    def build(self) -> None:
        self.low = nn.Parameter(torch.full((1, 16, 1, 1), -1.0))
        self.high = nn.Parameter(torch.full((1, 16, 1, 1), 1.0))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return torch.maximum(torch.minimum(y, self.high), self.low)


@pattern("exact")
class ClampedByABuffer(Net):
    """`clamp` with a lower bound for each channel."""

    def build(self) -> None:
        self.register_buffer("low", torch.linspace(-1, 0.5, 16).view(16, 1, 1))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return y.clamp(min=self.low)  # pyright: ignore


@pattern("exact")
class WhereAndMaskedFill(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        y = torch.where(y > 0, y, y.square() + 0.2)
        return y.masked_fill(y > 2, 0.5)


@pattern("exact")
class CumulativeSumOverSpace(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(y).cumsum(2).cumsum(-1) / 64


@pattern("exact")
class HeavisideGates(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return y * (y > 0).to(y.dtype) + torch.sign(y)


@pattern("exact")
class SwishByHand(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return y * torch.sigmoid(1.7 * y)


@pattern("exact")
class MishAndGelu(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.mish(y) + F.gelu(y, approximate="tanh")


@pattern("exact")
class InPlaceActivations(Net):
    def build(self) -> None:
        self.act = nn.SiLU(inplace=True)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        y = self.act(y)
        y += 1
        y.mul_(0.5)
        return y


@pattern("exact")
class DropoutAndDropPath(Net):
    def build(self) -> None:
        self.drop, self.spatial = nn.Dropout(0.2), nn.Dropout2d(0.2)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        y = self.spatial(self.drop(F.relu(y)))
        if self.training:
            y = y * torch.empty(y.shape[0], 1, 1, 1).bernoulli_(0.9)
        return y


@pattern("exact")
class RandomRelu(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.rrelu(y, training=self.training)


@pattern("exact")
class GatedByOneChannel(Net):
    def build(self) -> None:
        self.gate = nn.Conv2d(16, 1, 1)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(y) * torch.sigmoid(self.gate(y))


@pattern("exact")
class GatedByItsOwnStatistics(Net):
    """SimAM: every channel is weighted by how far it lies from its mean over space."""

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        d = (y - y.mean((2, 3), keepdim=True)).square()
        return y * torch.sigmoid(d / (4 * (d.sum((2, 3), keepdim=True) / 63 + 1e-4)) + 0.5)


@pattern("exact")
class MovedAndRolled(Net):
    """Flips and rolls over space only."""

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        y = F.relu(y)
        return torch.flip(y, (2, 3)) + torch.roll(y, (1, 2), (2, 3)) + y.rot90(1, (2, 3))


@pattern("exact")
class ShiftedPadding(Net):
    """Reflected and replicated borders, and slices of space."""

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        y = F.pad(F.pad(y, (1, 1, 1, 1), mode="reflect"), (1, 0, 0, 1), mode="replicate")
        return F.relu(y)[:, :, 1:-1, 1:-1]


@pattern("exact")
class FocusSlices(Net):
    """YOLO's focus: the four parities of space side by side as channels."""

    given = 64

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        y = F.relu(y)
        return torch.cat([y[..., ::2, ::2], y[..., 1::2, ::2], y[..., ::2, 1::2], y[..., 1::2, 1::2]], 1)


@pattern("exact")
class GridSample(Net):
    """Every channel is read at the same places."""

    def build(self) -> None:
        self.register_buffer("theta", torch.tensor([[[0.9, 0.1, 0.0], [-0.1, 0.9, 0.0]]]))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        grid = F.affine_grid(self.theta.expand(len(y), -1, -1), list(y.shape), align_corners=False)  # pyright: ignore
        return F.grid_sample(F.relu(y), grid, align_corners=False)


@pattern("exact")
class FourierFilter(Net):
    """A filter over space in the frequency domain, the same for every channel."""

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        spectrum = torch.fft.rfft2(y)
        return F.relu(torch.fft.irfft2(spectrum * torch.tensor(0.5), s=y.shape[-2:]))
