"""Image files, and images inside other files, -> uint8 arrays; whatever cannot be read is named.

The one decoder of all tasks. Grey, palette, RGBA, CMYK and 16-bit images are brought to 8 bits a channel; transparency
is dropped; a photograph whose EXIF data says that it lies on its side is turned upright, images and masks alike.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from bench.errors import DataError, first_line

MEMORY_LIMIT = 12 * 2**30
"""Bytes of decoded images that a data set may come to: it is held in memory."""
PIXEL_LIMIT = 64_000_000
"""Pixels that one image may have by its header. Eight are decoded at a time, in up to three copies each."""

_GREY = ("1", "L", "LA", "La")
_ORIENTATION = 0x0112  # EXIF
_BITS, _FORMAT = 258, 339  # TIFF
_LOSSY = ("JPEG", "MPO")
Read = TypeVar("Read")


@dataclass(frozen=True)
class Encoded:
    """An image file that stands inside another file."""

    content: bytes
    name: str
    """What messages call it, "train.parquet, row 3," say."""

    def __str__(self) -> str:
        return self.name


Source = Path | Encoded


def read_image(source: Source) -> np.ndarray:
    """One image as uint8 [H, W, 1] where the file is grey, else [H, W, 3]; upright.

    Raises:
        DataError: the file is missing, empty, no image or cut short; it holds several images or more than `PIXEL_LIMIT`
            pixels, or values that are not 8 or 16 bits a channel.
    """
    image = _open(source, _refuse_depth, _upright)
    if image.mode.startswith("I"):
        return _to_uint8(np.asarray(image), source)[..., None]
    return _converted(image, "L", source)[..., None] if image.mode in _GREY else _converted(image, "RGB", source)


def read_size(source: Source) -> tuple[int, int]:
    """Height and width of an image once it is upright, by its header: nothing is decoded. Raises as `read_image`, but
    for what a header does not tell."""
    return _open(source, _refuse_depth, _size)


def read_rgb(source: Source) -> np.ndarray:
    """One image as uint8 [H, W, 3], a grey one repeated in all three channels. Raises as `read_image`."""
    return as_rgb(read_image(source))


def as_rgb(image: np.ndarray) -> np.ndarray:
    """[H, W, 1 or 3] -> [H, W, 3]."""
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def read_labels(source: Source) -> np.ndarray:
    """A mask of label values, integers [H, W], from a grey or palette file; upright.

    Raises:
        DataError: the file is missing, empty, no image or cut short, is compressed with losses (labels at the borders
            of things would be mixed), or has several channels (colours are not labels).
    """
    image = _open(source, _refuse_altered, _upright)
    if image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
        raise DataError(
            f"{source} is a mask of mode {image.mode}; one channel of label values is needed (grey or palette)"
        )
    return np.array(image).astype(np.int64)


def is_jpeg(content: bytes) -> bool:
    """Whether the bytes of an image file are a JPEG's."""
    return content.startswith(b"\xff\xd8")


def _to_uint8(pixels: np.ndarray, source: Source) -> np.ndarray:
    """16-bit grey values -> 8 bits, 65,535 to 255."""
    values = pixels.astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise DataError(f"{source} holds values {values.min()} to {values.max()}; 8 or 16 bits a channel are needed")
    return ((values * 255 + 32767) // 65535).astype(np.uint8)


def _open(source: Source, refuse: Callable[[Any, Source], None], take: Callable[[Any], Read]) -> Read:
    """What is taken of the opened image, whose header `refuse` has looked at."""
    from PIL import Image, UnidentifiedImageError

    # Pillow's own limit is another one, and half of it only warns.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    try:
        # Not by its name: Pillow would map grey TIFF files into memory, and mixes up the sides of turned ones there.
        with _stream(source) as stream, Image.open(stream) as image:
            _refuse_size(image, source)
            refuse(image, source)
            return take(image)
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(source) from error
    except UnidentifiedImageError as error:
        size = source.stat().st_size if isinstance(source, Path) else len(source.content)
        reason = "it is not of a known format" if size else "it is empty"
        raise DataError(f"{source} is not a readable image ({reason})") from error
    except Exception as error:  # on damaged files the decoders raise errors of any kind
        raise DataError(f"{source} is not a readable image ({first_line(error)})") from error


def _upright(image: Any) -> Any:
    """The loaded image, turned as its EXIF data says."""
    from PIL import ImageOps

    image.load()
    # Transparency of a palette, entry by entry, has no meaning without it.
    image.info.pop("transparency", None)
    turned = image.getexif().get(_ORIENTATION, 1) != 1
    return ImageOps.exif_transpose(image) if turned else image


def _size(image: Any) -> tuple[int, int]:
    on_its_side = image.getexif().get(_ORIENTATION, 1) >= 5
    return (image.width, image.height) if on_its_side else (image.height, image.width)


def _converted(image: Any, mode: str, source: Source) -> np.ndarray:
    try:
        return np.array((image.convert("LA") if image.mode == "La" else image).convert(mode))
    except ValueError as error:
        raise DataError(f"{source} is an image of mode {image.mode}; grey, RGB, CMYK or palette is needed") from error


def _stream(source: Source) -> BinaryIO:
    return source.open("rb") if isinstance(source, Path) else io.BytesIO(source.content)


def _refuse_size(image: Any, source: Source) -> None:
    if image.width * image.height > PIXEL_LIMIT:
        raise _too_large(source)
    # The second picture in a telephone's MPO file is a by-product of the first.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise DataError(f"{source} holds {frames} images (an animation or pages); one image a file is needed")


def _too_large(source: Source) -> DataError:
    return DataError(
        f"{source} has more than the {PIXEL_LIMIT // 10**6} million pixels that an image may have; make it smaller"
    )


def _refuse_depth(image: Any, source: Source) -> None:
    if image.mode == "F":
        raise DataError(f"{source} holds floating-point values; an image of 8 or 16 bits a channel is needed")
    tags = getattr(image, "tag_v2", None)
    if tags is None or not image.mode.startswith("I"):
        return
    # Of 12 or 32 bits, or with a sign, nobody can tell which value is white.
    bits, signed = tags.get(_BITS, (1,))[0], tags.get(_FORMAT, (1,))[0] == 2
    if bits != 16 or signed:
        kind = f"{bits} bits a channel{' with a sign' if signed else ''}"
        raise DataError(f"{source} holds {kind}; an image of 8 or 16 bits a channel is needed")


def _refuse_altered(image: Any, source: Source) -> None:
    """Refuse files whose values are not the label values any more."""
    if image.format in _LOSSY or image.info.get("compression") == "jpeg":
        raise DataError(f"{source} is a mask in JPEG, which alters label values; a PNG is needed")
    if image.format == "PPM" and image.tile:
        args = image.tile[0][3]
        highest = args[1] if isinstance(args, tuple) and len(args) > 1 and isinstance(args[1], int) else 255
        if highest not in (0, 1, 255, 65535):
            # Pillow stretches such values to the full range.
            raise DataError(f"{source} is a mask with the largest value {highest}; 255, 65535 or a PNG is needed")


def in_parallel(read: Callable[..., Read], *columns: Sequence[Any]) -> list[Read]:
    """`map` with threads: files are waited for, and decoders release the interpreter's lock."""
    threads = 8
    items = list(zip(*columns, strict=True))
    # Small images by the ten thousand: handing each to a thread of its own would take longer than decoding it.
    size = max(1, min(64, len(items) // (8 * threads)))
    parts = [items[start : start + size] for start in range(0, len(items), size)]
    with ThreadPoolExecutor(threads) as pool:
        done = pool.map(lambda part: [read(*item) for item in part], parts)
        return [result for part in done for result in part]
