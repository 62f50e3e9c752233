"""`prunebench report`, `merge` and `audit`: reports from what is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.lines import name_lost, summary
from bench.cli.options import Only, Out, Seeds, Set, Uri, require_writable, store_address, suites_beginning
from bench.errors import RequestError
from bench.interface.record import Record
from bench.report import merge_records, read_records, relabelled, suite_of, write_report
from bench.report.pictures import PictureSource
from bench.runs.display import Busy
from bench.runs.folders import report_folder, require_own_report
from bench.runs.recorded import without_record
from bench.runs.reporting import Reported, write_suite_report
from bench.runs.suite import load_suite, select
from bench.tracking.address import redacted
from bench.tracking.quick_read import has_states


def report(
    suite: Annotated[
        str | None,
        typer.Argument(
            metavar="SUITE",
            help="A shipped suite's name, or a TOML file; not needed with --from.",
            autocompletion=suites_beginning,
        ),
    ] = None,
    out: Out = None,
    set_: Set = None,
    only: Only = None,
    seeds: Seeds = None,
    tracking_uri: Uri = None,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Read a cells.jsonl instead of MLflow; pictures come from the store of --tracking-uri.",
        ),
    ] = None,
) -> None:
    """Write tables, figures and the page from what is recorded, also when the matrix is incomplete."""
    if suite is None:
        if from_ is None:
            raise RequestError("give the name or file of a SUITE, or records with --from cells.jsonl")
        if set_ or only or seeds is not None:
            raise RequestError("--set, --only and --seeds change or pick from a suite; give the SUITE beside --from")
        return _report_of_file(from_, out, tracking_uri)
    loaded = load_suite(suite, set_ or (), seeds)
    chosen = select(loaded.cells, only or ())
    folder = report_folder(out, loaded, set_ or (), seeds, only or ())
    picked = replace(loaded, cells=tuple(chosen))
    if from_ is not None:
        ids = {cell.id for cell in chosen}
        records = relabelled(read_records(from_), loaded.cells)
        records = [record for record in records if record.cell_id in ids] if only else records
        with Busy(f"{loaded.name}: writing the report"):
            pictures = _pictures(records, folder, tracking_uri, loaded.name)
            missing = without_record(chosen, records)
            readme = write_report(records, folder, suite=loaded.name, missing=missing, pictures=pictures)
        reported = Reported(readme=readme, records=records, lost={})
    else:
        uri = store_address(tracking_uri)
        if not has_states(uri, loaded.name):
            raise RequestError(
                f"nothing of suite {loaded.name!r} is recorded in {redacted(uri)}; prunebench run {suite} comes first"
            )
        reported = write_suite_report(picked, uri, folder)
        name_lost(reported)
    typer.echo(summary(reported, loaded, chosen) if only else summary(reported, loaded))
    return None


def _pictures(records: Sequence[Record], folder: Path, tracking_uri: str | None, suite: str) -> PictureSource | None:
    """Where the sample pictures of records are that a file holds: in the store that was named, if any."""
    if not any(record.pictures for record in records):
        return None
    uri = store_address(tracking_uri) if tracking_uri is not None else None
    if uri is not None and has_states(uri, suite):
        from bench.runs.recorded import stored_pictures
        from bench.tracking.mlflow_store import Tracker  # loads MLflow

        return stored_pictures(Tracker(uri, suite))
    if list(folder.glob("figures/samples*")):
        said = f"the sample pictures in {folder} go, since a file of records has none"
        typer.echo(f"prunebench: {said}: name the store that has them with --tracking-uri to keep them", err=True)
    return None


def _report_of_file(file: Path, out: Path | None, tracking_uri: str | None) -> None:
    """The report of all records of a file, whatever suite they are of."""
    records = read_records(file)
    if not records:
        raise RequestError(f"{file} holds no records")
    name = suite_of(records)
    folder = out or Path("reports") / name
    require_writable(folder)
    if out is None:
        require_own_report(folder, name, [record.cell_id for record in records])
    with Busy(f"{name}: writing the report"):
        readme = write_report(records, folder, suite=name, pictures=_pictures(records, folder, tracking_uri, name))
    typer.echo(f"{len(records)} cells; report: {readme}")


def merge(
    a: Annotated[Path, typer.Argument(metavar="A")],
    b: Annotated[Path, typer.Argument(metavar="B")],
    out: Annotated[Path, typer.Option(help="Folder for the joint report.")],
) -> None:
    """Join two reports (their cells.jsonl) into one."""
    require_writable(out)
    records = merge_records(read_records(a), read_records(b))
    with Busy(f"{suite_of(records)}: writing the report"):
        readme = write_report(records, out, suite=suite_of(records))
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
