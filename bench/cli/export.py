"""`prunebench export`: the pruned model of a cell as files that need no tracking store."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import CellId, Uri, require_writable, store_address
from bench.cli.stored_cell import find_cell, lost, record_of
from bench.errors import CellError, RequestError
from bench.interface.exported import CARD
from bench.runs.display import Busy
from bench.runs.events import Say, untold

if TYPE_CHECKING:
    from bench.interface.record import Record
    from bench.tracking.mlflow_store import Tracker
    from bench.tracking.states import RunState

MODEL_FILES = ("model.safetensors", "architecture.json")
ONNX, PROGRAM = "model.onnx", "model.pt2"
FILES = (*MODEL_FILES, CARD, ONNX, PROGRAM)
"""All that a folder of ours may hold."""


def export(
    cell: CellId,
    out: Annotated[Path, typer.Option(help="Folder to write; an earlier export there is replaced whole.")],
    tracking_uri: Uri = None,
    onnx: Annotated[bool, typer.Option("--onnx/--no-onnx", help="Also write model.onnx (extra `onnx`).")] = True,
    pt2: Annotated[bool, typer.Option("--pt2/--no-pt2", help="Also write model.pt2, for torch.export.load.")] = True,
) -> None:
    """The pruned model of a cell: model.safetensors, architecture.json, card.json, model.onnx and model.pt2."""
    require_writable(out)
    _require_ours(out)
    with Busy(f"{cell}: reading what is recorded") as busy:
        tracker, state = find_cell(cell, store_address(tracking_uri))
        if state.problem:
            raise lost(state, state.problem)
        if state.status != "finished":
            raise RequestError(f"cell {state.cell_id} is {state.status}: there is no pruned model to export")
        record = record_of(tracker, state)
        with _model(tracker, state) as folder, _whole(out) as draft:
            for name in MODEL_FILES:
                shutil.copy(folder / name, draft / name)
            try:
                written = write_portable(
                    record, draft, onnx=onnx, pt2=pt2, say=lambda text: busy.say(f"{cell}: {text}")
                )
            except CellError as error:
                raise RequestError(f"cell {state.cell_id} cannot be exported: {error}") from error
    typer.echo(f"wrote {out}: {', '.join([*MODEL_FILES, *written])}")


def _require_ours(out: Path) -> None:
    """Refuse a folder that holds anything but an earlier export, which is to be replaced."""
    others = sorted(path.name for path in out.iterdir() if path.name not in FILES) if out.is_dir() else []
    if others:
        raise RequestError(f"output folder {out} holds {others[0]}, which no export wrote; give another folder")


@contextlib.contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of `out` where all went well; else `out` stays as it was."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as place:
        draft, old = Path(place, "new"), Path(place, "old")
        draft.mkdir()
        yield draft
        if out.exists():
            out.rename(old)
        try:
            draft.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise


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


def write_portable(record: Record, folder: Path, *, onnx: bool, pt2: bool, say: Say = untold) -> list[str]:
    """Write `card.json` and what other programs run, from the model of `folder`, which holds `MODEL_FILES`.

    Args:
        say: is told what is done.

    Returns:
        The names of the files.

    Raises:
        RequestError: the network cannot be built or traced, or the extra `onnx` is not installed.
    """
    say("loading PyTorch and building the network")
    from bench.cli.model_card import card_of
    from bench.interface import registry
    from bench.interface.exported import info_of
    from bench.interface.task import untrained
    from bench.runs.workload import require_same_code, task_options
    from bench.structure.files import load_pruned
    from bench.training.recovery import fresh_network

    workload, info = record.config.workload, info_of(record.data_info)
    require_same_code(workload)
    options = task_options(workload)
    task = registry.make_task(workload.task, options)
    model = load_pruned(folder, fresh_network(untrained(task), info, 0))
    files: dict[str, Any] = {}
    if onnx or pt2:
        files = _write_programs(model, task.example(info), folder, say, onnx=onnx, pt2=pt2)
    card = card_of(record, task, options, files)
    text = json.dumps(card, indent=1, ensure_ascii=False)
    plain_lists = re.sub(r"\[\n[^\[\]{}]*\]", lambda m: re.sub(r"\n\s*", " ", m[0]), text)  # each on one line
    (folder / CARD).write_text(f"{plain_lists}\n", "utf-8")
    return [CARD, *files]


def _write_programs(model: Any, example: Any, folder: Path, say: Say, *, onnx: bool, pt2: bool) -> dict[str, Any]:
    """Write the network as ONNX and as torch.export's program; what each takes and gives, by the file's name."""
    from bench.structure.onnx_export import INPUT, OUTPUT, Portable, fitting, portable, save_program, write_onnx

    say("tracing the network at several sizes")
    found = portable(model, example)

    def facts(name: str, write: Callable[[Portable], object]) -> dict[str, Any]:
        written = fitting(found, model, example, write)
        if written.step != found.step:
            say(f"{name} is for images of the example's size alone: it could not be written for others")
        step = {"sizes_in_steps_of": written.step} if written.step > 1 else {}
        return {"free": list(written.free), "example": list(example.shape), **step}

    files: dict[str, Any] = {}
    if onnx:
        say(f"writing {ONNX} and comparing what onnxruntime computes")
        about = facts(ONNX, lambda program: write_onnx(model, example, folder / ONNX, program))
        files[ONNX] = {"input": INPUT, "output": OUTPUT, **about}
    if pt2:
        say(f"writing {PROGRAM}")
        files[PROGRAM] = facts(PROGRAM, lambda program: save_program(program, folder / PROGRAM))
    return files
