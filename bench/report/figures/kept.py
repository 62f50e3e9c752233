"""What the figures of a folder were drawn from, so that those that did not change are not drawn again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from bench.report.figures.style import FORMATS
from bench.report.records import write_text

NAME = ".drawn.json"


class Kept:
    """The figures that lie in a folder, each with its fingerprint and the hashes of its files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = _read(folder / NAME)
        self._now: dict[str, dict[str, str]] = {}

    def has(self, name: str, fingerprint: str) -> bool:
        """Whether the figure's files lie there, drawn from the same and as they were written."""
        known = self._before.get(name)
        if known is None or known.get("drawn_from") != fingerprint:
            return False
        files = {suffix: self._folder / f"{name}.{suffix}" for suffix in FORMATS}
        if any(not file.is_file() or _hash(file.read_bytes()) != known.get(s) for s, file in files.items()):
            return False
        self._now[name] = known
        return True

    def add(self, name: str, fingerprint: str, rendered: Mapping[str, bytes]) -> None:
        """A figure whose files have been written."""
        self._now[name] = {"drawn_from": fingerprint} | {suffix: _hash(data) for suffix, data in rendered.items()}

    def save(self) -> None:
        """Write down the figures that are there and that have been added; of all others nothing is known any more."""
        write_text(self._folder / NAME, json.dumps(dict(sorted(self._now.items())), indent=1) + "\n")


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(file: Path) -> dict[str, dict[str, str]]:
    """What an earlier report has written down; nothing where it cannot be read, and all figures are drawn."""
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    known = found.items() if isinstance(found, dict) else ()
    return {name: value for name, value in known if isinstance(value, dict)}
