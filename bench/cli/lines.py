"""Lines that several commands print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from bench.interface.cell import Cell
    from bench.runs.reporting import Reported
    from bench.runs.suite import Suite

MOST_LOST = 5
"""How many lost records are named one by one."""


def summary(reported: Reported, suite: Suite, chosen: Sequence[Cell] | None = None) -> str:
    """How much is recorded, and where the report is.

    Args:
        chosen: the cells that were picked, where some were.
    """
    known = {record.cell_id for record in reported.records}
    cells, kind = (suite.cells, "cells") if chosen is None else (chosen, "chosen cells")
    whole = f" (the suite has {len(suite.cells)})" if chosen is not None else ""
    there = sum(cell.id in known for cell in cells)
    return f"{there} of {len(cells)} {kind} recorded{whole}; report: {reported.readme}"


def name_lost(reported: Reported) -> None:
    """Name on stderr the cells whose record is gone."""
    for number, (identity, reason) in enumerate(reported.lost.items()):
        if number == MOST_LOST:
            typer.echo(f"lost: {len(reported.lost) - number} more cells", err=True)
            break
        typer.echo(f"lost: cell {identity} counts as missing, and prunebench run runs it again: {reason}", err=True)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns on a terminal and in a pipe alike; nothing is cut off."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in (header, *rows))
    typer.echo("\n".join(line.rstrip() for line in lines))
