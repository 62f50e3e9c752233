"""Luma, PSNR and SSIM as super-resolution's tables have them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

WINDOW = 11
"""Side of SSIM's window in pixels: what is compared must be as large."""


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
    """Peak signal-to-noise ratio in dB with a peak of 255; 100 for equal images.

    Raises:
        ValueError: there are no pixels to compare, or values that are no numbers.
    """
    if not a.size or a.shape != b.shape:
        raise ValueError(f"images of {a.shape} and {b.shape} cannot be compared")
    error = float(np.mean((a - b) ** 2))
    if math.isnan(error):
        raise ValueError("an image holds values that are no numbers")
    return min(100.0, 10 * math.log10(255**2 / error)) if error else 100.0


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004): 11×11 Gaussian window of σ 1.5, its valid region, a range of 255.

    Raises:
        ValueError: the images are smaller than the window.
    """
    from skimage.metrics import structural_similarity

    if min(a.shape) < WINDOW:
        raise ValueError(f"an image of {a.shape} is smaller than the window of {WINDOW}×{WINDOW}")
    value: Any = structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    return float(value)
