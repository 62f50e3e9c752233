"""DnCNN (Zhang et al., IEEE TIP 2017, arXiv 1608.03981), section III."""

from __future__ import annotations

from torch import Tensor, nn


class DnCNN(nn.Module):
    """An image [N, C, H, W] less its noise, as `depth` convolutions of 3×3 estimate it.

    Section III-A: convolution and ReLU, then convolutions with batch norms and ReLU, and a last convolution.
    """

    def __init__(self, depth: int, width: int, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        self.noise = nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        return image - self.noise(image)
