"""`prunebench export`: whole folders for every task, or none, and networks that compute the same everywhere."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from bench import load_pruned, prune_to, save_pruned
from bench.cli import export as exporting
from bench.cli.export import FILES, write_portable
from bench.errors import ArchitectureError, CellError
from bench.interface import registry
from bench.interface.exported import CARD_FACTS
from bench.interface.record import Record
from bench.interface.task import DataInfo
from bench.runs.suite import suite_from_table
from bench.runs.workload import task_options
from bench.structure import onnx_export
from bench.training.recovery import fresh_network
from tests.bench.cli.calling import call
from tests.bench.runs.tables import changed_workload

DIGITS = tuple("0123456789")
TASKS: dict[str, tuple[dict[str, Any], DataInfo]] = {
    "classification": ({"dataset": "cifar10", "model": "resnet8"}, DataInfo(3, 32, 32, DIGITS)),
    "segmentation": (
        {"dataset": "scattered-digits", "model": "smp:linknet/tu-test_resnet", "image_size": [64, 96]},
        DataInfo(3, 64, 96, (*DIGITS, "background")),
    ),
    "super_resolution": (
        {"dataset": "photographs", "model": "edsr-tiny", "scale": 3, "example_size": [16, 24]},
        DataInfo(3, 16, 24),
    ),
}


def record_of(name: str, **changes: Any) -> tuple[Record, torch.nn.Module]:
    """The record of a cell that finished, and its pruned network."""
    options, info = TASKS[name]
    cell = suite_from_table(changed_workload(task=name, **{**options, **changes}), "t").cells[0]
    task = registry.make_task(name, {k: v for k, v in task_options(cell.workload).items() if k != "pretrained"})
    model = prune_to(fresh_network(task, info, 0), task.example(info))
    record = Record(
        suite="t", cell_id=cell.id, run_id="r", status="finished", cell=cell.model_dump(mode="json"),
        metric_name="accuracy", final_metrics={"accuracy": 90.0}, macs_dense=200, macs_pruned=100,
        input_shape=[1, info.channels, info.height, info.width], data_info=dataclasses.asdict(info),
        environment={"torch": torch.__version__},
    )  # fmt: skip
    return record, model


@pytest.mark.parametrize("name", TASKS)
def test_onnxruntime_and_torch_compute_the_same_for_every_task(name: str, tmp_path: Path) -> None:
    record, model = record_of(name)
    save_pruned(tmp_path, model)
    assert write_portable(record, tmp_path, onnx=True, pt2=True) == ["card.json", "model.onnx", "model.pt2"]
    again = load_pruned(tmp_path).eval()  # no dense network is given
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["files"]["model.onnx"]["free"] == ["batch", "height", "width"]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    steps = "32*{}_in_32s" if name == "segmentation" else "{}"
    assert session.get_inputs()[0].shape == ["batch", 3, steps.format("height"), steps.format("width")]
    program = torch.export.load(tmp_path / "model.pt2").module()
    _, channels, height, width = record.input_shape
    for shape in ((8, channels, height, width), (2, channels, height + 32, width + 64)):
        x = torch.randn(shape)
        with torch.no_grad():
            expected = again(x).numpy()
            other = program(x).numpy()
        (got,) = session.run(None, {"input": x.numpy()})
        assert np.abs(np.asarray(got) - expected).max() <= 1e-4 * np.abs(expected).max()
        assert np.abs(other - expected).max() <= 1e-4 * np.abs(expected).max()
        with torch.no_grad():
            assert torch.equal(model.eval()(x), again(x))


def test_the_card_says_what_a_program_must_know(tmp_path: Path) -> None:
    record, model = record_of("segmentation")
    save_pruned(tmp_path, model)
    assert write_portable(record, tmp_path, onnx=False, pt2=False) == ["card.json"]
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["classes"] == [*DIGITS, "background"] and (card["input"]["height"], card["input"]["width"]) == (64, 96)
    assert card["input"]["mean"] == [0.485, 0.456, 0.406] and card["input"]["std"] == [0.229, 0.224, 0.225]
    assert card["budget"]["asked"] == 0.5 and card["budget"]["kept"] == 0.5 and card["cell"] == record.cell_id
    assert card.keys() - {"input", "output", "classes"} == CARD_FACTS - {"weights_sha256"}
    assert card["made_with"] == {"torch": torch.__version__} and card["metrics"]["test"] == {"accuracy": 90.0}


def test_super_resolutions_card_inverts_what_the_network_gives(tmp_path: Path) -> None:
    record, model = record_of("super_resolution")
    save_pruned(tmp_path, model)
    write_portable(record, tmp_path, onnx=False, pt2=False)
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["input"]["mean"] == [0.4488, 0.4371, 0.404] and card["input"]["std"] == [1.0] * 3 and card["scale"] == 3


def test_no_weights_are_fetched_to_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    record, model = record_of("classification", model="timm:resnet10t", pretrained=True)
    real, asked = timm.create_model, []

    def build(name: str, *, pretrained: bool, **options: Any) -> torch.nn.Module:
        asked.append(pretrained)
        return real(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", build)
    save_pruned(tmp_path, model)
    write_portable(record, tmp_path, onnx=False, pt2=False)
    load_pruned(tmp_path)
    assert asked == [False, False]


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder whose tracking store has one cell, whatever id is asked for."""
    monkeypatch.chdir(tmp_path)
    record, model = record_of("super_resolution")
    save_pruned(tmp_path / "stored", model)

    @contextmanager
    def artifact(run_id: str, name: str) -> Iterator[Path]:
        yield tmp_path / "stored"

    state = SimpleNamespace(problem=None, status="finished", run_id="r", cell_id=record.cell_id)
    monkeypatch.setattr(exporting, "find_cell", lambda *_: (SimpleNamespace(artifact=artifact), state))
    monkeypatch.setattr(exporting, "record_of", lambda *_: record)
    return tmp_path


def test_an_export_replaces_an_earlier_one_whole(
    stored: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "export", "ab", "--out", "pruned") == 0
    told = capsys.readouterr()
    assert told.err.splitlines() == [
        "ab: reading what is recorded …",
        "ab: loading PyTorch and building the network …",
        "ab: tracing the network at several sizes …",
        "ab: writing model.onnx and comparing what onnxruntime computes …",
        "ab: writing model.pt2 …",
    ]
    assert told.out == "wrote pruned: model.safetensors, architecture.json, card.json, model.onnx, model.pt2\n"
    assert {path.name for path in (stored / "pruned").iterdir()} == set(FILES)
    assert call(monkeypatch, "export", "ab", "--out", "pruned", "--no-onnx") == 0
    assert {path.name for path in (stored / "pruned").iterdir()} == set(FILES) - {"model.onnx"}
    assert sorted(path.name for path in stored.iterdir()) == ["pruned", "stored"]


def test_a_file_for_one_size_alone_is_told_of(
    stored: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save = onnx_export.save_program

    def fussy(found: onnx_export.Portable, path: Path) -> Path:
        if found.step:
            raise CellError("torch cannot write model.pt2: no such operation")
        return save(found, path)

    monkeypatch.setattr(onnx_export, "save_program", fussy)
    assert call(monkeypatch, "export", "ab", "--out", "pruned", "--no-onnx") == 0
    assert "ab: model.pt2 is for images of the example's size alone: it could not be written for others" in (
        capsys.readouterr().err
    )
    assert json.loads((stored / "pruned" / "card.json").read_text())["files"]["model.pt2"]["free"] == ["batch"]


def test_an_export_that_fails_leaves_what_was_there(
    stored: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise CellError("the outputs differ")

    assert call(monkeypatch, "export", "ab", "--out", "pruned", "--no-onnx", "--no-pt2") == 0
    before = {path.name: path.read_bytes() for path in (stored / "pruned").iterdir()}
    monkeypatch.setattr(onnx_export, "write_onnx", broken)
    assert call(monkeypatch, "export", "ab", "--out", "pruned") == 2
    assert "cannot be exported: the outputs differ" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (stored / "pruned").iterdir()} == before
    assert call(monkeypatch, "export", "ab", "--out", "fresh") == 2
    assert sorted(path.name for path in stored.iterdir()) == ["pruned", "stored"]


def test_a_folder_with_other_files_is_refused(
    stored: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (stored / "mine").mkdir()
    (stored / "mine" / "thesis.tex").write_text("")
    assert call(monkeypatch, "export", "ab", "--out", "mine") == 2
    assert "output folder mine holds thesis.tex, which no export wrote" in capsys.readouterr().err
    assert [path.name for path in (stored / "mine").iterdir()] == ["thesis.tex"]


def test_a_folder_without_a_card_needs_the_dense_network(tmp_path: Path) -> None:
    record, model = record_of("super_resolution")
    save_pruned(tmp_path, model)
    with pytest.raises(ArchitectureError, match=r"card\.json: No such file or directory; give the dense network"):
        load_pruned(tmp_path)
    (tmp_path / "card.json").write_text("{}")
    with pytest.raises(ArchitectureError, match=r"card\.json: does not say what network was pruned"):
        load_pruned(tmp_path)
    write_portable(record, tmp_path, onnx=False, pt2=False)
    with pytest.raises(ArchitectureError, match="its network is edsr-tiny, and not one of your own"):
        load_pruned(tmp_path, "net.py:make_net")
    with pytest.raises(ArchitectureError, match="'net' names no code"):
        load_pruned(tmp_path, "net")
