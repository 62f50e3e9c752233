"""Photographs for super-resolution that stay on disk while a network trains on patches of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tasks.data.inspected import Part, compared_by, fingerprint_of, in_folder, refuse_copies
from tasks.data.listing import list_images
from tasks.data.places import Places
from tasks.data.streamed import PatchReader, StreamedPatches


def check_photos(
    kept: Sequence[Path], held: Sequence[Path], test: Path, others: str
) -> tuple[Places, str, tuple[str, ...]]:
    """The table of the training photographs, the data set's fingerprint, and what a table must say of it.

    Args:
        kept, held: the training and validation photographs, of one folder.
        test: the test set's folder.
        others: fingerprint of the validation and test photographs.

    Raises:
        DataError: a photograph stands in two parts.
    """
    folder = kept[0].parent
    needed = "the photographs that are tested on"
    parts = Part.of(
        {
            "training": in_folder(folder, kept),
            "validation": in_folder(folder, held),
            "test": in_folder(test / "HR", list_images(test / "HR", needed)),
        }
    )
    train, *rest = parts.values()
    for part in rest:
        refuse_copies(train, np.arange(len(kept)), part, np.arange(len(part.table)))
    return train.table, fingerprint_of([others], [train.table], []), compared_by(list(parts.values()))


def streamed_patches(
    table: Places, scale: int, patch: int, crops: int, mean: Sequence[float], std: Sequence[float]
) -> StreamedPatches:
    """`crops` random patches of every photograph an epoch, as `tasks.data.patches` takes them.

    Args:
        mean, std: of each channel, of pixel values from 0 to 1.
    """
    indices = np.arange(len(table))
    reader = PatchReader(scale, patch)
    return StreamedPatches(reader, (table,), indices, tuple(mean), tuple(std), repeats=crops, pixels=patch**2)
