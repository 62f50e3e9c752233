"""CIFAR-10 and CIFAR-100 in torchvision's layout or as the hub's parquet files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import DataError, first_line
from tasks.data.content import Sample, digest
from tasks.data.decode import Encoded, is_jpeg, read_rgb
from tasks.data.labelled import Labelled, ReadSet
from tasks.data.listing import data_folder

_CLASSES = {"cifar10": 10, "cifar100": 100}
_LABELS = {"cifar10": "label", "cifar100": "fine_label"}
_CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_PARTS = ("train", "test")


@dataclass(frozen=True)
class _Part:
    images: np.ndarray
    labels: np.ndarray
    samples: list[Sample]
    jpeg: bool


def cifar(name: str, root: Path | None, size: int, *, download: bool) -> ReadSet:
    """`read_cifar` for the catalogue."""
    return ReadSet(read_cifar(name, root, download=download), margin=4, flip=True)


def read_cifar(name: str, root: Path | None, *, download: bool) -> Labelled:
    """CIFAR-10 or CIFAR-100 below `root`, in torchvision's layout or as the hub's parquet files.

    Raises:
        DataError: neither layout is there, or a file is missing, truncated or of another kind.
    """
    root = data_folder(root, f"data set {name!r}")
    for folder in (root / name, root):
        for place in (folder, folder / "plain_text", folder / name, folder / "data"):
            files = {part: _parquet_files(place, part) for part in _PARTS}
            if any(files.values()):
                return _from_parquet(name, place, files)
    return _from_torchvision(name, root, download=download)


def _parquet_files(folder: Path, part: str) -> list[Path]:
    """`train.parquet`, or `train-00000-of-00002.parquet` and so on in order; none where there is neither.

    Raises:
        DataError: some of the numbered files are missing.
    """
    whole = folder / f"{part}.parquet"
    if whole.exists():
        return [whole]
    shards: dict[int, dict[int, Path]] = {}  # by the number of files
    for path in sorted(folder.glob(f"{part}-*-of-*.parquet")):
        match = re.fullmatch(rf"{part}-(\d+)-of-(\d+)\.parquet", path.name)
        if match:
            shards.setdefault(int(match[2]), {})[int(match[1])] = path
    if not shards:
        return []
    if len(shards) > 1:
        raise DataError(f"{folder} has {part} files of {' and of '.join(map(str, sorted(shards)))}; keep one set")
    ((count, found),) = shards.items()
    missing = [i for i in range(count) if i not in found]
    if missing or len(found) != count:
        one = missing[0] if missing else count
        raise DataError(f"{folder} lacks {part}-{one:05d}-of-{count:05d}.parquet; all {count} files are needed")
    return [found[i] for i in range(count)]


def _from_parquet(name: str, folder: Path, files: dict[str, list[Path]]) -> Labelled:
    absent = next((part for part in _PARTS if not files[part]), None)
    if absent is not None:
        raise DataError(
            f"{folder} has no {absent}.parquet (nor {absent}-00000-of-00001.parquet); train and test are needed"
        )
    train, test = (_joined([_read_parquet(name, path) for path in files[part]]) for part in _PARTS)
    count = _CLASSES[name]
    classes = _CIFAR10_CLASSES if name == "cifar10" else tuple(f"class{i}" for i in range(count))
    return Labelled(
        train.images,
        train.labels,
        test.images,
        test.labels,
        train.samples,
        test.samples,
        classes=classes,
        note="re-encoded as JPEG" if train.jpeg or test.jpeg else "",
    )


def _joined(parts: list[_Part]) -> _Part:
    images, labels = np.concatenate([p.images for p in parts]), np.concatenate([p.labels for p in parts])
    return _Part(images, labels, [s for p in parts for s in p.samples], any(p.jpeg for p in parts))


def _read_parquet(name: str, path: Path) -> _Part:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        # Not through a data set, which would take parts of the path for columns.
        table = parquet.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable parquet file ({first_line(error)})") from error
    image_column = next((c for c in ("img", "image") if c in table.column_names), None)
    label_column = _LABELS[name]
    if image_column is None or label_column not in table.column_names:
        raise DataError(
            f"{path} has columns {', '.join(table.column_names)}; needed: img (or image) and {label_column}"
        )
    labels = _labels(name, table[label_column], path)
    rows = [_encoded(row, f"{path}, row {i},") for i, row in enumerate(table[image_column].to_pylist())]

    def decode(row: Encoded) -> np.ndarray:
        image = read_rgb(row)
        if image.shape != (32, 32, 3):
            sides = "×".join(map(str, image.shape[:2]))
            raise DataError(f"{row} is an image of {sides} pixels, not the 32×32 of {name}")
        return image

    # Most of the time that an image of this size takes is the interpreter's, for which threads would wait in turn.
    images = [decode(row) for row in rows]
    samples: list[Sample] = [(f"{path}, row {i}", digest(image)) for i, image in enumerate(images)]
    return _Part(np.stack(images), labels, samples, any(is_jpeg(row.content) for row in rows))


def _labels(name: str, column: Any, path: Path) -> np.ndarray:
    import pyarrow as pa

    count = _CLASSES[name]
    if not len(column):
        raise DataError(f"{path} has no rows; images with labels are needed")
    if not pa.types.is_integer(column.type) or column.null_count:
        kind = "empty values" if column.null_count else str(column.type)
        raise DataError(f"{path} holds {kind} in column {_LABELS[name]}; integers 0 to {count - 1} are needed")
    labels = column.to_numpy().astype(np.int64)
    if labels.min() < 0 or labels.max() >= count:
        raise DataError(f"{path} holds labels {labels.min()} to {labels.max()}, not the 0 to {count - 1} of {name}")
    return labels


def _encoded(row: Any, name: str) -> Encoded:
    """A row's image file, which the hub keeps as {bytes, path}."""
    content = row.get("bytes") if isinstance(row, dict) else row
    if not isinstance(content, bytes):
        raise DataError(f"{name} is not a readable image (it holds no bytes of a file)")
    return Encoded(content, name)


def _from_torchvision(name: str, root: Path, *, download: bool) -> Labelled:
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
            "must match torchvision's checksums), or train.parquet and test.parquet, or the hub's "
            f"train-00000-of-00001.parquet and test-00000-of-00001.parquet, there or in {name}/; --download fetches it"
        ) from error
    samples = [
        [(f"image {i} of {part}", digest(image)) for i, image in enumerate(data.data)]
        for part, data in (("train", train), ("test", test))
    ]
    # These are the published files, byte for byte: a copy in them cannot be mended by who uses them.
    tested = {content for _, content in samples[1]}
    own = np.array([content not in tested for _, content in samples[0]])
    copies = len(own) - int(own.sum())
    return Labelled(
        np.asarray(train.data)[own],
        np.asarray(train.targets)[own],
        np.asarray(test.data),
        np.asarray(test.targets),
        [sample for sample, kept in zip(samples[0], own, strict=True) if kept],
        samples[1],
        classes=tuple(train.classes),
        note=f"{copies} training images left out that stand in the test part as well" if copies else "",
    )
