"""Arguments and options that several commands share, and what they come to."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Annotated

import typer

from bench.runs.folders import require_writable
from bench.runs.suite import shipped
from bench.tracking.address import store_address


def suites_beginning(incomplete: str) -> list[str]:
    """Suites that complete what was typed: those that are shipped, and TOML files."""
    found = [name for name in shipped() if name.startswith(incomplete)]
    return found + sorted(str(path) for path in Path().glob(f"{glob.escape(incomplete)}*.toml"))


SuiteName = Annotated[
    str,
    typer.Argument(metavar="SUITE", help="A shipped suite's name, or a TOML file.", autocompletion=suites_beginning),
]
CellId = Annotated[str, typer.Argument(metavar="CELL", help="An id of a cell or dense network, or its beginning.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a field of the suite, e.g. methods=l1,fpgm or seeds=0."),
]
Seeds = Annotated[int | None, typer.Option(help="Use seeds 0 to N-1.")]
Only = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only these cells, e.g. method=l1,tas or budget=0.5.")
]
Uri = Annotated[str | None, typer.Option("--tracking-uri", envvar="MLFLOW_TRACKING_URI", help="MLflow store.")]
Data = Annotated[Path | None, typer.Option(envvar="PRUNEBENCH_DATA", help="Folder of data sets.")]
Out = Annotated[
    Path | None,
    typer.Option(help="Where to write; by default reports/SUITE, with what --set changed added to the name."),
]
MaxRetries = Annotated[int, typer.Option(min=0, help="How often a cell is run again whose worker was lost.")]
Resource = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="What each cell gets, e.g. gpus=0.5, devices_per_cell=2 or partition=long."),
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]

__all__ = [
    "CellId",
    "Data",
    "Json",
    "MaxRetries",
    "Only",
    "Out",
    "Resource",
    "Seeds",
    "Set",
    "SuiteName",
    "Uri",
    "require_writable",
    "store_address",
    "suites_beginning",
]
