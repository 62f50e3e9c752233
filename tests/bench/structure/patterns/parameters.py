"""Parameters and buffers of channel size outside of the layers that everyone knows."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision

from tests.bench.structure.patterns.base import Net, image, pattern


@pattern("exact")
class PositionEmbedding(Net):
    def build(self) -> None:
        self.position = nn.Parameter(torch.randn(1, 16, 8, 8))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(y + self.position)


@pattern("exact")
class PositionBuffer(Net):
    """Sines and cosines in a buffer [1, C, H, W]."""

    def build(self) -> None:
        self.register_buffer("position", torch.sin(torch.arange(1024.0)).view(1, 16, 8, 8))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(y + self.position)  # pyright: ignore


class Branch(nn.Module):
    """x + γ · f(x) with γ [C, 1, 1]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.Conv2d(channels, 24, 1), nn.GELU(), nn.Conv2d(24, channels, 1))
        self.gamma = nn.Parameter(torch.full((channels, 1, 1), 1e-6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.gamma * self.f(x)


@pattern("exact")
class LayerScale(Net):
    def build(self) -> None:
        self.blocks = nn.Sequential(Branch(16), Branch(16))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return self.blocks(F.relu(y))


@pattern("exact")
class FrozenBatchNorm(Net):
    def build(self) -> None:
        self.norm = torchvision.ops.FrozenBatchNorm2d(16)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(self.norm(y))


class EvoNormB0(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.v = nn.Parameter(torch.ones(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = (1, -1, 1, 1)
        variance = x.var((0, 2, 3)) if self.training else self.running_var
        instance = (x.var((2, 3), keepdim=True) + 1e-5).sqrt()
        left = (variance + 1e-5).sqrt().view(shape)  # pyright: ignore
        return x / left.max(self.v.view(shape) * x + instance) * self.weight.view(shape) + self.bias.view(shape)


@pattern("exact")
class EvoNorm(Net):
    def build(self) -> None:
        self.norm = EvoNormB0(16)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return self.norm(y)


@pattern("exact")
class FilterResponseNorm(Net):
    """FRN with its thresholded linear unit."""

    def build(self) -> None:
        self.scale, self.shift = nn.Parameter(torch.ones(1, 16, 1, 1)), nn.Parameter(torch.zeros(1, 16, 1, 1))
        self.threshold = nn.Parameter(torch.zeros(1, 16, 1, 1))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        y = y * torch.rsqrt(y.square().mean((2, 3), keepdim=True) + 1e-6)
        return torch.max(self.scale * y + self.shift, self.threshold)


class NafBlock(nn.Module):
    """NAFNet: a simple gate, simplified channel attention, β and γ of shape [1, C, 1, 1]."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.first, self.depthwise = nn.Conv2d(c, 2 * c, 1), nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=2 * c)
        self.attention = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, c, 1))
        self.last, self.ffn1, self.ffn2 = nn.Conv2d(c, c, 1), nn.Conv2d(c, 2 * c, 1), nn.Conv2d(c, c, 1)
        self.beta, self.gamma = nn.Parameter(torch.zeros(1, c, 1, 1)), nn.Parameter(torch.zeros(1, c, 1, 1))

    @staticmethod
    def gate(x: torch.Tensor) -> torch.Tensor:
        a, b = x.chunk(2, dim=1)
        return a * b

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.gate(self.depthwise(self.first(x)))
        x = x + self.last(y * self.attention(y)) * self.beta
        return x + self.ffn2(self.gate(self.ffn1(x))) * self.gamma


@pattern("exact")
class NafNet(Net):
    def build(self) -> None:
        self.blocks = nn.Sequential(NafBlock(16), NafBlock(16))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return self.blocks(y)


@pattern("part", 0.7)
class EfficientChannelAttention(Net):
    """ECA: a convolution along the channels, which neighbours share."""

    def build(self) -> None:
        self.along = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        gate = self.along(y.mean((2, 3)).unsqueeze(1)).sigmoid()
        return y * gate.view(y.shape[0], -1, 1, 1)


class GainConv(nn.Conv2d):
    """The standardised convolution of NF-ResNets, with a gain a channel."""

    def __init__(self, *args: int, **kwargs: int) -> None:
        super().__init__(*args, **kwargs)  # pyright: ignore
        self.gain = nn.Parameter(torch.ones(self.out_channels, 1, 1, 1))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) * torch.rsqrt(w.var((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(input, w * self.gain, self.bias, self.stride, self.padding)


@pattern("part", 0.1)
class GainParameters(nn.Module):
    """A standardised weight depends on all of its columns: only the last rows may go, read by a plain convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = GainConv(3, 16, 3, padding=1), GainConv(16, 16, 3, padding=1)
        self.body, self.head = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(F.relu(self.body(F.relu(self.b(F.relu(self.a(x)))))))


class StandardisedConv(nn.Conv2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        w = self.weight.flatten(1)
        w = (w - w.mean(1, keepdim=True)) / (w.std(1, keepdim=True) + 1e-5)
        return F.conv2d(input, w.view_as(self.weight), self.bias, self.stride, self.padding)


@pattern("part", 0.1)
def weight_standardisation() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), StandardisedConv(16, 16, 3, padding=1), nn.GroupNorm(4, 16),
        nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 4, 1)
    )  # fmt: skip


@pattern("exact")
class FunctionalPrelu(Net):
    def build(self) -> None:
        self.slope = nn.Parameter(torch.full((16,), 0.25))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.prelu(y, self.slope)


@pattern("exact")
def prelu_modules() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.PReLU(16), nn.Conv2d(16, 16, 3), nn.PReLU(), nn.Conv2d(16, 4, 1)
    )  # fmt: skip


@pattern("exact")
class OwnBuffersOfChannelSize(Net):
    def build(self) -> None:
        self.register_buffer("mean", torch.randn(16))
        self.register_buffer("scale", torch.linspace(0.5, 1.5, 16).view(1, 16, 1, 1), persistent=False)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu((y - self.mean[None, :, None, None]) * self.scale)  # pyright: ignore


@pattern("exact")
class OwnVectorsOnTokens(Net):
    """A scale on the last dimension, after the channels moved there."""

    def build(self) -> None:
        self.scale, self.shift = nn.Parameter(torch.ones(16)), nn.Parameter(torch.zeros(16))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(y.permute(0, 2, 3, 1) * self.scale + self.shift).permute(0, 3, 1, 2)


@pattern("exact")
class ScalarParameters(Net):
    """ReZero and the learned scales of heads: one number for all channels."""

    def build(self) -> None:
        self.alpha, self.scale = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.tensor(1.3))
        self.branch = nn.Conv2d(16, 16, 3, padding=1)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(y + self.alpha * self.branch(y)) * self.scale


@pattern("exact")
class BlurByBuffer(Net):
    """A fixed depthwise blur with a buffer [C, 1, 3, 3] of its own."""

    def build(self) -> None:
        kernel = torch.tensor([1.0, 2, 1])
        self.register_buffer("kernel", (kernel[:, None] * kernel / 16).expand(16, 1, 3, 3).clone())

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.relu(y), self.kernel, padding=1, groups=y.shape[1])  # pyright: ignore


@pattern("exact")
class BlurByExpandedBuffer(Net):
    def build(self) -> None:
        kernel = torch.tensor([1.0, 2, 1])
        self.register_buffer("kernel", (kernel[:, None] * kernel / 16).view(1, 1, 3, 3))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        channels = y.shape[1]
        return F.conv2d(F.relu(y), self.kernel.expand(channels, -1, -1, -1), padding=1, groups=channels)  # pyright: ignore


@pattern("part", 0.1)
class FunctionalConvolution(Net):
    """A plain `F.conv2d` with a parameter of the network's own."""

    def build(self) -> None:
        self.kernel = nn.Parameter(torch.randn(16, 16, 1, 1) / 4)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(F.conv2d(F.relu(y), self.kernel))


@pattern("exact")
class FunctionalGroupNorm(Net):
    def build(self) -> None:
        self.scale, self.shift = nn.Parameter(torch.ones(16)), nn.Parameter(torch.zeros(16))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(F.instance_norm(y, weight=self.scale, bias=self.shift))


@pattern("part", 0.7)
class FunctionalGroupNormOfGroups(Net):
    """The number of groups is written in the code: with fewer channels each would hold others."""

    def build(self) -> None:
        self.scale, self.shift = nn.Parameter(torch.ones(16)), nn.Parameter(torch.zeros(16))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(F.group_norm(y, 4, self.scale, self.shift))


@pattern("exact", 0.6)
def group_norm_modules() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.GroupNorm(4, 16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.InstanceNorm2d(16, affine=True),
        nn.ReLU(), nn.Conv2d(16, 4, 1)
    )  # fmt: skip


@pattern("exact")
def norms_without_parameters() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16, affine=False), nn.ReLU(), nn.Conv2d(16, 16, 3),
        nn.InstanceNorm2d(16), nn.ReLU(), nn.Conv2d(16, 4, 1)
    )  # fmt: skip


@pattern("exact")
def batch_norm_without_running_statistics() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16, track_running_stats=False), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(),
        nn.Conv2d(16, 4, 1)
    )  # fmt: skip


@pattern("part", 0.5, may_refuse=True)
class Deformable(nn.Module):
    """Offsets and masks of a deformable convolution keep their number; what it reads and makes may be left whole."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.offset, self.deformed = nn.Conv2d(16, 18, 1), torchvision.ops.DeformConv2d(16, 16, 3, padding=1)
        self.body, self.last, self.head = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3), nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.inner(F.relu(self.stem(x))))
        y = F.relu(self.deformed(y, self.offset(y)))
        return self.head(F.relu(self.last(F.relu(self.body(y)))))


@pattern("exact", example=image(2))
class BatchOfTwoThroughBatchNorm(nn.Module):
    """Batch norm over pooled features: in training mode a batch of one fails."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, 16, 3), nn.Linear(16, 16)
        self.norm, self.head = nn.BatchNorm1d(16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(F.relu(self.norm(self.inner(self.stem(x).mean((2, 3))))))


@pattern("exact")
class ParameterList(Net):
    def build(self) -> None:
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(16, 1, 1)) for _ in range(2))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        for scale in self.scales:
            y = F.relu(y * scale)
        return y


@pattern("exact")
class WeightedFusion(Net):
    """BiFPN: learned positive weights of whole maps, normalised over the maps."""

    def build(self) -> None:
        self.weights, self.other = nn.Parameter(torch.ones(2)), nn.Conv2d(16, 16, 1)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        w = F.relu(self.weights)
        w = w / (w.sum() + 1e-4)
        return F.relu(w[0] * y + w[1] * self.other(y))
