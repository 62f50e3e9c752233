"""`prunebench show`: what came of one cell, or of a dense network or a search that cells share."""

from __future__ import annotations

import json

import typer

from bench.cli.cell_text import cell_text, stage_text
from bench.cli.options import CellId, Json, Uri, store_address
from bench.cli.stored_cell import find_run, record_of, stage_facts, words_of
from bench.tracking.liveness import is_dead


def show(cell: CellId, tracking_uri: Uri = None, json_: Json = False) -> None:
    """A cell, dense network or search: configuration, status, metrics, budget audit, MLflow run, traceback."""
    tracker, state = find_run(cell, store_address(tracking_uri))
    what = words_of(state)
    if state.status == "running":
        ended = is_dead(state)
        typer.echo(
            f"{what} {state.cell_id}: stopped, since the process of run {state.run_id} has ended; prunebench run "
            f"{tracker.suite} goes on from its last epoch"
            if ended
            else f"{what} {state.cell_id}: running since run {state.run_id} began; nothing is recorded yet"
        )
        return
    if state.kind != "cell":
        facts = stage_facts(tracker, state)
        text = json.dumps(facts, indent=2) if json_ else stage_text(facts, state, suite=tracker.suite, uri=tracker.uri)
    else:
        record = record_of(tracker, state)
        text = record.model_dump_json(indent=2) if json_ else cell_text(record, suite=tracker.suite, uri=tracker.uri)
    typer.echo(text)
