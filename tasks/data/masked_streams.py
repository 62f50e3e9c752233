"""Images with masks that stay on disk."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from bench.errors import DataError
from tasks.data.decode import MEMORY_LIMIT
from tasks.data.inspected import Part, compared_by, copies, fingerprint_of, in_folder, refuse_copies
from tasks.data.places import Places
from tasks.data.segmented import Files, Pairs
from tasks.data.streamed import MaskReader, Streamed

_ORDER = ("test", "val", "train")
"""Of published files a copy stays in the part that comes first."""


def fits(parts: Mapping[str, Pairs], height: int, width: int) -> bool:
    """Whether all images and masks may be held in memory."""
    return sum(map(len, parts.values())) * height * width * 4 <= MEMORY_LIMIT


@dataclass(frozen=True)
class MaskedFiles:
    """A data set as files: tables of images and masks of each part, and which of them are used."""

    tables: Mapping[str, tuple[Places, Places]]
    used: Mapping[str, np.ndarray]
    """Indices, int64, in ascending order."""
    labels: tuple[tuple[int, int], ...]
    """(value in the mask, class index or VOID)."""
    classes: tuple[str, ...]
    fingerprint: str
    notes: tuple[str, ...]

    def split(
        self,
        part: str,
        size: tuple[int, int],
        statistics: tuple[tuple[float, ...], tuple[float, ...]],
        *,
        zoom: float = 1.0,
        flip: bool = False,
    ) -> Streamed:
        """A part, its images brought to `size`, height and width."""
        reader = MaskReader(*size, self.labels, zoom, flip)
        pixels = size[0] * size[1]
        return Streamed(reader, self.tables[part], self.used[part], *statistics, classes=self.classes, pixels=pixels)


def check_pairs(files: Files, parts: Mapping[str, Pairs]) -> MaskedFiles:
    """Look for images that stand in two parts. Of published files they are left out, with a note.

    Raises:
        DataError: an image stands in two parts, or a part holds nothing else.
    """
    tables = {part: (_table(pairs, 0), _table(pairs, 1)) for part, pairs in parts.items()}
    inspected = Part.of({part: images for part, (images, _) in tables.items()})
    used = {part: np.arange(len(pairs)) for part, pairs in parts.items()}
    for one, other in combinations(_ORDER, 2):
        if files.published:
            doubled = [j for _, j in copies(inspected[one], used[one], inspected[other], used[other])]
            used[other] = used[other][~np.isin(used[other], doubled)]
        else:
            refuse_copies(inspected[other], used[other], inspected[one], used[one])
    for part, pairs in parts.items():
        if not len(used[part]):
            raise DataError(f"every image of {part} stands in another part as well, {pairs[0][0]} say")
    count = sum(len(pairs) - len(used[part]) for part, pairs in parts.items())
    left_out = (f"{count} images left out that stand in another part as well",) if count else ()
    return MaskedFiles(
        tables,
        used,
        tuple(files.labels.items()),
        files.classes,
        fingerprint_of([*files.classes, str(dict(files.labels))], [t for both in tables.values() for t in both], []),
        (*left_out, *compared_by(list(inspected.values()))),
    )


def _table(pairs: Pairs, which: int) -> Places:
    """The images (0) or masks (1) of these pairs."""
    paths = [pair[which] for pair in pairs]
    return in_folder(Path(os.path.commonpath([path.parent for path in paths])), paths)
