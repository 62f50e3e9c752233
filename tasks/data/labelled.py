"""Readers of labelled images: scikit-learn's digits and folders of images (`cifar` has CIFAR's).

Each returns uint8 arrays [N, H, W, C] and integer labels [N], and names the path of whatever it cannot read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from bench.errors import DataError
from tasks.data.content import Sample, digest
from tasks.data.decode import MEMORY_LIMIT, in_parallel, read_rgb
from tasks.data.digits import read_handwritten
from tasks.data.listing import folders_in, images_below


@dataclass(frozen=True)
class Labelled:
    """A data set as read: training and test images and labels, the samples they were made from, class names."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    train_samples: Sequence[Sample]
    test_samples: Sequence[Sample]
    classes: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class ReadSet:
    """What a reader of the catalogue returns: the data set, and how its training images are changed at random."""

    data: Labelled
    margin: int
    """Pixels by which random crops of training images move."""
    flip: bool
    """Whether training images are mirrored half of the time."""
    padded: bool = False
    """Whether the images carry the margin already; else it is filled with zeros."""


_LAYOUT = "train/CLASS/… and test/CLASS/…"


def digits(name: str, root: Path | None, size: int, *, download: bool) -> ReadSet:
    """`read_digits` for the catalogue."""
    return ReadSet(read_digits(size), margin=size // 8, flip=False)


def image_folder(name: str, root: Path | None, size: int, *, download: bool) -> ReadSet:
    """`read_image_folder` for the catalogue; `name` is "imagefolder:PATH"."""
    folder, margin = (root or Path()) / name.removeprefix("imagefolder:"), margin_of(size)
    data = read_image_folder(folder, size, margin)
    return ReadSet(data, margin=margin, flip=True, padded=True)


def margin_of(size: int) -> int:
    """Pixels on each side by which a folder's images are resized larger than they are shown."""
    return size // 14


@lru_cache(maxsize=4)
def read_digits(size: int) -> Labelled:
    """scikit-learn's 1,797 digits of 8×8 pixels, enlarged to `size`; every fourth one is for testing.

    Made once for all, and not to be written into.
    """
    from PIL import Image

    values, labels = read_handwritten()
    pixels = np.round(values * (255 / 16)).astype(np.uint8)
    if size != pixels.shape[1]:
        enlarged = (Image.fromarray(p).resize((size, size), Image.Resampling.BILINEAR) for p in pixels)
        pixels = np.stack([np.asarray(image) for image in enlarged])
    images = pixels[..., None]
    test = np.arange(len(labels)) % 4 == 3
    originals = values[..., None].astype(np.uint8)
    samples = [(f"digit {i}", digest(image)) for i, image in enumerate(originals)]
    parts = ([samples[i] for i in np.flatnonzero(test == part)] for part in (False, True))
    arrays = (images[~test], labels[~test], images[test], labels[test])
    for array in arrays:
        array.flags.writeable = False
    return Labelled(*arrays, *parts, classes=tuple("0123456789"))


def read_image_folder(folder: Path, size: int, margin: int) -> Labelled:
    """`train/CLASS/*` and `test/CLASS/*` (or `val/CLASS/*`), each image resized and cropped to `size` + 2·margin.

    Raises:
        DataError: a part is missing or empty, the classes differ, a class has no image, a file is unreadable, or all
            would not fit in memory.
    """
    if not folder.is_dir():
        raise DataError(f"image folder {folder} does not exist; needed: {_LAYOUT} below it")
    test_name = "test" if (folder / "test").is_dir() else "val"
    classes = same_classes(folder, "train", test_name)
    files = {part: _listed(folder / part, classes) for part in ("train", test_name)}
    need = sum(map(len, files.values())) * 3 * (size + 2 * margin) ** 2
    if need > MEMORY_LIMIT:
        raise DataError(
            f"{folder} would take {need / 2**30:.1f} GiB decoded at {size} pixels, more than the "
            f"{MEMORY_LIMIT / 2**30:.0f} GiB that is held in memory; lower image_size, or leave out stream = false"
        )
    train, test = (_decode_all(files[part], size + 2 * margin) for part in ("train", test_name))
    return Labelled(*train[:2], *test[:2], train[2], test[2], classes=classes)


def same_classes(folder: Path, train: str, test: str) -> tuple[str, ...]:
    """The classes of both parts, which are folders below `folder`.

    Raises:
        DataError: a part is missing or has fewer than two class folders, or they differ.
    """
    classes, others = class_names(folder / train), class_names(folder / test)
    if others != classes:
        pairs = ((train, classes, others), (test, others, classes))
        only = {part: [name for name in own if name not in other] for part, own, other in pairs}
        differ = " and ".join(f"{', '.join(names)} only in {part}" for part, names in only.items() if names)
        raise DataError(f"the parts of {folder} hold different classes: {differ}; both need the same class folders")
    return classes


def class_names(folder: Path) -> tuple[str, ...]:
    """The class folders of a part, at least two, by name."""
    names = tuple(path.name for path in folders_in(folder, _LAYOUT))
    if len(names) < 2:
        raise DataError(f"{folder} has {len(names)} class folders; at least two are needed")
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:  # records name the classes
            raise DataError(f"class folder {name!r} in {folder} has a name that is not UTF-8; rename it") from None
    return names


def _listed(folder: Path, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    needed = "at least one in every class folder"
    return [(path, label) for label, name in enumerate(classes) for path in images_below(folder / name, needed)]


def _decode_all(files: list[tuple[Path, int]], size: int) -> tuple[np.ndarray, np.ndarray, list[Sample]]:
    images = np.empty((len(files), size, size, 3), np.uint8)

    def decode(index: int) -> Sample:
        path = files[index][0]
        whole = read_rgb(path)
        images[index] = square(whole, size)
        return path, digest(whole)

    samples = in_parallel(decode, range(len(files)))
    return images, np.array([label for _, label in files], np.int64), samples


def square(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 [H, W, 3] -> [size, size, 3]: the shorter side is resized to `size`, the centre kept."""
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.fit(Image.fromarray(image), (size, size), Image.Resampling.BILINEAR))
