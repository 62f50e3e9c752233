"""Handwritten digits that come inside scikit-learn's wheel: no network needed."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bench.errors import DataError


def read_handwritten() -> tuple[np.ndarray, np.ndarray]:
    """The values of 1,797 digits, float64 [1797, 8, 8] from 0 to 16, and what they show, int64 [1797].

    As `sklearn.datasets.load_digits` gives them; scikit-learn, which takes a second to import, stays out of it.

    Raises:
        DataError: scikit-learn is not installed, or does not ship the digits.
    """
    package = find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise DataError("the digits come with scikit-learn, which is not installed")
    path = Path(package.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    if not path.is_file():
        raise DataError(f"{path} does not exist: this version of scikit-learn does not ship the digits there")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        table = np.loadtxt(file, delimiter=",")
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)
