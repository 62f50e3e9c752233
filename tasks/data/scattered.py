"""Digits scattered over photographs: a segmentation data set that needs no download.

scikit-learn's handwritten digits, enlarged to 18 to 26 pixels and lightly coloured, lie on dimmed cut-outs of
scikit-image's photographs. Classes are background and the ten digits. Training, validation and test share neither
digits nor photographs.
"""

from __future__ import annotations

import numpy as np

from tasks.data import photographs
from tasks.data.digits import read_handwritten

CLASSES = ("background", *(f"digit {i}" for i in range(10)))
PARTS = ("train", "val", "test")
Arrays = dict[str, tuple[np.ndarray, np.ndarray]]
"""By part, images uint8 [N, H, W, 3] and masks uint8 [N, H, W]."""
_PHOTOGRAPHS = {"train": photographs.TRAIN, "val": photographs.VAL, "test": photographs.TEST}
_SEED = 20170


def digits_of(part: str) -> np.ndarray:
    """Indices into scikit-learn's 1,797 digits: of every four, two are for training, one each for val and test."""
    turn = np.arange(1797) % 4
    return np.flatnonzero({"train": turn < 2, "val": turn == 2, "test": turn == 3}[part])


def scatter(part: str, count: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [count, H, W, 3] and masks uint8 [count, H, W] of one part; always the same."""
    from PIL import Image

    digits, labels = read_handwritten()
    random = np.random.default_rng((_SEED, PARTS.index(part), height, width))
    backgrounds = [_rgb(photographs.read_photograph(name)) for name in _PHOTOGRAPHS[part]]
    own = digits_of(part)
    images = np.empty((count, height, width, 3), np.uint8)
    masks = np.zeros((count, height, width), np.uint8)
    most = min(64, max(1, height * width // 32**2))  # one digit on 32×32 pixels, up to four on 64×64
    for image, mask in zip(images, masks, strict=True):
        # Dimmed, so that light digits stand out from every photograph.
        image[:] = _cut_out(backgrounds[random.integers(len(backgrounds))], height, width, random) // 2
        for index in random.choice(own, random.integers((most + 1) // 2, most + 1), replace=False):
            side = int(random.integers(18, 27))
            ink = Image.fromarray(np.round(digits[index] * (255 / 16)).astype(np.uint8))
            alpha = np.asarray(ink.resize((side, side), Image.Resampling.BICUBIC)) / 255
            for _ in range(10):
                top, left = random.integers(0, height - side + 1), random.integers(0, width - side + 1)
                window = (slice(top, top + side), slice(left, left + side))
                if not mask[window].any():
                    break
            else:
                continue  # no room is left for a digit of this size
            colour = random.integers(180, 256, 3)
            image[window] = np.round(image[window] * (1 - alpha[..., None]) + colour * alpha[..., None])
            mask[window][alpha > 0.4] = 1 + labels[index]
    return images, masks


def _cut_out(photograph: np.ndarray, height: int, width: int, random: np.random.Generator) -> np.ndarray:
    """A random rectangle of the photograph, 1 to 3 times the image's size where it is large enough, resized."""
    from PIL import Image

    tall, wide = photograph.shape[:2]
    factor = random.uniform(1.0, min(3.0, tall / height, wide / width)) if tall > height and wide > width else 1.0
    rows, columns = min(tall, int(factor * height)), min(wide, int(factor * width))
    top, left = random.integers(0, tall - rows + 1), random.integers(0, wide - columns + 1)
    part = Image.fromarray(photograph[top : top + rows, left : left + columns])
    return np.asarray(part.resize((width, height), Image.Resampling.BOX if factor > 1 else Image.Resampling.BILINEAR))


def _rgb(image: np.ndarray) -> np.ndarray:
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
