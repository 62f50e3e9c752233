"""Labelled images that stay on disk: class folders and archives of any size."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.errors import DataError
from tasks.data.archives import archives_of, read_archives
from tasks.data.inspected import Part, compared_by, copies, fingerprint_of, refuse_copies
from tasks.data.labelled import same_classes
from tasks.data.listing import data_folder, sized_images_below
from tasks.data.places import Places

CLASS_NAMES = "classes.txt"
"""Names of an archive's classes, one a line, beside the archives."""
_ARCHIVES = "train/*.tar and test/*.tar (or val/*.tar), or train-*.tar and test-*.tar"
_LAYOUT = f"train/CLASS/… and test/CLASS/… (or val/CLASS/…), or archives {_ARCHIVES}"


@dataclass(frozen=True)
class LabelledFiles:
    """A data set as files: where the images of both parts lie, and their labels, int64 [N]."""

    folder: Path
    train: Places
    train_labels: np.ndarray
    test: Places
    test_labels: np.ndarray
    classes: tuple[str, ...]

    def decoded_bytes(self, side: int) -> int:
        """Of all images, as squares of this side."""
        return (len(self.train) + len(self.test)) * 3 * side**2


def find(name: str, root: Path | None, folders: tuple[str, ...]) -> LabelledFiles:
    """The files of a data set of the catalogue: "imagenet", "imagefolder:PATH" or "shards:PATH".

    Raises:
        DataError: they are not there, or cannot be used.
    """
    kind, _, path = name.partition(":")
    if kind == "imagenet":
        return find_imagenet(root, folders)
    return (find_archives if kind == "shards" else find_folders)((root or Path()) / path)


def find_imagenet(root: Path | None, folders: tuple[str, ...]) -> LabelledFiles:
    """ImageNet in torchvision's layout, or plain `train` and `val`, in one of the folders or in the data folder itself.
    `val` is the test part: the labels of ImageNet's own test images are not public, and a folder `test` is not read.

    Raises:
        DataError: it is not there, or as the functions below.
    """
    base = data_folder(root, "data set 'imagenet'")
    places = [*(base / name for name in folders), base]
    folder = next((place for place in places if (place / "train").is_dir() or archives_of(place, "train")), None)
    if folder is None:
        looked = ", ".join(str(place / "train") for place in places)
        raise DataError(f"no ImageNet below {base}: needed are train/CLASS/… and val/CLASS/…; looked for {looked}")
    find = find_archives if archives_of(folder, "train") else find_folders
    return find(folder, tests=("val",))


def find_folders(folder: Path, tests: tuple[str, ...] = ("test", "val")) -> LabelledFiles:
    """Class folders below `train` and the test part.

    Args:
        tests: names that the test part may have; the first that is there is taken.

    Raises:
        DataError: a part is missing or empty, or the parts hold different classes.
    """
    _require(folder)
    test = next((name for name in tests if (folder / name).is_dir()), tests[-1])
    classes = same_classes(folder, "train", test)
    parts = [_listed(folder / part, classes) for part in ("train", test)]
    return LabelledFiles(folder, *parts[0], *parts[1], classes=classes)


def _require(folder: Path) -> None:
    if not folder.is_dir():
        raise DataError(f"folder {folder} does not exist; needed below it: {_LAYOUT}")


def _listed(folder: Path, classes: tuple[str, ...]) -> tuple[Places, np.ndarray]:
    places, labels = Places(), array("q")
    root, start = places.root(folder), len(str(folder)) + 1
    for label, name in enumerate(classes):
        for path, size in sized_images_below(folder / name, "at least one in every class folder"):
            places.add(root, path[start:], size)
            labels.append(label)
    return places, np.array(labels, np.int64)


def find_archives(folder: Path, tests: tuple[str, ...] = ("test", "val")) -> LabelledFiles:
    """Archives of both parts, as `tasks.data.archives` reads them; the classes' names are in `classes.txt` beside them,
    else they are the labels.

    Args:
        tests: names that the test part may have; the first that is there is taken.

    Raises:
        DataError: a part is missing, empty or unreadable, or holds no image of a class.
    """
    _require(folder)
    train_archives = archives_of(folder, "train")
    test_archives = next((found for name in tests if (found := archives_of(folder, name))), [])
    if not train_archives or not test_archives:
        part = "test" if train_archives else "train"
        raise DataError(f"{folder} has no archives to {part} on; needed: {_ARCHIVES}")
    train, train_labels = read_archives(train_archives)
    test, test_labels = read_archives(test_archives)
    count = int(max(train_labels.max(), test_labels.max())) + 1
    classes = _names(folder, count)
    for part, labels in (("train", train_labels), ("test", test_labels)):
        missing = np.setdiff1d(np.arange(len(classes)), labels)
        if len(missing):
            raise DataError(f"{folder}: the {part} archives hold no image of class {classes[missing[0]]}")
    if count < 2:
        raise DataError(f"{folder} holds {count} class; at least two are needed")
    return LabelledFiles(folder, train, train_labels, test, test_labels, classes)


def _names(folder: Path, count: int) -> tuple[str, ...]:
    path = folder / CLASS_NAMES
    if not path.is_file():
        return tuple(map(str, range(count)))
    try:
        names = tuple(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text, one class name a line") from error
    if len(names) < count or len(set(names)) < len(names):
        raise DataError(f"{path} has {len(set(names))} different names; the labels need {count}")
    return names


@dataclass(frozen=True)
class Checked:
    """A data set that was looked through."""

    train: np.ndarray
    """Indices of the training images that are used, int64."""
    part: Part
    """The training images."""
    fingerprint: str
    notes: tuple[str, ...]

    def keep_copies_together(self, kept: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices of what trains and what is held out, once held images of which a copy trains are moved there."""
        copied = np.isin(held, [j for _, j in copies(self.part, kept, self.part, held)])
        return np.sort(np.concatenate([kept, held[copied]])), held[~copied]


def check(files: LabelledFiles, *, published: bool) -> Checked:
    """Look for copies of test images among the training images, and state what was found.

    Args:
        published: whether these are published files, of which a copy is left out, since who uses them cannot mend it.

    Raises:
        DataError: naming two files that hold the same image.
    """
    parts = Part.of({"train": files.train, "test": files.test})
    train, test = parts["train"], parts["test"]
    every, notes = np.arange(len(train.table)), list(compared_by([train, test]))
    if published:
        doubled = {i for i, _ in copies(train, every, test, np.arange(len(test.table)))}
        every = every[~np.isin(every, list(doubled))] if doubled else every
        if doubled:
            notes.append(f"{len(doubled)} training images left out that stand in the test part as well")
    else:
        refuse_copies(train, every, test, np.arange(len(test.table)))
    tables, labels = (files.train, files.test), (files.train_labels, files.test_labels)
    return Checked(every, train, fingerprint_of(files.classes, tables, labels), tuple(notes))
