"""Photographs that come inside scikit-image's wheel: no network needed.

scikit-image fetches most of its sample images when they are first asked for; those listed here lie in the package.
The lists are disjoint, so that what trains never tests.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np

from bench.errors import DataError
from tasks.data.decode import read_image

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


def read_photograph(name: str) -> np.ndarray:
    """One of the photographs above as uint8 [H, W, 3], or [H, W, 1] where it is grey.

    Raises:
        DataError: this scikit-image does not ship it.
    """
    path = Path(str(files("skimage") / "data" / name))
    if not path.is_file():
        raise DataError(f"{path} does not exist: this version of scikit-image does not ship {name}")
    return read_image(path)
