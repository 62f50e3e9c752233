"""Parameters and modules that are shared, and values that are computed and never used."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

from tests.bench.structure.patterns.base import Net, pattern


def conv(n_in: int = 16, n_out: int = 16, kernel: int = 3, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2, bias=bias)


@pattern("exact", 0.7)
class TwoConvolutionsOneWeight(Net):
    def build(self) -> None:
        self.a, self.b = conv(bias=False), conv(bias=False)
        self.b.weight = self.a.weight

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(self.b(F.relu(self.a(F.relu(y)))))


@pattern("exact", 0.7)
class ParallelConvolutionsOneWeight(Net):
    """Two branches with one weight: their channels may go together, or stay; the tie must hold."""

    given = 32

    def build(self) -> None:
        self.a, self.b = conv(), conv()
        self.b.weight = self.a.weight

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return torch.cat([F.relu(self.a(F.relu(y))), torch.tanh(self.b(F.relu(y)))], 1)


@pattern("exact", 0.7)
class TiedWeightOwnBias(Net):
    def build(self) -> None:
        self.a, self.b = conv(), conv()
        self.b.weight = self.a.weight

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(self.b(F.relu(self.a(F.relu(y)))))


@pattern("exact", 0.7)
class TiedNormWeights(Net):
    """One scale for two norms of unlike convolutions."""

    def build(self) -> None:
        self.a, self.b, self.n1, self.n2 = conv(), conv(), nn.BatchNorm2d(16), nn.BatchNorm2d(16)
        self.n2.weight = self.n1.weight

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(self.n2(self.b(F.relu(self.n1(self.a(F.relu(y)))))))


@pattern("exact", 0.7)
class TiedBuffers(Net):
    """Two norms keep one running mean and variance."""

    def build(self) -> None:
        self.a, self.n1, self.n2 = conv(), nn.BatchNorm2d(16), nn.BatchNorm2d(16)
        self.n2.running_mean, self.n2.running_var = self.n1.running_mean, self.n1.running_var

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(self.n2(self.a(F.relu(self.n1(y)))))


@pattern("exact", 0.8)
class ModuleCalledTwice(Net):
    def build(self) -> None:
        self.a = conv()

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(self.a(F.relu(self.a(F.relu(y)))))


@pattern("exact", 0.8)
class SiameseHeads(nn.Module):
    """RetinaNet: one head for all scales, with norms of each scale's own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = conv(3), nn.Conv2d(16, 16, 3, 2, 1)
        self.shared, self.head = conv(), nn.Conv2d(16, 4, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(16) for _ in range(2))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        a = F.relu(self.stem(x))
        b = F.relu(self.down(a))
        return [self.head(F.relu(norm(self.shared(y)))) for norm, y in zip(self.norms, (a, b), strict=True)]


@pattern("exact", 0.8)
class ModuleUnderTwoNames(Net):
    def build(self) -> None:
        self.a = conv()
        self.again = nn.Sequential(self.a, nn.ReLU())

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return self.again(F.relu(self.a(F.relu(y))))


class Residual(nn.Module):
    def __init__(self, shared: nn.Module, channels: int = 16) -> None:
        super().__init__()
        self.conv1, self.norm1 = shared, nn.BatchNorm2d(channels)
        self.conv2, self.norm2 = conv(channels, channels, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


@pattern("exact", 0.7)
class ConvolutionInsideAndOutsideABlock(Net):
    """A removable block holds a convolution that the network calls elsewhere too."""

    def build(self) -> None:
        self.outside = conv(bias=False)
        self.block = Residual(self.outside)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return self.block(F.relu(self.outside(F.relu(y))))


@pattern("exact", 0.7)
class BlocksThatShareAConvolution(Net):
    """Two removable blocks with one convolution, and norms of their own."""

    def build(self) -> None:
        shared = conv(bias=False)
        self.blocks = nn.Sequential(Residual(shared), Residual(shared))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return self.blocks(F.relu(y))


@pattern("exact", 0.7)
class BlocksThatShareAWeight(Net):
    """As before, with two convolution modules and one parameter."""

    def build(self) -> None:
        first, second = conv(bias=False), conv(bias=False)
        second.weight = first.weight
        self.blocks = nn.Sequential(Residual(first), Residual(second))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return self.blocks(F.relu(y))


@pattern("exact", 0.7)
class OneBlockTwice(Net):
    """A whole block is called twice, as in a network with recurrent depth."""

    def build(self) -> None:
        self.block = Residual(conv(bias=False))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return self.block(self.block(F.relu(y)))


@pattern("part", 0.3)
class EmbeddingUsedTransposed(Net):
    """An autoencoder whose decoder multiplies by the encoder's weight transposed."""

    def build(self) -> None:
        self.encode = nn.Linear(16, 24)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        z = F.relu(self.encode(F.relu(y).permute(0, 2, 3, 1)))
        return F.relu(F.linear(z, self.encode.weight.t())).permute(0, 3, 1, 2)


@pattern("part", 0.3)
class ConvolutionWeightUsedAgain(Net):
    """A convolution's weight also serves a transposed convolution written as a function."""

    def build(self) -> None:
        self.encode = nn.Conv2d(16, 16, 2, 2, bias=False)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(F.conv_transpose2d(F.relu(self.encode(F.relu(y))), self.encode.weight, stride=2))


@pattern("part", 0.1)
class WeightReadAsAValue(Net):
    """The norm of a layer's weight is part of what the network computes."""

    def build(self) -> None:
        self.a = conv()

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(self.a(F.relu(y))) / self.a.weight.norm()


@pattern("exact", 0.7)
class LinearLayersOneWeight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = conv(3, 32), nn.Linear(32, 32, bias=False), nn.Linear(32, 32)
        self.b.weight, self.head = self.a.weight, nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(F.relu(self.b(F.relu(self.a(F.relu(self.stem(x)).mean((2, 3)))))))


@pattern("exact", 0.8)
class SumThrownAway(Net):
    """a + b is computed and dropped: pruned apart, it would fail."""

    def build(self) -> None:
        self.a, self.b, self.join = conv(), conv(), conv(32)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        a, b = F.relu(self.a(F.relu(y))), F.relu(self.b(F.relu(y)))
        a + b  # pyright: ignore[reportUnusedExpression]
        return self.join(torch.cat([a, b], 1))


@pattern("exact", 0.8)
class ConcatenationThrownAway(Net):
    def build(self) -> None:
        self.a, self.b, self.join = conv(), conv(16, 8), conv(24)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        a, b = F.relu(self.a(F.relu(y))), F.relu(self.b(F.relu(y)))
        torch.cat([b, a], 1)
        torch.cat([a, b], 0 if a.shape == b.shape else 1)
        return self.join(torch.cat([a, b], 1))


@pattern("exact", 0.7)
class LayerThrownAway(Net):
    """A layer runs and its result is dropped."""

    def build(self) -> None:
        self.probe = conv(16, 8)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        y = F.relu(y)
        self.probe(y)
        return y


@pattern("part", 0.5)
class StatisticsOfTwoGroups(Net):
    """A check that fails if two convolutions do not make the same number of channels."""

    def build(self) -> None:
        self.a, self.b, self.join = conv(), conv(), conv(32)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        a, b = F.relu(self.a(F.relu(y))), F.relu(self.b(F.relu(y)))
        if a.shape != b.shape:
            raise ValueError("the two maps must have the same shape")
        return self.join(torch.cat([a, b], 1))
