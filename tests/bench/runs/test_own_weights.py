"""Suites on networks and weights of the user's own: identity, the dense network, and what is exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from bench import load_pruned
from bench.errors import ArchitectureError, RequestError
from bench.interface.cell import Cell, Recipe
from bench.report.audit import audit
from bench.runs.job import Settings
from bench.runs.preflight import preflight
from bench.runs.suite import suite_from_table
from bench.runs.workload import load_workload
from tasks.classification import Classification
from tests.bench.runs.tables import changed_workload
from tests.bench.runs.tiny import prunebench

NET = """
import torch.nn as nn

def make_net(width, classes=10):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes),
    )
"""
NORMALISE = {"mean": [0.25], "std": [0.5]}


@pytest.fixture
def own(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a network, weights for it, and an empty store."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(NET, names)
    torch.save({"state_dict": {f"module.{k}": v for k, v in names["make_net"](8).state_dict().items()}}, "w.pth")
    return tmp_path


def cell_of(**changes: Any) -> Cell:
    fields: dict[str, Any] = {
        "model": "net.py:make_net",
        "model_args": {"width": 8},
        "weights": "w.pth",
        "normalise": NORMALISE,
        "train_size": 100,
        "epochs": {"dense": 0, "recovery": 1},
        "train": {"batch_size": 32, "precision": "fp32"},
    }
    table = changed_workload(**{k: v for k, v in {**fields, **changes}.items() if v is not None})
    return suite_from_table({**table, "controls": [], "budgets": [0.5], "seeds": [0]}, "t").cells[0]


def test_what_files_hold_is_the_identity_and_their_place_is_not(own: Path) -> None:
    first = cell_of()
    assert first.workload.model == "net.py:make_net" and first.workload.name == "digits-make-net-from-net.py"
    (own / "below").mkdir()
    for name in ("net.py", "w.pth"):
        (own / name).rename(own / "below" / name)
    moved = cell_of(model="below/net.py:make_net", weights="below/w.pth")
    assert (moved.id, moved.dense_id) == (first.id, first.dense_id)
    assert str(own) not in json.dumps(moved.identity())
    (own / "below" / "net.py").write_text(NET + "# changed\n")
    changed = cell_of(model="below/net.py:make_net", weights="below/w.pth")
    others = [changed, cell_of(model="resnet8", model_args=None, weights="below/w.pth")]
    others.append(cell_of(model="below/net.py:make_net", weights=None))
    others.append(cell_of(model="below/net.py:make_net", weights="below/w.pth", model_args={"width": 9}))
    assert len({c.dense_id for c in (first, *others)}) == 5


def test_files_that_change_after_the_suite_was_read_are_refused(own: Path) -> None:
    cell = cell_of()
    loaded = load_workload(cell.workload, Settings(suite="s", tracking_uri=""))
    loaded.initial_network(0)
    (own / "w.pth").write_bytes(b"")
    with pytest.raises(RequestError, match=r"weights .*w\.pth changed since the suite was read"):
        loaded.initial_network(0)
    (own / "net.py").write_text(NET + "# changed\n")
    with pytest.raises(RequestError, match=r"the code of net\.py:make_net changed since the suite was read"):
        load_workload(cell.workload, Settings(suite="s", tracking_uri=""))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": "absent.pth"}, r"weights = 'absent\.pth': there is no file /.*/absent\.pth; give a \."),
        ({"weights": "."}, r"weights = '\.': /.* cannot be read: Is a directory"),
        ({"model": "absent.py:make_net"}, r"there is no file /.*/absent\.py; give path/to/net\.py:make_net or "),
        ({"model": "resnet8"}, "model_args is not allowed: 'resnet8' is not a network of your own"),
        ({"normalise": {"mean": [0.1]}}, "normalise has mean; use { mean = "),
        (
            {"normalise": {"mean": [125.0], "std": [63.0]}},
            r"normalise\.mean = \[125\.0\] is not allowed; .* from 0 to 1",
        ),
        ({"normalise": {"mean": [0.5], "std": [0.0]}}, r"normalise\.std = \[0\.0\] is not allowed"),
        (
            {"model": "timm:resnet10t", "model_args": None, "pretrained": True},
            r"weights = 'w\.pth' is not allowed beside weights that a library fetches",
        ),
        ({"pretrained": True}, "has no pretrained weights"),
    ],
)
def test_what_does_not_go_together_is_refused(own: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        cell_of(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model_args": {"width": 9}},
            r"net\.py:make_net: weights .*w\.pth do not fit the network: 0\.weight is 8×1×3×3",
        ),
        (
            {"model_args": {"depth": 9}},
            r"make_net of /.*net\.py needs width and has no depth: give the workload model_args = \{ width = … \}; it "
            "takes width, classes",
        ),
        ({"normalise": {"mean": [0.5] * 3, "std": [0.5] * 3}}, "normalise has 3 channels; the images of digits have 1"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_trained(
    own: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        preflight([cell_of(**changes)], Settings(suite="s", tracking_uri="", work=own / "work"), {})


SUITE = """
name = "own"
methods = ["l1"]
controls = ["uniform-scratch"]
budgets = [0.5]
seeds = [0]

[[workloads]]
task = "classification"
dataset = "digits"
model = "net.py:make_net"
model_args = { width = 8 }
weights = "w.pth"
normalise = { mean = [0.25], std = [0.5] }
train_size = 100
epochs = { dense = 0, recovery = 1 }
train = { batch_size = 32, precision = "fp32" }
"""


def test_given_weights_are_the_dense_network_and_its_pruned_one_is_exported(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own / "own.toml").write_text(SUITE)
    assert prunebench(monkeypatch, "run", "own.toml", "--quiet") == 0
    records = [json.loads(line) for line in (own / "reports" / "own" / "cells.jsonl").read_text().splitlines()]
    l1, scratch = sorted(records, key=lambda r: r["cell"]["method"])
    assert audit(own / "reports" / "own") == []

    # The dense figures are those of the given weights under the given normalisation, and nothing was trained.
    names: dict[str, Any] = {}
    exec(NET, names)
    dense = names["make_net"](8)
    dense.load_state_dict({k[7:]: v for k, v in torch.load("w.pth", weights_only=True)["state_dict"].items()})
    test = Classification("digits", "resnet8", normalise={"mean": (0.25,), "std": (0.5,)}).load(None).test()
    images = torch.from_numpy(test.arrays[0]).permute(0, 3, 1, 2) / 255  # pyright: ignore[reportAttributeAccessIssue]
    labels = torch.from_numpy(test.arrays[1])  # pyright: ignore[reportAttributeAccessIssue]
    with torch.no_grad():
        right = dense.eval()((images - 0.25) / 0.5).argmax(1) == labels
    assert l1["dense_metrics"]["accuracy"] == pytest.approx(100 * float(right.float().mean()))
    assert l1["ledger"]["dense_epochs"] == 0 and [row["phase"] for row in l1["trajectory"]] == ["recovery"]
    assert "the dense network starts from the weights of w.pth (its state_dict)" in l1["notes"]
    assert scratch["cell"]["method"] == "uniform-scratch" and scratch["pruned_metrics"] == {}

    assert prunebench(monkeypatch, "export", l1["cell_id"], "--out", "pruned") == 0
    with pytest.raises(ArchitectureError, match=r'one of your own, net\.py:make_net, .*load_pruned\("pruned", "net'):
        load_pruned("pruned")
    model = load_pruned("pruned", "net.py:make_net").eval()
    x = torch.randn(8, 1, 16, 16)
    (got,) = onnxruntime.InferenceSession("pruned/model.onnx").run(None, {"input": x.numpy()})
    expected = model(x).detach().numpy()
    assert np.abs(np.asarray(got) - expected).max() <= 1e-4 * np.abs(expected).max()
    card = json.loads((own / "pruned" / "card.json").read_text())
    assert card["input"]["mean"] == [0.25] and card["input"]["std"] == [0.5] and card["cell"] == l1["cell_id"]
    figures = Classification("digits", "resnet8", normalise={"mean": (0.25,), "std": (0.5,)}).evaluate(
        model, test, torch.device("cpu"), Recipe(precision="fp32")
    )
    assert figures["accuracy"] == pytest.approx(card["metrics"]["test"]["accuracy"])

    # Code that a file names is not run, whatever else the file says.
    del card["network"]["code_sha256"]
    (own / "pruned" / "card.json").write_text(json.dumps(card))
    with pytest.raises(ArchitectureError, match="no code is run because a file names it"):
        load_pruned("pruned")
