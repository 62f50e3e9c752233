"""`prunebench report`, `merge` and `audit`: reports from what is recorded."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Out, Seeds, Set, SuiteName, Uri, report_folder, require_writable, store_address
from bench.errors import RequestError
from bench.report import merge_records, read_records, relabelled, write_report
from bench.runs.recorded import Recorded, read_recorded, stored_pictures, without_record
from bench.runs.suite import Suite, load_suite
from bench.tracking.address import redacted
from bench.tracking.lock import locked
from bench.tracking.quick_read import read_states

MOST_LOST = 5
"""How many lost records are named one by one."""


def report(
    suite: SuiteName,
    out: Out = None,
    set_: Set = None,
    seeds: Seeds = None,
    tracking_uri: Uri = None,
    from_: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Read a cells.jsonl instead of MLflow.")
    ] = None,
) -> None:
    """Write tables, figures and the page from what is recorded, also when the matrix is incomplete."""
    loaded = load_suite(suite, set_ or (), seeds)
    folder = report_folder(out, loaded.name)
    if from_ is not None:
        records = relabelled(read_records(from_), loaded.cells)
        readme = write_report(records, folder, suite=loaded.name, missing=without_record(loaded.cells, records))
        typer.echo(_summary(len(records), loaded, readme))
        return
    uri = store_address(tracking_uri)
    if not read_states(uri, loaded.name):
        raise RequestError(
            f"nothing of suite {loaded.name!r} is recorded in {redacted(uri)}; prunebench run {suite} comes first"
        )
    typer.echo(write_suite_report(loaded, uri, folder))


def write_suite_report(suite: Suite, uri: str, folder: Path) -> str:
    """Write the report of what the tracking store has of a suite; a line about it. Names lost records on stderr.

    Raises:
        RequestError: a later release has made one of the records, or the store cannot be used.
    """
    from bench.tracking.mlflow_store import Tracker  # loads mlflow

    tracker = Tracker(uri, suite.name)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # Of two invocations that end together, the last to write has read what both have recorded.
        with locked(folder / "report"):
            found = read_recorded(tracker, suite.cells)
            readme = write_report(
                found.records,
                folder,
                suite=suite.name,
                missing=without_record(suite.cells, found.records),
                runs=tracker.runs_page,
                pictures=stored_pictures(tracker),
            )
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # nothing was written where it is empty
    _name_lost(found)
    return _summary(len(found.records), suite, readme)


def _name_lost(found: Recorded) -> None:
    for number, (identity, reason) in enumerate(found.lost.items()):
        if number == MOST_LOST:
            typer.echo(f"lost: {len(found.lost) - number} more cells", err=True)
            break
        typer.echo(f"lost: cell {identity} counts as missing, and prunebench run runs it again: {reason}", err=True)


def merge(
    a: Annotated[Path, typer.Argument(metavar="A")],
    b: Annotated[Path, typer.Argument(metavar="B")],
    out: Annotated[Path, typer.Option(help="Folder for the joint report.")],
) -> None:
    """Join two reports (their cells.jsonl) into one."""
    require_writable(out)
    records = merge_records(read_records(a), read_records(b))
    readme = write_report(records, out, suite=" + ".join(sorted({r.suite for r in records})))
    typer.echo(f"{len(records)} cells; report: {readme}")


def audit(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A report's folder.")]) -> None:
    """Compute every difference, percentage, rank and bold of a report again from its cells.jsonl."""
    from bench.report.audit import audit as contradictions  # loads pandas

    if not (folder / "cells.jsonl").is_file():
        raise RequestError(f"{folder} is no report: it has no cells.jsonl")
    found = contradictions(folder)
    for sentence in found:
        typer.echo(sentence)
    typer.echo(f"{folder}: {len(found)} contradictions" if found else f"{folder}: everything agrees with its records")
    if found:
        raise typer.Exit(1)


def _summary(records: int, suite: Suite, readme: Path) -> str:
    return f"{records} of {len(suite.cells)} cells recorded; report: {readme}"
