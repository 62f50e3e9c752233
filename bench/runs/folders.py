"""Folders that are about to be made. Imports no torch."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import RequestError
from bench.interface.cell import digest

if TYPE_CHECKING:
    from bench.runs.suite import Suite

LONGEST_NAME = 80


def nearest_existing(folder: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def can_be_written(folder: Path) -> bool:
    """Whether files can be written in a folder that is there."""
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def report_folder(
    out: Path | None, suite: Suite, set_: Sequence[str] = (), seeds: int | None = None, only: Sequence[str] = ()
) -> Path:
    """Where a report goes: `out`, or else `reports/SUITE`, with what was changed of the suite or picked of it.

    Args:
        set_: `KEY=VALUE` by which the suite was changed; it has a report of its own then.
        seeds: how many seeds were asked for in place of the suite's.
        only: `KEY=VALUE` by which the cells of the report were picked.

    Raises:
        RequestError: the folder cannot be written, or a suite that got another name would write over a report of that
            name that holds other cells.
    """
    renamed = [change for change in set_ if change.partition("=")[0].strip() == "name"]
    changes = [change for change in set_ if change not in renamed] + [f"seeds={seeds}"] * (seeds is not None)
    folder = out or Path("reports") / f"{suite.name}{_suffix([*changes, *only])}"
    require_writable(folder)
    if renamed and out is None:
        require_own_report(folder, suite.name, [cell.id for cell in suite.cells])
    return folder


def _suffix(changes: Sequence[str]) -> str:
    words = re.sub(r"[^A-Za-z0-9.]+", "-", " ".join(changes)).strip("-.")
    if len(words) > LONGEST_NAME:
        words = f"{words[:LONGEST_NAME]}-{digest(list(changes))}"
    return f"--{words}" if words else ""


def require_own_report(folder: Path, suite: str, cells: Collection[str]) -> None:
    """Refuse to write over a report that holds other cells.

    Args:
        cells: ids of those that the report to be written may hold.

    Raises:
        RequestError: naming the folder.
    """
    file = folder / "cells.jsonl"
    try:
        there = {str(json.loads(line).get("cell_id")) for line in file.read_text("utf-8").splitlines() if line.strip()}
    except FileNotFoundError:
        return
    except (OSError, ValueError, AttributeError):
        there = {"a line that cannot be read"}
    if there - set(cells):
        raise RequestError(
            f"{folder} holds a report with {len(there - set(cells))} cells that are not of this one ({suite}); give "
            "another folder with --out"
        )


def require_writable(folder: Path) -> None:
    """Refuse an output folder that cannot be written, without creating anything.

    Raises:
        RequestError: naming the folder.
    """
    nearest = nearest_existing(folder)
    if not nearest.is_dir():
        raise RequestError(f"output folder {folder} cannot be made: {nearest} is a file; give another with --out")
    if not can_be_written(nearest):
        raise RequestError(f"output folder {folder} cannot be written; give another with --out")
