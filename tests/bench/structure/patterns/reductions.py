"""Softmax, sums, norms and products over the channels and over other axes."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

from tests.bench.structure.patterns.base import Net, pattern


@pattern("exact")
class Maxout(Net):
    """The largest of every two channels, which go together."""

    given = 8

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        n, c, h, w = y.shape
        return y.view(n, c // 2, 2, h, w).amax(2)


@pattern("exact")
class MaxoutOfChunks(Net):
    """MFM of LightCNN: the larger of two halves."""

    given = 8

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        a, b = torch.split(y, y.shape[1] // 2, 1)
        return torch.max(a, b)


@pattern("exact", 0.97)
class SelectiveKernel(Net):
    """SKNet: softmax over the branches, for each channel."""

    def build(self) -> None:
        self.branches = nn.ModuleList(nn.Conv2d(16, 16, k, padding=k // 2) for k in (3, 5))
        self.squeeze, self.weigh = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 32, 1)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        maps = torch.stack([F.relu(branch(F.relu(y))) for branch in self.branches], 1)
        gates = self.weigh(F.relu(self.squeeze(maps.sum(1).mean((2, 3), keepdim=True))))
        n, c, h, w = gates.shape
        return (maps * gates.view(n, 2, c // 2, h, w).softmax(1)).sum(1)


@pattern("exact", 0.8)
class SelectiveKernelOfVectors(Net):
    """One linear layer a branch; their results are stacked."""

    def build(self) -> None:
        self.branches = nn.ModuleList(nn.Conv2d(16, 16, k, padding=k // 2) for k in (1, 3))
        self.squeeze, self.gates = nn.Linear(16, 8), nn.ModuleList(nn.Linear(8, 16) for _ in range(2))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        maps = [branch(F.relu(y)) for branch in self.branches]
        z = F.relu(self.squeeze((maps[0] + maps[1]).mean((2, 3))))
        gates = torch.stack([gate(z) for gate in self.gates], 0).softmax(0)
        return sum(g[:, :, None, None] * m for g, m in zip(gates, maps, strict=True))  # pyright: ignore


@pattern("exact", 0.95)
class SplitAttention(Net):
    """ResNeSt with radix 2."""

    def build(self) -> None:
        self.conv, self.norm = nn.Conv2d(16, 32, 3, padding=1, groups=2), nn.BatchNorm2d(32)
        self.fc1, self.fc2 = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 32, 1)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm(self.conv(F.relu(y))))
        n, c, h, w = y.shape
        maps = y.reshape(n, 2, c // 2, h, w)
        gates = self.fc2(F.relu(self.fc1(maps.sum(1).mean((2, 3), keepdim=True))))
        gates = gates.view(n, 1, 2, -1).transpose(1, 2).softmax(1).reshape(n, -1)
        return (maps * gates.view(n, 2, c // 2, 1, 1)).sum(1)


@pattern("exact")
class StatisticsOverSpace(Net):
    given = 80

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        parts = [y.mean((2, 3)), y.std((2, 3)), y.amax((2, 3)), y.flatten(2).logsumexp(-1), y.flatten(2).max(-1).values]
        return torch.cat(parts, 1)[:, :, None, None].expand(-1, -1, 4, 4)


@pattern("exact")
class SumOverOtherAxes(Net):
    """Sums over rows, a mean over columns, broadcast back."""

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(y + y.sum(2, keepdim=True) / 8 - y.mean(-1, keepdim=True))


@pattern("part", 0.7)
class SoftmaxOverChannels(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return y.softmax(1)


@pattern("part", 0.7)
class MeanOverChannels(Net):
    """CBAM's map: mean and maximum over the channels."""

    def build(self) -> None:
        self.gate = nn.Conv2d(2, 1, 3, padding=1)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        y = F.relu(y)
        seen = torch.cat([y.mean(1, keepdim=True), y.max(1, keepdim=True).values], 1)
        return y * torch.sigmoid(self.gate(seen))


@pattern("part", 0.7)
class StandardDeviationOverChannels(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return y / (y.std(1, keepdim=True) + 1)


@pattern("part", 0.7)
class SumOverChannels(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(y) - y.sum(1, keepdim=True) / 16


@pattern("part", 0.7)
class MeanOverEverything(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return y - y.mean() / (1 + y.std())


@pattern("part", 0.7)
class NormalisedOverChannels(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.normalize(y, dim=1)


@pattern("part", 0.7)
class GlobalResponseNorm(Net):
    """GRN of ConvNeXt V2: a norm over space divided by its mean over the channels."""

    def build(self) -> None:
        self.gamma, self.beta = nn.Parameter(torch.zeros(1, 16, 1, 1)), nn.Parameter(torch.zeros(1, 16, 1, 1))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        norm = y.norm(p=2, dim=(2, 3), keepdim=True)
        return self.gamma * (y * (norm / (norm.mean(1, keepdim=True) + 1e-6))) + self.beta + y


@pattern("part", 0.7)
def layer_norm_channels_first() -> nn.Module:
    class LayerNorm2d(nn.LayerNorm):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), LayerNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 4, 1)
    )  # fmt: skip


@pattern("part", 0.7)
class ConvNextBlocks(Net):
    """Depthwise convolution, LayerNorm over the last dimension, an MLP whose hidden channels can go."""

    def build(self) -> None:
        self.depthwise, self.norm = nn.Conv2d(16, 16, 7, padding=3, groups=16), nn.LayerNorm(16)
        self.up, self.down = nn.Linear(16, 64), nn.Linear(64, 16)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        z = self.norm(self.depthwise(y).permute(0, 2, 3, 1))
        return y + self.down(F.gelu(self.up(z))).permute(0, 3, 1, 2)


@pattern("part", 0.7)
class LayerNormByHand(Net):
    def build(self) -> None:
        self.scale, self.shift = nn.Parameter(torch.ones(16)), nn.Parameter(torch.zeros(16))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        mean = y.mean(1, keepdim=True)
        y = (y - mean) / torch.sqrt((y - mean).pow(2).mean(1, keepdim=True) + 1e-6)
        return F.relu(self.scale[:, None, None] * y + self.shift[:, None, None])


@pattern("exact")
class LayerNormOverSpace(Net):
    """The normalised dimensions are those of space: channels stay apart."""

    def build(self) -> None:
        self.norm = nn.LayerNorm([8, 8])

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(self.norm(y))


@pattern("part", 0.7)
class LayerNormOverAll(Net):
    def build(self) -> None:
        self.norm = nn.LayerNorm([16, 8, 8])

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(self.norm(y))


@pattern("part", 0.7)
class LocalResponse(Net):
    """Neighbours among the channels divide each other."""

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.local_response_norm(F.relu(y), 3)


@pattern("part", 0.65)
class PoolingOverChannels(Net):
    given = 8

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        n, _, h, w = y.shape
        return F.max_pool1d(y.flatten(2).transpose(1, 2), 2).transpose(1, 2).reshape(n, 8, h, w)


@pattern("part", 0.3)
class OuterProduct(Net):
    """Bilinear pooling: every pair of channels is one feature."""

    given = 16

    def build(self) -> None:
        self.a, self.b = nn.Conv2d(16, 4, 1), nn.Conv2d(16, 4, 1)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        a, b = self.a(F.relu(y)).flatten(2), self.b(F.relu(y)).flatten(2)
        pairs = (a[:, :, None] * b[:, None]).flatten(1, 2)
        return pairs.view(y.shape[0], -1, *y.shape[2:])


@pattern("part", 0.3)
class BroadcastChannels(Net):
    """[N, C, 1] times [N, 1, C]: channels against channels."""

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        v = y.mean((2, 3))
        gram = (v[:, :, None] * v[:, None, :]).tanh()
        return y * gram.mean(2)[:, :, None, None]


@pattern("part", 0.7)
class Distances(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        tokens = y.flatten(2).transpose(1, 2)
        nearest = torch.cdist(tokens, tokens).mean(2)
        return F.relu(y) * torch.sigmoid(nearest).view(y.shape[0], 1, *y.shape[2:])


@pattern("part", 0.65)
class MatrixProductOfChannels(Net):
    """A Gram matrix of the channels weighs them."""

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        flat = y.flatten(2)
        weights = (flat @ flat.transpose(1, 2) / 64).softmax(-1)
        return (weights @ flat).view_as(y)


@pattern("part", 0.4)
class MatrixProductOverSpace(Net):
    """A learned matrix over places, the same for every channel."""

    def build(self) -> None:
        self.mix = nn.Parameter(torch.randn(64, 64) / 8)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu((y.flatten(2) @ self.mix).view_as(y))


@pattern("part", 0.4)
class EinsumOverSpace(Net):
    def build(self) -> None:
        self.mix = nn.Parameter(torch.randn(8, 8) / 3)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(torch.einsum("nchw,wv->nchv", y, self.mix))


@pattern("part", 0.1)
class EinsumOverChannels(Net):
    """A 1×1 convolution written as an einsum with a parameter of the network's own."""

    def build(self) -> None:
        self.mix = nn.Parameter(torch.randn(16, 16) / 4)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(torch.einsum("nchw,dc->ndhw", F.relu(y), self.mix))


@pattern("part", 0.4)
class LinearOverSpace(Net):
    """A linear layer along the columns of an image, as in MLP-like networks."""

    def build(self) -> None:
        self.along = nn.Linear(8, 8)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(self.along(F.relu(y)))


@pattern("part", 0.7)
class SortedChannels(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(y.sort(1).values)


@pattern("part", 0.65)
class LargestChannels(Net):
    given = 8

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return y.topk(8, dim=1).values
