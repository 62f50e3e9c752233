"""What can be known of a streamed data set before it is used: what its parts share, and its fingerprint.

Decoding millions of files would take hours. Where all files together are small, every one is decoded and compared by
its pixels, as in memory. Of a larger data set a sample of each part is compared, byte for byte, with all files of the
other parts, and a note says so.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from bench.errors import DataError
from tasks.data.content import digest
from tasks.data.decode import read_rgb
from tasks.data.places import Place, Places

DECODED_LIMIT = 128 * 2**20
"""Bytes that a data set's images may have together for all to be decoded at the start: some seconds' work."""
COMPARED = 2000
"""Files of each part that are compared with all of the other parts, where not all are decoded."""
_READ_LIMIT = 512 * 2**20
"""Bytes that are read for a fingerprint, about."""
_MIDDLE = 4096
"""Bytes from a file's middle that tell most files of one size apart."""
Found = TypeVar("Found")


@dataclass(frozen=True)
class Part:
    """The images of one part of a data set."""

    name: str
    table: Places
    contents: Sequence[bytes] | None = field(repr=False)
    """Digest of each image's pixels, where all were decoded."""

    @classmethod
    def of(cls, tables: dict[str, Places]) -> dict[str, Part]:
        """The parts by name, decoded where all together are small enough.

        Raises:
            DataError: a file that was decoded is unreadable.
        """
        small = sum(int(table.sizes.sum()) for table in tables.values()) <= DECODED_LIMIT
        return {name: cls(name, table, _contents(table) if small else None) for name, table in tables.items()}


def copies(one: Part, first: np.ndarray, other: Part, second: np.ndarray) -> list[tuple[int, int]]:
    """(i, j) of images `first` of a part and `second` of another that are alike: by their pixels where these are known,
    else by their files' bytes, of `COMPARED` of each."""
    if one.contents is not None and other.contents is not None:
        known: defaultdict[bytes, list[int]] = defaultdict(list)
        for i in first.tolist():
            known[one.contents[i]].append(i)
        return [(i, j) for j in second.tolist() for i in known.get(other.contents[j], ())]
    there = _same_bytes(one.table, _drawn(first, COMPARED, 1), other.table, second)
    back = _same_bytes(other.table, _drawn(second, COMPARED, 1), one.table, first)
    return sorted({*there, *((i, j) for j, i in back)})


def refuse_copies(one: Part, first: np.ndarray, other: Part, second: np.ndarray) -> None:
    """Refuse a data set of which an image stands in two parts.

    Raises:
        DataError: naming both files.
    """
    for i, j in copies(one, first, other, second)[:1]:
        raise DataError(
            f"{other.table[j]} ({other.name}) has the same content as {one.table[i]} ({one.name}); the parts must be "
            "disjoint"
        )


def compared_by(parts: Sequence[Part]) -> tuple[str, ...]:
    """What a table must say of how parts were compared; nothing where it was by the pixels of all."""
    if all(part.contents is not None for part in parts):
        return ()
    most = max(len(part.table) for part in parts)
    which = "all files" if most <= COMPARED else f"{COMPARED:,} files of each"
    return (f"parts compared by the bytes of {which}",)


def fingerprint_of(facts: Sequence[str], tables: Sequence[Places], labels: Sequence[np.ndarray]) -> str:
    """Digest of a data set: 16 hexadecimal digits.

    It covers `facts`, every file's name, size and label, and the bytes of `COMPARED` files of each table (fewer of
    large ones), always the same: reading all would take hours. A file that is changed and keeps its size is noticed
    where it is one of those.
    """
    state = hashlib.sha256("\n".join(facts).encode())
    for table in tables:
        for part in table.listing:
            state.update(len(part).to_bytes(8, "big") + part)
        mean = max(1, int(table.sizes.mean()))
        chosen = _drawn(np.arange(len(table)), min(COMPARED, max(100, _READ_LIMIT // mean)), 0)
        for content in _in_threads(lambda index, table=table: _whole(table[index]), chosen):
            state.update(content)
    for values in labels:
        state.update(values.tobytes())
    return state.hexdigest()[:16]


def in_folder(folder: Path, files: Sequence[Path]) -> Places:
    """A table of files that are listed already, by their names below a folder."""
    places = Places()
    root = places.root(folder)
    for path in files:
        places.add(root, path.relative_to(folder).as_posix(), path.stat().st_size)
    return places


def _contents(table: Places) -> list[bytes]:
    return list(_in_threads(lambda index: digest(read_rgb(table[index].source)), np.arange(len(table))))


def _drawn(indices: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`count` of the indices in their order, or all."""
    if len(indices) <= count:
        return indices
    return np.sort(np.random.default_rng(seed).permutation(indices)[:count])


def _same_bytes(one: Places, few: np.ndarray, other: Places, many: np.ndarray) -> Iterator[tuple[int, int]]:
    """Files of two tables that have the same bytes. Only files of one size can be alike, and of those few have the same
    bytes in their middle: the others are not read."""
    candidates = many[np.isin(other.sizes[many], one.sizes[few])]
    middles: defaultdict[bytes, list[int]] = defaultdict(list)
    for index, middle in zip(few.tolist(), _in_threads(lambda index: _middle(one[index]), few), strict=True):
        middles[middle].append(index)
    found = _in_threads(lambda index: _middle(other[index]), candidates)
    for j, middle in zip(candidates.tolist(), found, strict=True):
        yield from ((i, j) for i in middles.get(middle, ()) if _whole(one[i]) == _whole(other[j]))


def _in_threads(function: Callable[[int], Found], indices: np.ndarray) -> Iterator[Found]:
    """`map` with threads, which wait for files side by side; some thousand calls at a time."""
    with ThreadPoolExecutor(8) as pool:
        for start in range(0, len(indices), 4096):
            yield from pool.map(function, indices[start : start + 4096].tolist())


def _middle(place: Place) -> bytes:
    start = max(0, place.size // 2 - _MIDDLE // 2)
    content = place.read(start, min(_MIDDLE, place.size - start))
    return hashlib.sha256(place.size.to_bytes(8, "big") + content).digest()


def _whole(place: Place) -> bytes:
    return hashlib.sha256(place.read()).digest()
