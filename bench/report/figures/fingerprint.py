"""A hash of all that a figure is drawn from: its data, the code that draws it and the libraries that do the work."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.interface.record import Record
from bench.report.figures.drawing import Drawing
from bench.report.figures.panels import several_protocols
from bench.report.matrix import Matrix
from bench.report.records import dump_line

LIBRARIES = ("matplotlib", "numpy", "pillow", "fonttools")
PACKAGE = Path(__file__).parents[2]
CODE = ("report", "interface")
"""Folders of the package whose code a figure can depend on."""


class Fingerprints:
    """Fingerprints of a report's figures.

    Args:
        lines: digests of records, by cell id, where they are known already.
    """

    def __init__(self, matrix: Matrix, lines: Mapping[str, bytes] | None = None) -> None:
        self._matrix = matrix
        self._known: dict[int, tuple[Any, bytes]] = {}
        """Digests of dataclasses by id; the value itself is held, so that no other takes its id."""
        self._lines = lines or {}
        shared = (matrix.methods(), matrix.controls(), several_protocols(matrix), versions())
        self._shared = self._digest(shared)

    def of(self, drawing: Drawing) -> str:
        """64 hexadecimal digits; the same for the same figure in every process."""
        named = {entry.workload: self._matrix.workloads.get(entry.workload) for entry in drawing.entries}
        shown = (drawing.name, drawing.title, drawing.caption, drawing.entries, named, drawing.further)
        return hashlib.sha256(self._shared + self._digest(shown)).hexdigest()

    def _digest(self, value: Any) -> bytes:
        """SHA-256 of a value: of records, dataclasses, and what is made of lists, dictionaries and plain values.

        Raises:
            TypeError: another kind of value, of which there is no telling whether it has changed.
        """
        if isinstance(value, Record):
            return self._lines.get(value.cell_id) or line_digest(dump_line(value))
        if value is None or isinstance(value, (bool, int, float, str)):
            return hashlib.sha256(f"{type(value).__name__}:{value!r}".encode()).digest()
        if isinstance(value, bytes):
            return hashlib.sha256(b"bytes:" + value).digest()
        if id(value) in self._known:
            return self._known[id(value)][1]
        parts = b"".join(self._digest(part) for part in _parts(value))
        digest = hashlib.sha256(type(value).__name__.encode() + b":" + parts).digest()
        if is_dataclass(value):
            self._known[id(value)] = value, digest
        return digest


def line_digest(line: str) -> bytes:
    """SHA-256 of a record's line of `cells.jsonl`."""
    return hashlib.sha256(line.encode("utf-8", "replace")).digest()


def _parts(value: Any) -> list[Any]:
    if is_dataclass(value):
        return [part for field in fields(value) for part in (field.name, getattr(value, field.name))]
    if isinstance(value, Mapping):
        return [part for item in value.items() for part in item]
    if isinstance(value, Set):
        return sorted(value)
    if isinstance(value, (list, tuple)):
        return list(value)
    raise TypeError(f"no fingerprint can be made of a {type(value).__name__}")


@cache
def versions() -> tuple[str, ...]:
    """Of the code that draws, and of the libraries that it draws with."""
    code = hashlib.sha256()
    for file in sorted(file for folder in CODE for file in (PACKAGE / folder).rglob("*.py")):
        code.update(file.relative_to(PACKAGE).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return (code.hexdigest(), *(f"{name} {metadata.version(name)}" for name in LIBRARIES))
