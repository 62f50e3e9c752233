"""Handwritten digits that come inside scikit-learn's wheel: no network needed."""

from __future__ import annotations

import gzip
from functools import lru_cache

import numpy as np

from tasks.data.shipped import shipped


@lru_cache(maxsize=1)
def read_handwritten() -> tuple[np.ndarray, np.ndarray]:
    """The values of 1,797 digits, float64 [1797, 8, 8] from 0 to 16, and what they show, int64 [1797].

    As `sklearn.datasets.load_digits` gives them; read once for all, and not to be written into.

    Raises:
        DataError: scikit-learn is not installed, or does not ship the digits.
    """
    path = shipped("sklearn", "scikit-learn", "datasets", "data", "digits.csv.gz")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        table = np.loadtxt(file, delimiter=",")
    values, labels = table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)
    values.flags.writeable = labels.flags.writeable = False
    return values, labels
