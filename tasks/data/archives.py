"""Archives of samples, as WebDataset lays them out: tar files in which the files of a sample have one name and stand
side by side, `0001.jpg`, `0001.cls` and `0001.json` say.

Each archive's headers are read once, into a table of where every image lies; images are then read in any order, so that
shuffling is exact, and so is resuming. (The `webdataset` package reads archives from front to end and shuffles within a
buffer, one for each process: its batches depend on the number of processes, and a run that goes on in the middle has to
read what it had read before.)
"""

from __future__ import annotations

import json
import re
import tarfile
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import DataError, first_line
from tasks.data.listing import IMAGE_SUFFIXES, OTHER_IMAGES
from tasks.data.places import Places

LABELS = ("label", "cls", "class")
"""Where a sample's `.json` may have its label."""
_LARGEST = 2**20
"""Bytes that a label's file may have."""


def archives_of(folder: Path, part: str) -> list[Path]:
    """The archives of a part: `PART/*.tar`, or `PART-*.tar` and `NAME-PART-*.tar` in the folder itself; by name."""
    inside = sorted(path for path in (folder / part).glob("*.tar") if path.name[0] != ".")
    if inside or not folder.is_dir():
        return inside
    return sorted(p for p in folder.glob("*.tar") if part in re.split(r"[-_.]", p.stem) and p.name[0] != ".")


def read_archives(archives: list[Path]) -> tuple[Places, np.ndarray]:
    """Where the images of these archives lie, and their labels, int64 [N].

    Raises:
        DataError: an archive is no plain tar file or is cut short; an image has no label, or a label no image.
    """
    places, labels = Places(), array("q")
    for path in archives:
        root = places.root(path)
        for name, image, label in _samples(path):
            places.add(root, image.name, image.size, image.offset_data)
            if label is None:
                raise DataError(f"{path}: {name} has no label; add {name}.cls, or {name}.json with {LABELS[0]!r}")
            labels.append(label)
    if not len(places):
        raise DataError(f"{archives[0].parent}: its archives hold no image with a label")
    return places, np.array(labels, np.int64)


def _samples(path: Path) -> Iterator[tuple[str, tarfile.TarInfo, int | None]]:
    """(name, image, label) of each sample of an archive, in its order."""
    name, image, label = "", None, None
    for stem, suffix, member, archive in _members(path):
        if stem != name:
            if image is not None:
                yield name, image, label
            elif label is not None:
                raise DataError(f"{path}: {name} has a label and no image; allowed: {', '.join(IMAGE_SUFFIXES)}")
            name, image, label = stem, None, None
        if suffix in OTHER_IMAGES:
            raise DataError(f"{path}: {member.name} is an image of a kind that is not read; "
                            f"allowed: {', '.join(IMAGE_SUFFIXES)}")  # fmt: skip
        if suffix in IMAGE_SUFFIXES:
            if image is not None:
                raise DataError(f"{path}: {name} has two images, {image.name} and {member.name}; keep one")
            image = member
        elif suffix == ".cls" or (suffix == ".json" and label is None):
            found = _label(path, member, _content(path, member, archive), suffix)
            label = label if found is None else found
    if image is not None:
        yield name, image, label


def _members(path: Path) -> Iterator[tuple[str, str, tarfile.TarInfo, tarfile.TarFile]]:
    """(name of the sample, suffix, header, archive) of every file of an archive. A name ends at its first dot."""
    try:
        size = path.stat().st_size
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                # The list of all headers would grow with the archive.
                archive.members = []  # pyright: ignore[reportAttributeAccessIssue]
                folder, _, base = member.name.rpartition("/")
                stem, dot, suffix = base.partition(".")
                if not member.isreg() or not stem:
                    continue
                if member.offset_data + member.size > size:
                    raise DataError(f"{path} is cut short: it ends inside {member.name}")
                yield f"{folder}/{stem}" if folder else stem, (dot + suffix).lower(), member, archive
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(
            f"{path} is not a readable archive ({first_line(error)}); a plain .tar is needed, not a compressed one"
        ) from error


def _content(path: Path, member: tarfile.TarInfo, archive: tarfile.TarFile) -> bytes:
    stream = archive.extractfile(member) if member.size <= _LARGEST else None
    if stream is None:
        raise DataError(f"{path}: {member.name} is too large for a label")
    return stream.read()


def _label(path: Path, member: tarfile.TarInfo, content: bytes, suffix: str) -> int | None:
    """The label that a file states: a whole number from 0 on. None where a `.json` has none."""
    try:
        value: Any = content.decode().strip()
        if suffix == ".json":
            known = json.loads(value)
            value = next((known[key] for key in LABELS if key in known), None) if isinstance(known, dict) else None
            if value is None:
                return None
        label = int(value) if isinstance(value, str | int) and not isinstance(value, bool) else -1
    except ValueError:
        label = -1
    if not 0 <= label < 10**6:
        raise DataError(f"{path}: {member.name} holds no label; a whole number from 0 on is needed")
    return label
