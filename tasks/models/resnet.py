"""CIFAR ResNets (He et al., "Deep Residual Learning", CVPR 2016, section 4.2), for 32-pixel input.

Shortcuts have no parameters (option A): where a stage begins, the input is subsampled and zeros are appended
behind its channels. He et al. do not say where the zeros go; behind, so that channel i of one stage is added
to channel i of the next and a thinner network needs no new padding rule.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

DEPTHS = (8, 20, 32, 56, 110)


class BasicBlock(nn.Module):
    """conv-bn-relu-conv-bn, added to the shortcut, then ReLU."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        # Pooling over one pixel is x[:, :, ::stride, ::stride] with a gradient that keeps the memory layout.
        shortcut = F.avg_pool2d(x, 1, self.stride) if self.stride > 1 else x
        missing = out.shape[1] - shortcut.shape[1]
        if missing:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, missing))
        return F.relu(out + shortcut)


class CifarResNet(nn.Module):
    """Three stages of n blocks at 16, 32 and 64 channels; depth = 6n + 2.

    Input: [N, in_channels, H, W], H = W = 32 in the paper. Output: logits [N, num_classes].
    """

    def __init__(self, depth: int, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise ValueError(f"no CIFAR ResNet of depth {depth}; available: {', '.join(map(str, DEPTHS))}")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, stride=1)
        self.layer2 = self._stage(16, 32, blocks, stride=2)
        self.layer3 = self._stage(32, 64, blocks, stride=2)
        self.fc = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
        first = BasicBlock(in_channels, channels, stride)
        return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def cifar_resnet(depth: int, num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """ResNet-`depth` for CIFAR: 40.6 M MACs at 32×32 for depth 20 and 10 classes.

    Raises:
        ValueError: `depth` is not one of 8, 20, 32, 56, 110.
    """
    return CifarResNet(depth, num_classes, in_channels)
