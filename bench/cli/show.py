"""`prunebench show`: what came of one cell, or of a dense network or a search that cells share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.cell_text import cell_text, config_text, stage_text
from bench.cli.options import CellId, Json, Uri, store_address
from bench.cli.stored_cell import find_run, record_of, same_workload, stage_facts, words_of
from bench.errors import RequestError
from bench.report.latency import pooled
from bench.tracking.liveness import is_dead

if TYPE_CHECKING:
    from bench.tracking.mlflow_store import Tracker
    from bench.tracking.states import RunState


def show(
    cell: CellId,
    tracking_uri: Uri = None,
    json_: Json = False,
    config: Annotated[bool, typer.Option("--config", help="The whole configuration of a cell alone, as JSON.")] = False,
) -> None:
    """A cell, dense network or search: status, metrics, budget audit, settings, MLflow run, traceback."""
    if config and json_:
        raise RequestError("--config and --json are not allowed together: --json has the whole record")
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
    if state.kind == "cell":
        typer.echo(_of_cell(tracker, state, json_=json_, config=config))
    elif config:
        raise RequestError(f"{state.cell_id} is a {what}; --config is for cells, which prunebench plan SUITE lists")
    else:
        facts = stage_facts(tracker, state)
        text = json.dumps(facts, indent=2) if json_ else stage_text(facts, state, suite=tracker.suite, uri=tracker.uri)
        typer.echo(text)


def _of_cell(tracker: Tracker, state: RunState, *, json_: bool, config: bool) -> str:
    record = record_of(tracker, state)
    if json_:
        return record.model_dump_json(indent=2)
    if config:
        return config_text(record)
    latencies = pooled(same_workload(tracker, record)) if record.latencies else {}
    return cell_text(record, suite=tracker.suite, uri=tracker.uri, latencies=latencies)
