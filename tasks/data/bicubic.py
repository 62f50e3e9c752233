"""Bicubic resizing as in MATLAB's `imresize`, by which super-resolution's data sets are made and measured.

Keys' kernel with a = −1/2, stretched by 1 / scale when shrinking (antialiasing), rows before columns, values rounded
to 8 bits after each of the two passes, and border pixels repeated. On the published ×2 images of Set5 and Set14 it
gives the same bytes. (`torch.nn.functional.interpolate` has a = −3/4 and, without antialiasing, another result.)
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.sparse import csr_array


def resize(image: np.ndarray, scale: float) -> np.ndarray:
    """uint8 [H, W, C] -> uint8 [ceil(H·scale), ceil(W·scale), C]."""
    height, width, channels = image.shape
    rows, columns = _matrix(height, scale), _matrix(width, scale)
    tall = _round(rows @ image.reshape(height, -1).astype(np.float64)).reshape(-1, width, channels)
    across = tall.transpose(1, 0, 2).reshape(width, -1)
    wide = _round(columns @ across.astype(np.float64)).reshape(-1, len(tall), channels)
    return np.ascontiguousarray(wide.transpose(1, 0, 2))


@lru_cache(maxsize=64)
def _matrix(size: int, scale: float) -> csr_array:
    """Weights [ceil(size·scale), size] of one pass."""
    shrink = min(scale, 1.0)
    out = int(np.ceil(size * scale))
    support = 4 / shrink
    centre = np.arange(1, out + 1) / scale + 0.5 * (1 - 1 / scale)  # in MATLAB's pixel coordinates, from 1
    taps = np.floor(centre - support / 2)[:, None] + np.arange(int(np.ceil(support)) + 2)  # [out, taps]
    weights = _kernel(shrink * (centre[:, None] - taps))
    weights /= weights.sum(1, keepdims=True)
    columns = np.clip(taps - 1, 0, size - 1).astype(np.int64)
    rows = np.repeat(np.arange(out), taps.shape[1])
    return csr_array((weights.ravel(), (rows, columns.ravel())), shape=(out, size))


def _kernel(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def _round(values: np.ndarray) -> np.ndarray:
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)
