"""Arguments and options that several commands share, and what they come to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.errors import RequestError
from bench.runs.folders import can_be_written, nearest_existing
from bench.tracking.address import absolute

SuiteName = Annotated[str, typer.Argument(metavar="SUITE", help="A shipped suite's name, or a TOML file.")]
CellId = Annotated[str, typer.Argument(metavar="CELL", help="A cell's id, or its beginning.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a field of the suite.")]
Seeds = Annotated[int | None, typer.Option(help="Use seeds 0 to N-1.")]
Only = Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only these cells, e.g. method=l1.")]
Uri = Annotated[str | None, typer.Option("--tracking-uri", envvar="MLFLOW_TRACKING_URI", help="MLflow store.")]
Data = Annotated[Path | None, typer.Option(envvar="PRUNEBENCH_DATA", help="Folder of data sets.")]
Out = Annotated[Path | None, typer.Option(help="Where to write.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]

DEFAULT_URI = "sqlite:///mlflow.db"


def store_address(uri: str | None) -> str:
    """The address of the tracking store, the default one where none is given.

    Raises:
        RequestError: it is no address.
    """
    return absolute((uri or "").strip() or DEFAULT_URI)


def report_folder(out: Path | None, suite: str) -> Path:
    """Where a suite's report goes.

    Raises:
        RequestError: the folder cannot be written.
    """
    folder = out or Path("reports") / suite
    require_writable(folder)
    return folder


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
