"""Sample pictures of records: where their bytes come from, and small versions of them for the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path

from bench.interface.record import Record
from bench.report.figures.samples import LoadPicture
from bench.report.matrix import Matrix

PictureSource = Path | Callable[[Record, str], Path | bytes | None]
"""A folder of pictures, or a function from record and path to a file or its bytes."""
MAX_PICTURE = 32 * 2**20
"""Bytes; a larger file is not taken for a sample picture."""
MAX_THUMBNAILS = 120
"""Pictures that the page holds."""
MAX_OF_CELL = 8
"""Pictures of one cell that the page holds."""


def loader(source: PictureSource) -> LoadPicture:
    """A function that reads a record's picture, or gives None where it is not there or too large to be one."""

    def load(record: Record, path: str) -> bytes | None:
        found = source(record, path) if callable(source) else _file_in(Path(source), record.run_id, path)
        if isinstance(found, Path):
            return found.read_bytes() if found.is_file() and found.stat().st_size <= MAX_PICTURE else None
        return found

    return load


def _file_in(folder: Path, run_id: str, path: str) -> Path | None:
    """The picture's file in a folder that holds pictures by run id, or directly."""
    # A path from a record must not lead out of the folder.
    inside = [p for p in (folder / run_id / path, folder / path) if p.resolve().is_relative_to(folder.resolve())]
    return next((p for p in inside if p.is_file()), None)


def thumbnails(matrix: Matrix, load: LoadPicture) -> dict[str, list[tuple[str, str]]]:
    """Small versions of cells' pictures, as (path, data address) by cell id; the first cells' where there are many."""
    found: dict[str, list[tuple[str, str]]] = {}
    left = MAX_THUMBNAILS
    for record in matrix.finished:
        for path in record.pictures[:MAX_OF_CELL]:
            data = load(record, path) if left > 0 else None
            address = _thumbnail(data) if data is not None else None
            if address is not None:
                found.setdefault(record.cell_id, []).append((path, address))
                left -= 1
    return found


def _thumbnail(data: bytes) -> str | None:
    """A picture as the data address of a small WebP; None for bytes that are no picture."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as opened:
            picture = opened.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    picture.thumbnail((900 if picture.width > 2 * picture.height else 240, 240))
    stream = io.BytesIO()
    picture.save(stream, "WEBP", quality=80, method=6)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
