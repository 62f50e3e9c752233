"""`prunebench export`: the pruned model of a cell as files that need no tracking store."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import CellId, Uri, require_writable, store_address
from bench.cli.stored_cell import find_cell
from bench.errors import RequestError

if TYPE_CHECKING:
    from bench.interface.record import Record

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
    if state.status != "finished":
        raise RequestError(f"cell {state.cell_id} is {state.status}: there is no pruned model to export")
    out.mkdir(parents=True, exist_ok=True)
    with tracker.artifact(state.run_id, "model") as folder:
        for name in MODEL_FILES:
            shutil.copy(folder / name, out / name)
    written: list[str] = list(MODEL_FILES)
    if onnx:
        written.append(_write_onnx(tracker.record(state), out))
    typer.echo(f"{out}: {', '.join(written)}")


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
