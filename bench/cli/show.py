"""`prunebench show`: what came of one cell."""

from __future__ import annotations

import typer

from bench.cli.cell_text import cell_text
from bench.cli.options import CellId, Json, Uri, store_address
from bench.cli.stored_cell import find_cell, record_of


def show(cell: CellId, tracking_uri: Uri = None, json_: Json = False) -> None:
    """One cell: configuration, status, metrics, budget audit, its MLflow run, a failure's traceback."""
    tracker, state = find_cell(cell, store_address(tracking_uri))
    if state.status == "running":
        typer.echo(f"cell {state.cell_id}: running since run {state.run_id} began; nothing is recorded yet")
        return
    record = record_of(tracker, state)
    typer.echo(record.model_dump_json(indent=2) if json_ else cell_text(record, suite=tracker.suite, uri=tracker.uri))
