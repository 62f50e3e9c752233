"""`prunebench export`: the pruned model of a cell as files that need no tracking store."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import CellId, Uri, require_writable, store_address
from bench.cli.stored_cell import find_cell, lost, record_of
from bench.errors import RequestError

if TYPE_CHECKING:
    from bench.interface.record import Record
    from bench.tracking.mlflow_store import Tracker
    from bench.tracking.states import RunState

MODEL_FILES = ("model.safetensors", "architecture.json")


def export(
    cell: CellId,
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    tracking_uri: Uri = None,
    onnx: Annotated[bool, typer.Option("--onnx/--no-onnx", help="Also write model.onnx (extra `onnx`).")] = True,
) -> None:
    """The pruned model of a cell: model.safetensors, architecture.json and model.onnx."""
    require_writable(out)
    tracker, state = find_cell(cell, store_address(tracking_uri))
    if state.problem:
        raise lost(state, state.problem)
    if state.status != "finished":
        raise RequestError(f"cell {state.cell_id} is {state.status}: there is no pruned model to export")
    record = record_of(tracker, state)
    with _model(tracker, state) as folder:
        out.mkdir(parents=True, exist_ok=True)
        for name in MODEL_FILES:
            shutil.copy(folder / name, out / name)
    written: list[str] = list(MODEL_FILES)
    if onnx:
        written.append(_write_onnx(record, out))
    typer.echo(f"{out}: {', '.join(written)}")


@contextlib.contextmanager
def _model(tracker: Tracker, state: RunState) -> Iterator[Path]:
    """The folder of a cell's pruned model, which has all of `MODEL_FILES`.

    Raises:
        RequestError: it is gone.
    """
    from bench.tracking.connect import StoreError, gone

    try:
        with tracker.artifact(state.run_id, "model") as folder:
            absent = [name for name in MODEL_FILES if not (folder / name).is_file()]
            if absent:
                raise lost(state, f"{folder / absent[0]} is gone")
            yield folder
    except StoreError as error:
        if gone(error.__cause__):
            raise lost(state, f"run {state.run_id} has no folder 'model'") from None
        raise


def _write_onnx(record: Record, folder: Path) -> str:
    """Write the model of `folder`, which holds `MODEL_FILES`, as ONNX; the file's name."""
    import torch

    from bench.interface import registry
    from bench.interface.task import DataInfo
    from bench.runs.workload import task_options
    from bench.structure.files import load_pruned
    from bench.structure.onnx_export import export_onnx
    from bench.training.recovery import fresh_network

    workload, facts = record.config.workload, record.data_info
    # Weights are not fetched again to be replaced.
    untrained = {"pretrained": False, "encoder_weights": ""}
    options = task_options(workload)
    task = registry.make_task(workload.task, options | {k: v for k, v in untrained.items() if k in options})
    info = DataInfo(**{**facts, "classes": tuple(facts["classes"])})
    model = load_pruned(folder, fresh_network(task, info, 0))
    with torch.inference_mode():
        export_onnx(model, task.example(info), folder / "model.onnx")
    return "model.onnx"
