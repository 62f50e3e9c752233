"""A network for tests in which each operation costs much, and whose facts do not depend on how wide a network is."""

from __future__ import annotations

from torch import nn

from tasks.models.resnet import CifarResNet


class SmallResNet(CifarResNet):
    """ResNet-8 with a quarter of its channels: three stages of one block at 4, 8 and 16."""

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__(8, num_classes, in_channels)
        self.conv1, self.bn1 = nn.Conv2d(in_channels, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4)
        self.layer1, self.layer2 = self._stage(4, 4, 1, stride=1), self._stage(4, 8, 1, stride=2)
        self.layer3, self.fc = self._stage(8, 16, 1, stride=2), nn.Linear(16, num_classes)
