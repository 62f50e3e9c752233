"""Readers of labelled images: scikit-learn's digits, CIFAR in two layouts, folders of images.

Each returns uint8 arrays [N, H, W, C] and integer labels [N], and names the path of whatever it cannot read.
"""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm")
MEMORY_LIMIT = 8 * 2**30
"""Bytes of decoded images that a folder may come to: data sets are held in memory."""


@dataclass(frozen=True)
class Labelled:
    """A data set as read: training and test images and labels, class names."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class ReadSet:
    """What a reader of the catalogue returns: the data set, and how its images are fed to a network."""

    data: Labelled
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Of each channel, in units of 0 to 255."""
    margin: int
    """Pixels by which random crops of training images move."""
    flip: bool
    """Whether training images are mirrored half of the time."""
    padded: bool = False
    """Whether the images carry the margin already; else it is filled with zeros."""


CIFAR_STATISTICS = {
    "cifar10": ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7)),
    "cifar100": ((129.3, 124.1, 112.4), (68.2, 65.4, 70.4)),
}
IMAGENET_STATISTICS = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def digits(name: str, root: Path | None, size: int, *, download: bool) -> ReadSet:
    """`read_digits` for the catalogue."""
    return ReadSet(read_digits(size), (78.0,), (96.0,), margin=size // 8, flip=False)


def cifar(name: str, root: Path | None, size: int, *, download: bool) -> ReadSet:
    """`read_cifar` for the catalogue."""
    return ReadSet(read_cifar(name, root, download=download), *CIFAR_STATISTICS[name], margin=4, flip=True)


def image_folder(name: str, root: Path | None, size: int, *, download: bool) -> ReadSet:
    """`read_image_folder` for the catalogue; `name` is "imagefolder:PATH"."""
    folder, margin = (root or Path()) / name.removeprefix("imagefolder:"), size // 14
    data = read_image_folder(folder, size, margin)
    return ReadSet(data, *IMAGENET_STATISTICS, margin=margin, flip=True, padded=True)


def read_digits(size: int) -> Labelled:
    """scikit-learn's 1,797 digits of 8×8 pixels, enlarged to `size`; every fourth one is for testing."""
    from PIL import Image
    from sklearn.datasets import load_digits

    values, target = load_digits(return_X_y=True)
    pixels = np.round(np.reshape(values, (-1, 8, 8)) * (255 / 16)).astype(np.uint8)
    if size != pixels.shape[1]:
        enlarged = (Image.fromarray(p).resize((size, size), Image.Resampling.BILINEAR) for p in pixels)
        pixels = np.stack([np.asarray(image) for image in enlarged])
    images, labels = pixels[..., None], np.asarray(target).astype(np.int64)
    test = np.arange(len(labels)) % 4 == 3
    return Labelled(images[~test], labels[~test], images[test], labels[test], tuple("0123456789"))


def read_cifar(name: str, root: Path | None, *, download: bool) -> Labelled:
    """CIFAR-10 or CIFAR-100 below `root`, in torchvision's layout or as the hub's parquet files.

    Raises:
        DataError: neither layout is there, or a file is truncated or of another kind.
    """
    if root is None:
        raise DataError(f"data set {name!r} needs a data folder: give --data DIR or set PRUNEBENCH_DATA")
    if not root.is_dir():
        raise DataError(f"data folder {root} does not exist; give an existing one with --data DIR or PRUNEBENCH_DATA")
    for folder in (root / name, root):
        if (folder / "train.parquet").exists() and (folder / "test.parquet").exists():
            return _cifar_from_parquet(name, folder)
    return _cifar_from_torchvision(name, root, download=download)


def _cifar_from_parquet(name: str, folder: Path) -> Labelled:
    label_column = {"cifar10": "label", "cifar100": "fine_label"}[name]
    count = {"cifar10": 10, "cifar100": 100}[name]
    arrays: list[np.ndarray] = []
    kinds: set[str] = set()
    for split in ("train", "test"):
        path = folder / f"{split}.parquet"
        images, labels, found = _read_parquet(path, label_column)
        if images.shape[1:] != (32, 32, 3):
            raise DataError(f"{path} holds images of {images.shape[1:]}, not the 32×32×3 of {name}")
        if labels.min() < 0 or labels.max() >= count:
            raise DataError(f"{path} holds labels {labels.min()} to {labels.max()}, not the 0 to {count - 1} of {name}")
        arrays += [images, labels]
        kinds |= found
    classes = _CIFAR10_CLASSES if name == "cifar10" else tuple(f"class{i}" for i in range(count))
    note = "re-encoded as JPEG" if "JPEG" in kinds else ""
    return Labelled(*arrays, classes=classes, note=note)


def _read_parquet(path: Path, label_column: str) -> tuple[np.ndarray, np.ndarray, set[str]]:
    import pyarrow as pa
    import pyarrow.parquet as parquet
    from PIL import Image

    try:
        table = parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable parquet file ({_first_line(error)})") from error
    image_column = next((c for c in ("img", "image") if c in table.column_names), None)
    if image_column is None or label_column not in table.column_names:
        raise DataError(
            f"{path} has columns {', '.join(table.column_names)}; needed: img (or image) and {label_column}"
        )
    labels = table[label_column].to_numpy().astype(np.int64)
    encoded = [entry["bytes"] for entry in table[image_column].to_pylist()]
    kinds: set[str] = set()

    def decode(index: int) -> np.ndarray:
        try:
            with Image.open(io.BytesIO(encoded[index])) as image:
                kinds.add(image.format or "?")
                return np.asarray(image.convert("RGB"))
        except (OSError, TypeError, SyntaxError) as error:
            raise DataError(f"{path}, row {index}, is not a readable image ({_first_line(error)})") from error

    with ThreadPoolExecutor() as pool:
        images = list(pool.map(decode, range(len(encoded))))
    sizes = {image.shape for image in images}
    if len(sizes) != 1:
        raise DataError(f"{path} holds images of {len(sizes)} sizes ({sorted(sizes)[:3]} …); one size is needed")
    return np.stack(images), labels, kinds


def _cifar_from_torchvision(name: str, root: Path, *, download: bool) -> Labelled:
    from torchvision.datasets import CIFAR10, CIFAR100

    kind = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]
    found = next((f for f in (root, root / name) if (f / kind.base_folder).is_dir()), root)
    try:
        # torchvision compares checksums before it unpickles anything.
        train = kind(str(found), train=True, download=download)
        test = kind(str(found), train=False, download=download)
    except (RuntimeError, OSError, EOFError, KeyError, ValueError) as error:
        raise DataError(
            f"no complete {name} below {root}: needed is {kind.base_folder}/ as torchvision lays it out (its files "
            f"must match torchvision's checksums), or train.parquet and test.parquet, there or in {name}/; "
            "--download fetches it"
        ) from error
    return Labelled(
        np.asarray(train.data),
        np.asarray(train.targets),
        np.asarray(test.data),
        np.asarray(test.targets),
        tuple(train.classes),
    )


def read_image_folder(folder: Path, size: int, margin: int) -> Labelled:
    """`train/CLASS/*` and `test/CLASS/*` (or `val/CLASS/*`), each image resized and cropped to `size` + 2·margin.

    Raises:
        DataError: a part is missing or empty, the classes differ, a file is no image, or all would not fit in memory.
    """
    if not folder.is_dir():
        raise DataError(f"image folder {folder} does not exist; needed: train/CLASS/… and test/CLASS/… below it")
    test_name = "test" if (folder / "test").is_dir() else "val"
    classes = _class_names(folder / "train")
    if _class_names(folder / test_name) != classes:
        raise DataError(f"{folder / 'train'} and {folder / test_name} hold different classes")
    files = {part: _listed(folder / part, classes) for part in ("train", test_name)}
    need = sum(map(len, files.values())) * 3 * (size + 2 * margin) ** 2
    if need > MEMORY_LIMIT:
        raise DataError(
            f"{folder} would take {need / 2**30:.1f} GiB decoded at {size} pixels, more than the "
            f"{MEMORY_LIMIT / 2**30:.0f} GiB that is held in memory; lower image_size"
        )
    parts = [_decode_all(files[part], size + 2 * margin) for part in ("train", test_name)]
    return Labelled(*parts[0], *parts[1], classes=classes)


def _class_names(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist; an image folder needs train/CLASS/… and test/CLASS/…")
    names = tuple(sorted(p.name for p in folder.iterdir() if p.is_dir()))
    if len(names) < 2:
        raise DataError(f"{folder} has {len(names)} class folders; at least two are needed")
    return names


def _listed(folder: Path, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    listed: list[tuple[Path, int]] = []
    for label, name in enumerate(classes):
        found = sorted(p for p in (folder / name).rglob("*") if p.is_file() and not p.name.startswith("."))
        if not found:
            raise DataError(f"{folder / name} has no images")
        foreign = next((p for p in found if p.suffix.lower() not in IMAGE_SUFFIXES), None)
        if foreign is not None:
            raise DataError(f"{foreign} is not an image; allowed: {', '.join(IMAGE_SUFFIXES)}")
        listed += [(p, label) for p in found]
    return listed


def _decode_all(files: list[tuple[Path, int]], size: int) -> tuple[np.ndarray, np.ndarray]:
    images = np.empty((len(files), size, size, 3), np.uint8)

    def decode(index: int) -> None:
        images[index] = read_square(files[index][0], size)

    with ThreadPoolExecutor() as pool:
        list(pool.map(decode, range(len(files))))
    return images, np.array([label for _, label in files], np.int64)


def read_square(path: Path, size: int) -> np.ndarray:
    """One image as uint8 [size, size, 3]: the shorter side is resized to `size`, the centre kept.

    Raises:
        DataError: the file is no image or is cut short.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BILINEAR))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} is not a readable image ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__


_CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
