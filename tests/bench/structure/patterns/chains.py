"""Convolutions and linear layers in chains, with additions and concatenations between them."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

from tests.bench.structure.patterns.base import Net, image, pattern


def conv_bn(n_in: int, n_out: int, kernel: int = 3, groups: int = 1, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()
    )


@pattern("exact")
def plain_chain() -> nn.Module:
    return nn.Sequential(conv_bn(3, 16), conv_bn(16, 16), nn.Conv2d(16, 4, 1))


@pattern("exact")
def vgg_with_pooling_and_flatten() -> nn.Module:
    return nn.Sequential(
        conv_bn(3, 16), nn.MaxPool2d(2), conv_bn(16, 16), nn.Flatten(), nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, 4)
    )


@pattern("exact", example=lambda: torch.randn(2, 12))
def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(12, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)
    )


class Basic(nn.Module):
    def __init__(self, n_in: int, n_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv_bn(n_in, n_out, stride=stride)
        self.conv2, self.norm = nn.Conv2d(n_out, n_out, 3, padding=1), nn.BatchNorm2d(n_out)
        self.shortcut = nn.Conv2d(n_in, n_out, 1, stride) if n_in != n_out else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.norm(self.conv2(self.conv1(x))) + self.shortcut(x))


@pattern("exact")
def residual_blocks() -> nn.Module:
    return nn.Sequential(conv_bn(3, 16), Basic(16, 16), Basic(16, 32, 2), Basic(32, 32), nn.Conv2d(32, 4, 1))


@pattern("part", 0.9)
class OptionAShortcut(nn.Module):
    """The shortcut of CIFAR ResNets without parameters: strided, with as many zero channels around as the code says."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.main = conv_bn(3, 8), nn.Sequential(conv_bn(8, 16, stride=2), nn.Conv2d(16, 16, 3, padding=1))
        self.head = nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x)
        return self.head(F.relu(self.main(y) + F.pad(y[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))))


@pattern("exact")
class DenseConcat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(conv_bn(3 + 8 * i, 8) for i in range(4))
        self.head = nn.Conv2d(35, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return self.head(x)


@pattern("exact")
class UnetSkip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = conv_bn(3, 16), conv_bn(16, 16, stride=2)
        self.up, self.join, self.head = nn.ConvTranspose2d(16, 16, 2, 2), conv_bn(32, 16), nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.down(x)
        return self.head(self.join(torch.cat([self.up(self.deep(y)), y], 1)))


@pattern("exact")
class SqueezeExcite(Net):
    def build(self) -> None:
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 8, 1), nn.ReLU(), nn.Conv2d(8, 16, 1))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return y * torch.sigmoid(self.gate(y))


@pattern("exact")
class SqueezeExciteLinear(Net):
    def build(self) -> None:
        self.gate = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 16), nn.Sigmoid())

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        batch, channels, _, _ = y.shape
        return y * self.gate(y.mean((2, 3))).view(batch, channels, 1, 1)


@pattern("exact", 0.8)
def grouped_convolution() -> nn.Module:
    return nn.Sequential(conv_bn(3, 16), conv_bn(16, 32, groups=4), conv_bn(32, 16), nn.Conv2d(16, 4, 1))


@pattern("exact", 0.8)
def depthwise_with_multiplier() -> nn.Module:
    return nn.Sequential(conv_bn(3, 16), conv_bn(16, 32, groups=16), conv_bn(32, 16, 1), nn.Conv2d(16, 4, 1))


@pattern("exact", 0.8)
def depthwise_separable() -> nn.Module:
    parts = [part for _ in range(3) for part in (conv_bn(16, 16, groups=16), conv_bn(16, 16, 1))]
    return nn.Sequential(conv_bn(3, 16), *parts, nn.Conv2d(16, 4, 1))


@pattern("exact", 0.7)
def pixel_shuffle() -> nn.Module:
    return nn.Sequential(conv_bn(3, 16), nn.Conv2d(16, 32, 3, padding=1), nn.PixelShuffle(2), nn.Conv2d(8, 4, 1))


@pattern("exact")
def pixel_unshuffle() -> nn.Module:
    return nn.Sequential(conv_bn(3, 16), nn.PixelUnshuffle(2), conv_bn(64, 16), nn.Conv2d(16, 4, 1))


@pattern("part", 0.8)
def pixel_shuffle_as_the_output() -> nn.Module:
    return nn.Sequential(conv_bn(3, 16), conv_bn(16, 16), nn.Conv2d(16, 12, 3, padding=1), nn.PixelShuffle(2))


@pattern("exact")
class ShuffleByView(Net):
    """A pixel shuffle written out."""

    stem_width, given = 64, 16

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        n, c, h, w = y.shape
        return F.relu(y).view(n, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c // 4, 2 * h, 2 * w)


@pattern("exact")
def transposed_convolution() -> nn.Module:
    return nn.Sequential(
        conv_bn(3, 16), nn.ConvTranspose2d(16, 16, 3, 2, 1, 1, groups=2), nn.ReLU(), conv_bn(16, 16),
        nn.ConvTranspose2d(16, 16, 2, 2), nn.ReLU(), nn.Conv2d(16, 4, 1)
    )  # fmt: skip


@pattern("exact", example=lambda: torch.randn(1, 3, 20))
def convolution_1d() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(3, 16, 5), nn.BatchNorm1d(16), nn.ReLU(), nn.Conv1d(16, 16, 3), nn.ReLU(), nn.Conv1d(16, 4, 1)
    )


@pattern("exact", example=lambda: torch.randn(1, 3, 4, 6, 6))
def convolution_3d() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(3, 16, 3, padding=1), nn.BatchNorm3d(16), nn.ReLU(), nn.Conv3d(16, 16, (1, 3, 3)), nn.ReLU(),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(16, 4)
    )  # fmt: skip


@pattern("exact", 0.8, example=lambda: torch.randn(1, 3, 6, 8, 8))
class FactorisedVideo(nn.Module):
    """Frames folded into the batch for a 2d convolution, then a convolution over time."""

    def __init__(self) -> None:
        super().__init__()
        self.space, self.time = nn.Conv2d(3, 16, 3, padding=1), nn.Conv1d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, t, h, w = x.shape
        y = F.relu(self.space(x.transpose(1, 2).reshape(n * t, c, h, w))).mean((2, 3))
        return self.head(F.relu(self.time(y.view(n, t, -1).transpose(1, 2))).mean(2))


@pattern("exact")
class Mixed(Net):
    """An inception block: branches with other kernels, concatenated."""

    given = 32

    def build(self) -> None:
        self.branches = nn.ModuleList(nn.Conv2d(16, 8, k, padding=k // 2) for k in (1, 3, 5))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(16, 8, 1))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(torch.cat([*(branch(y) for branch in self.branches), self.pooled(y)], 1))


@pattern("exact")
class NestedContainers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(
            {"stem": conv_bn(3, 16), "blocks": nn.ModuleList([nn.ModuleList([conv_bn(16, 16)])])}
        )
        self.parts["tail"] = nn.Sequential(nn.Sequential(conv_bn(16, 16)), nn.Conv2d(16, 4, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.parts["tail"](self.parts["blocks"][0][0](self.parts["stem"](x)))  # pyright: ignore


@pattern("exact")
class AdditionOfThree(Net):
    def build(self) -> None:
        self.a, self.b, self.c = (nn.Conv2d(16, 16, 1) for _ in range(3))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(sum((self.a(y), self.b(y), self.c(y)), y))  # pyright: ignore


@pattern("exact")
class ResizedPyramid(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv_bn(3, 16), conv_bn(16, 16, stride=2), conv_bn(16, 24, stride=2)
        self.sides = nn.ModuleList(nn.Conv2d(n, 16, 1) for n in (16, 16, 24))
        self.out, self.head = conv_bn(16, 16), nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = [self.a(x)]
        maps += [self.b(maps[0])]
        maps += [self.c(maps[1])]
        top = self.sides[2](maps[2])
        for i in (1, 0):
            top = self.sides[i](maps[i]) + F.interpolate(top, size=maps[i].shape[2:], mode="bilinear")
        return self.head(self.out(top))


@pattern("exact")
class AdaptivePooling(Net):
    given = 32

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        y = F.relu(y)
        pooled = torch.cat([F.adaptive_avg_pool2d(y, 4), F.adaptive_max_pool2d(y, 4)], 1)
        return F.interpolate(pooled, scale_factor=2)


@pattern("exact", 0.8, image(1, 3, 16))
class AtrousPyramid(nn.Module):
    """ASPP with a pooled branch that is expanded over space."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 16)
        self.rates = nn.ModuleList(nn.Conv2d(16, 8, 3, padding=r, dilation=r) for r in (1, 2, 4))
        self.pooled = nn.Conv2d(16, 8, 1)
        self.join, self.head = conv_bn(32, 16), nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x)
        flat = self.pooled(y.mean((2, 3), keepdim=True)).expand(-1, -1, *y.shape[2:])
        return self.head(self.join(torch.cat([*(rate(y) for rate in self.rates), flat], 1)))


@pattern("exact")
class InputConcatenatedAgain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = conv_bn(3, 16), conv_bn(19, 16), nn.Conv2d(19, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([self.b(torch.cat([self.a(x), x], 1)), x], 1))


@pattern("exact")
class CoordinateConv(Net):
    """Two constant channels, made in forward, are concatenated."""

    given = 18

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        line = torch.linspace(-1, 1, y.shape[-1], dtype=y.dtype)
        rows = line[:, None].expand(y.shape[0], 1, -1, y.shape[-1])
        return torch.cat([F.relu(y), rows, rows.transpose(2, 3)], 1)


@pattern("exact")
class WideResidualOfPreactivations(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norms = nn.Conv2d(3, 16, 3, padding=1), nn.ModuleList(nn.BatchNorm2d(16) for _ in range(4))
        self.convs = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(4))
        self.head = nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = x + conv(F.relu(norm(x)))
        return self.head(x)
