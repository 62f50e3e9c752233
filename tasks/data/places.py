"""Where the bytes of a data set's files lie, in a table of some 50 bytes a file: for folders and archives of any size.

A file is read from its folder, or as a stretch of an archive. Imports no torch.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.errors import DataError
from tasks.data.decode import Encoded, Source


class Place(NamedTuple):
    """Where one file's bytes lie: all that a process needs to read it."""

    path: str
    """Of the file, or of the archive that holds it."""
    member: str
    """Its name in the archive; empty for a file of its own."""
    offset: int
    size: int
    """Bytes."""

    def __str__(self) -> str:
        return f"{self.path}: {self.member}" if self.member else self.path

    @property
    def source(self) -> Source:
        """What `tasks.data.decode` reads.

        Raises:
            DataError: the archive cannot be read, or ends before the file does.
        """
        return Encoded(self.read(), str(self)) if self.member else Path(self.path)

    def read(self, start: int = 0, count: int | None = None) -> bytes:
        """`count` bytes from `start` on, or all.

        Raises:
            DataError: they cannot be read.
        """
        count = self.size - start if count is None else count
        try:
            with Path(self.path).open("rb") as stream:
                stream.seek(self.offset + start)
                content = stream.read(count)
        except OSError as error:
            raise DataError(f"{self} cannot be read ({error.strerror or error})") from error
        if len(content) < count:
            raise DataError(f"{self} is shorter than when the data set was listed; it must not change during a run")
        return content


class Places:
    """A table of places. The names lie in one string of bytes, since an object for each would take ten times as much.

    `add` files of a folder or members of an archive; a table that is used is not added to any more.
    """

    def __init__(self) -> None:
        self.roots: list[str] = []
        """Folders and archives, by number."""
        self._root, self._sizes, self._offsets = array("i"), array("q"), array("q")
        self._names, self._ends = bytearray(), array("q")

    def __len__(self) -> int:
        return len(self._root)

    def root(self, path: Path) -> int:
        """The number of a folder or archive, for `add`."""
        self.roots.append(str(path.absolute()))
        return len(self.roots) - 1

    def add(self, root: int, name: str, size: int, offset: int = -1) -> None:
        """A file called `name` below a folder; or with an offset, a stretch of an archive."""
        self._root.append(root)
        self._sizes.append(size)
        self._offsets.append(offset)
        self._names += os.fsencode(name)
        self._ends.append(len(self._names))

    def __getitem__(self, index: int) -> Place:
        root, offset, size = self.roots[self._root[index]], self._offsets[index], self._sizes[index]
        if offset < 0:
            return Place(os.path.join(root, self.name(index)), "", 0, size)  # noqa: PTH118 - a Path is slower
        return Place(root, self.name(index), offset, size)

    def name(self, index: int) -> str:
        """A file's name below its folder or in its archive."""
        start = self._ends[index - 1] if index else 0
        return os.fsdecode(bytes(self._names[start : self._ends[index]]))

    @property
    def sizes(self) -> np.ndarray:
        """Bytes of each file, int64 [N]."""
        return np.array(self._sizes, np.int64)

    @property
    def listing(self) -> Sequence[bytes]:
        """All that the table says but for where the folders lie, for a fingerprint."""
        parts = (self._root, self._sizes, self._offsets, self._ends)
        roots = "\n".join(Path(root).name for root in self.roots) if any(o >= 0 for o in self._offsets[:1]) else ""
        return [os.fsencode(roots), bytes(self._names), *(part.tobytes() for part in parts)]
