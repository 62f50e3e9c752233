"""Photographs that come inside scikit-image's wheel: no network needed.

scikit-image fetches most of its sample images when they are first asked for; those listed here lie in the package.
The lists are disjoint, so that what trains never tests.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tasks.data.decode import read_image
from tasks.data.shipped import shipped

TRAIN = (
    "astronaut.png",
    "brick.png",
    "cell.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "ihc.png",
    "motorcycle_left.png",
    "retina.jpg",
)
VAL = ("moon.png", "rocket.jpg")
TEST = ("camera.png", "chelsea.png", "coffee.png")
"""A photographer (grey), a cat, a cup. `motorcycle_right.png` shows a training scene again and is used nowhere."""


@lru_cache(maxsize=16)
def read_photograph(name: str) -> np.ndarray:
    """One of the photographs above as uint8 [H, W, 3], or [H, W, 1] where it is grey.

    Read once for all, and not to be written into.

    Raises:
        DataError: this scikit-image does not ship it.
    """
    image = read_image(shipped("skimage", "scikit-image", "data", name))
    image.flags.writeable = False
    return image
