"""What samples hold, as digests: the parts of a data set must share none, and a record says what was loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from bench.errors import DataError
from tasks.data.decode import as_rgb

Sample = tuple[object, bytes]
"""What messages call a sample, and the digest of its image."""


def digest(image: np.ndarray) -> bytes:
    """Digest of an image's pixels, uint8 [H, W, 1 or 3]. A grey image and its copy in colour have the same."""
    state = hashlib.sha256(str(image.shape[:2]).encode())
    state.update(np.ascontiguousarray(as_rgb(image)).tobytes())
    return state.digest()


def refuse_leaks(parts: Mapping[str, Iterable[Sample]]) -> None:
    """Refuse a data set of which an image stands in two parts, whatever its files are called or packed as.

    Raises:
        DataError: naming both samples.
    """
    seen: dict[bytes, tuple[str, object]] = {}
    for part, samples in parts.items():
        for name, content in samples:
            other, where = seen.setdefault(content, (part, name))
            if other != part:
                raise DataError(
                    f"{name} ({part}) has the same content as {where} ({other}); the parts must be disjoint"
                )


def keep_copies_together(
    kept: np.ndarray, held: np.ndarray, contents: Sequence[bytes]
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of what trains and what is held out, once samples whose copy trains are moved there as well."""
    trained = {contents[i] for i in kept}
    copies = np.array([contents[i] in trained for i in held], bool)
    return (np.sort(np.concatenate([kept, held[copies]])), held[~copies]) if copies.any() else (kept, held)


def fingerprint(*arrays: np.ndarray) -> str:
    """Digest of arrays: 16 hexadecimal digits."""
    state = hashlib.sha256()
    for array in arrays:
        state.update(str((array.shape, array.dtype)).encode())
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()[:16]
