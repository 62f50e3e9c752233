"""Luma, PSNR and SSIM as super-resolution's tables have them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def luma_of(image: np.ndarray, *, grey: bool = False) -> np.ndarray:
    """uint8 [H, W, C] -> float64 [H, W]: BT.601 luma of 16 to 235 (MATLAB's `rgb2ycbcr`), not rounded.

    An image of one channel is taken as it is, 0 to 255: so are the grey ones of Set14 in published figures. With
    `grey`, a colour image is brought to that range too, so that it can be compared with a grey one.
    """
    pixels = image.astype(np.float64)
    if image.shape[2] == 1:
        return pixels[..., 0]
    weighted = pixels @ np.array([65.481, 128.553, 24.966])
    return weighted / 219 if grey else weighted / 255 + 16


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB with a peak of 255; 100 for equal images."""
    error = float(np.mean((a - b) ** 2))
    return min(100.0, 10 * math.log10(255**2 / error)) if error else 100.0


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004): 11×11 Gaussian window of σ 1.5, its valid region, a range of 255.

    Of an image smaller than the window only equality can be said: 1 or 0.
    """
    from skimage.metrics import structural_similarity

    if min(a.shape) < 11:
        return float(np.array_equal(a, b))
    value: Any = structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    return float(value)
