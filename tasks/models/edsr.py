"""Super-resolution networks that upsample at their end with PixelShuffle.

EDSR-baseline (Lim et al., CVPR Workshops 2017): residual blocks without norms. SRResNet (Ledig et al., CVPR
2017): the same with BatchNorm and PReLU and a 9×9 stem. Images are [N, channels, H, W] with values about 0 to 1
and leave as [N, channels, scale·H, scale·W]. EDSR's subtraction of the data set's mean is left to the task.
"""

from __future__ import annotations

import torch
import torch.nn as nn

SCALES = (2, 3, 4)
NAMES = ("edsr-baseline", "edsr-tiny", "srresnet")


class ResidualBlock(nn.Module):
    """conv-activation-conv added to the input; with norms in SRResNet, without in EDSR."""

    def __init__(self, channels: int, norm: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=not norm)
        self.norm1 = nn.BatchNorm2d(channels) if norm else nn.Identity()
        self.act = nn.PReLU(channels) if norm else nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=not norm)
        self.norm2 = nn.BatchNorm2d(channels) if norm else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))


def upsampler(scale: int, channels: int, activation: bool) -> nn.Sequential:
    """[N, C, H, W] -> [N, C, scale·H, scale·W]; ×4 in two steps of ×2."""
    layers: list[nn.Module] = []
    for r in (2, 2) if scale == 4 else (scale,):
        layers += [nn.Conv2d(channels, channels * r * r, 3, padding=1), nn.PixelShuffle(r)]
        if activation:
            layers.append(nn.PReLU(channels))
    return nn.Sequential(*layers)


class SRNetwork(nn.Module):
    """Stem, residual blocks under one long skip connection, upsampler, output convolution."""

    def __init__(self, scale: int, blocks: int, channels: int, in_channels: int, srresnet: bool) -> None:
        super().__init__()
        kernel = 9 if srresnet else 3
        self.head = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2)
        self.act = nn.PReLU(channels) if srresnet else nn.Identity()
        self.body = nn.Sequential(*(ResidualBlock(channels, srresnet) for _ in range(blocks)))
        self.body_conv = nn.Conv2d(channels, channels, 3, padding=1, bias=not srresnet)
        self.body_norm = nn.BatchNorm2d(channels) if srresnet else nn.Identity()
        self.upsample = upsampler(scale, channels, srresnet)
        self.tail = nn.Conv2d(channels, in_channels, kernel, padding=kernel // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.head(x))
        x = x + self.body_norm(self.body_conv(self.body(x)))
        return self.tail(self.upsample(x))


def sr_network(name: str, scale: int = 2, in_channels: int = 3) -> SRNetwork:
    """`edsr-baseline` and `srresnet` with 16 blocks of 64 channels, `edsr-tiny` with 4 of 16.

    Raises:
        ValueError: an unknown name or scale; the message lists those there are.
    """
    if name not in NAMES:
        raise ValueError(f"unknown network {name!r}; available: {', '.join(NAMES)}")
    if scale not in SCALES:
        raise ValueError(f"no ×{scale} network; available: {', '.join(map(str, SCALES))}")
    blocks, channels = (4, 16) if name == "edsr-tiny" else (16, 64)
    return SRNetwork(scale, blocks, channels, in_channels, srresnet=name == "srresnet")
