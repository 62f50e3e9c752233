"""Strips of labelled panels, as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

_GAP, _CAPTION = 4, 20
PALETTE = np.array(
    [
        (70, 70, 70), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0),
        (204, 121, 167), (255, 255, 255), (106, 61, 154), (178, 223, 138), (227, 26, 28), (140, 86, 75), (0, 206, 209),
        (128, 128, 0), (255, 182, 193), (0, 0, 128), (189, 183, 107), (148, 0, 211), (34, 139, 34), (210, 180, 140),
    ],
    np.uint8,
)  # fmt: skip
"""A colour for each class; the first eight are Okabe and Ito's."""


def save_strip(panels: Sequence[tuple[np.ndarray, str]], path: Path, *, enlarge: int = 1) -> None:
    """Panels side by side with their captions below.

    Args:
        panels: uint8 [H, W, 1 or 3], all of one size, each with its caption.
        enlarge: a whole factor; pixels are repeated, not smoothed.
    """
    from PIL import Image, ImageDraw, ImageFont

    height, width = (side * enlarge for side in panels[0][0].shape[:2])
    step = width + _GAP
    sheet = Image.new("RGB", (step * len(panels) - _GAP, height + _CAPTION), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for index, (pixels, caption) in enumerate(panels):
        panel = Image.fromarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)).copy())
        sheet.paste(panel.resize((width, height), Image.Resampling.NEAREST), (index * step, 0))
        draw.text((index * step + width // 2, height + _CAPTION // 2), caption, fill="#222222", font=font, anchor="mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)


def busiest(values: np.ndarray, side: int) -> tuple[slice, slice]:
    """Where in [H, W] the square of `side` with the most detail lies: the largest sum of gradients."""
    side = min(side, *values.shape)
    detail = np.abs(np.diff(values, axis=0))[:, :-1] + np.abs(np.diff(values, axis=1))[:-1]
    total = np.pad(detail.cumsum(0).cumsum(1), ((1, 0), (1, 0)))  # sums over rectangles from four corners
    span = side - 1
    sums = total[span:, span:] - total[:-span, span:] - total[span:, :-span] + total[:-span, :-span]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return slice(int(top), int(top) + side), slice(int(left), int(left) + side)


def overlay(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] with the classes of a mask [H, W] in colour; values beyond the palette (void) are darkened."""
    known = mask < len(PALETTE)
    colour = PALETTE[np.where(known, mask, 0)]
    grey = image.mean(2, keepdims=True)  # so that the colours are the classes' and not the photograph's
    mixed = 0.35 * grey + 0.65 * colour
    return np.where(known[..., None], mixed, 0.3 * grey).round().astype(np.uint8)
