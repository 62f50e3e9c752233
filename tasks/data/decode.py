"""Image files -> uint8 arrays; whatever cannot be read is named.

Grey, palette, RGBA, CMYK and 16-bit images are brought to 8 bits a channel; transparency is dropped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bench.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
MEMORY_LIMIT = 12 * 2**30
"""Bytes of decoded images that a data set may come to: it is held in memory."""

_GREY = ("1", "L", "LA", "La")
Read = TypeVar("Read")


def read_image(path: Path) -> np.ndarray:
    """One image as uint8 [H, W, 1] where the file is grey, else [H, W, 3].

    Raises:
        DataError: the file is missing, no image, cut short, or holds floating-point values.
    """
    image = _open(path)
    if image.mode.startswith("I"):
        return to_uint8(np.asarray(image), path)[..., None]
    if image.mode == "F":
        raise DataError(f"{path} holds floating-point values; an image of 8 or 16 bits a channel is needed")
    if image.mode in _GREY:
        return np.array(image.convert("L"))[..., None]
    return np.array(image.convert("RGB"))


def read_rgb(path: Path) -> np.ndarray:
    """One image as uint8 [H, W, 3], a grey one repeated in all three channels. Raises as `read_image`."""
    image = read_image(path)
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def read_labels(path: Path) -> np.ndarray:
    """A mask of label values, integers [H, W], from a grey or palette file.

    Raises:
        DataError: the file is missing, no image, cut short, or has several channels (colours are not labels).
    """
    image = _open(path)
    if image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
        raise DataError(
            f"{path} is a mask of mode {image.mode}; one channel of label values is needed (grey or palette)"
        )
    return np.array(image).astype(np.int64)


def to_uint8(pixels: np.ndarray, path: Path) -> np.ndarray:
    """16-bit grey values -> 8 bits, 65,535 to 255.

    Raises:
        DataError: values beyond 16 bits.
    """
    values = pixels.astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise DataError(f"{path} holds values {values.min()} to {values.max()}; 8 or 16 bits a channel are needed")
    return ((values * 255 + 32767) // 65535).astype(np.uint8)


def _open(path: Path) -> Any:
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is not a readable image ({first_line(error)})") from error


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type."""
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__


def list_images(folder: Path, needed: str) -> list[Path]:
    """The images directly in `folder`, by name.

    Raises:
        DataError: the folder is missing or empty, or holds another kind of file; `needed` ends the sentence.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist; needed: {needed}")
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith((".", "Thumbs.db")))
    foreign = next((p for p in files if p.suffix.lower() not in IMAGE_SUFFIXES), None)
    if foreign is not None:
        raise DataError(f"{foreign} is not an image; allowed: {', '.join(IMAGE_SUFFIXES)}")
    if not files:
        raise DataError(f"{folder} has no images; needed: {needed}")
    return files


def in_parallel(read: Callable[..., Read], *columns: Iterable[Any]) -> list[Read]:
    """`map` with threads: decoders release the interpreter's lock."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(read, *columns))


def refuse_leaks(parts: Mapping[str, Sequence[Path]]) -> None:
    """Refuse a data set of which a file's content stands in two parts.

    Raises:
        DataError: naming both files.
    """
    seen: dict[bytes, tuple[str, Path]] = {}
    for part, paths in parts.items():
        for path, digest in zip(
            paths, in_parallel(lambda p: hashlib.sha256(p.read_bytes()).digest(), paths), strict=True
        ):
            other, where = seen.setdefault(digest, (part, path))
            if other != part:
                raise DataError(
                    f"{path} ({part}) has the same content as {where} ({other}); the parts must be disjoint"
                )


def fingerprint(*arrays: np.ndarray) -> str:
    """Digest of arrays: 16 hexadecimal digits."""
    state = hashlib.sha256()
    for array in arrays:
        state.update(str((array.shape, array.dtype)).encode())
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()[:16]
