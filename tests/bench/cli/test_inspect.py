"""What there is to run and what is recorded: `plan` and `list`."""

from __future__ import annotations

import json
import re
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from bench.interface import registry
from bench.runs.suite import load_suite
from bench.tracking.mlflow_store import Tracker
from bench.tracking.quick_read import read_states
from tests.bench.cli.calling import call


def test_plan_lists_every_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "plan", "cifar10-resnet20", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["counts"] == {"missing": 39} == {"missing": len(answer["cells"])}
    assert len(answer["dense"]) == 3
    # Dense networks; l1, random and random-widths; uniform-scratch; dense-longer (once a seed, whatever the budgets).
    assert answer["epochs_left"] == 3 * 10 + 27 * 5 + 9 * 15 + 3 * 15
    assert {c["schedule"][-1]["recipe"]["lr"] for c in answer["cells"]} == {0.1}
    assert call(monkeypatch, "plan", "cifar10-resnet20", "--only", "method=l1", "--only", "seed=2") == 0
    text = capsys.readouterr().out
    assert "3 cells: 3 missing; dense networks: 0 of 1 done; 25 epochs to train" in text
    assert "rewind" in text and "SGD momentum 0.9, rate 0.1 cosine, batch 64, decay 0.0005, warm-up 0.5" in text


def test_plan_says_what_is_protected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    protect = ("--set", 'protect=["layer3.*", "conv1"]')
    assert call(monkeypatch, "plan", "cifar10-resnet20", *protect) == 0
    line = "cifar10-resnet20: protected, so that no method removes their channels: conv1, layer3.*"
    assert line in capsys.readouterr().out.splitlines()
    assert call(monkeypatch, "plan", "cifar10-resnet20", *protect, "--json") == 0
    assert {tuple(c["protect"]) for c in json.loads(capsys.readouterr().out)["cells"]} == {("conv1", "layer3.*")}
    assert call(monkeypatch, "plan", "cifar10-resnet20") == 0
    assert "protected" not in capsys.readouterr().out


def test_lists(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for what, name in (
        ("methods", "l1"),
        ("tasks", "classification"),
        ("models", "resnet20"),
        ("datasets", "cifar10"),
        ("suites", "demo"),
    ):
        assert call(monkeypatch, "list", what, "--json") == 0
        assert name in {row["name"] for row in json.loads(capsys.readouterr().out)}
        assert call(monkeypatch, "list", what) == 0
        assert name in capsys.readouterr().out


def test_plan_states_what_the_seeds_can_show(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = ("plan", "cifar10-resnet20", "--only", "budget=0.5", "--tracking-uri", store)
    assert call(monkeypatch, *chosen) == 0
    text = capsys.readouterr().out
    assert "cifar10-resnet20 (matched): not known before two networks of a budget have two seeds each" in text
    # l1 − random over three seeds: 1, 2, 3, whose standard deviation is 1.
    tracker, finals = Tracker(store, "cifar10-resnet20"), {"l1": [92.0, 94.0, 96.0], "random": [91.0, 92.0, 93.0]}
    for cell in load_suite("cifar10-resnet20").cells:
        if cell.budget == 0.5 and cell.method in finals:
            run = tracker.claim(cell.id, kind="cell", label=cell.label)
            run.final({"final_metric": finals[cell.method][cell.seed]})
            run.finish("{}")
    assert call(monkeypatch, *chosen, "--json") == 0
    (power,) = json.loads(capsys.readouterr().out)["power"]
    assert (power["seeds"], power["pairs"], power["unit"]) == (3, 1, "%")
    assert power["spread"] == pytest.approx(1.0) and power["smallest_difference"] == pytest.approx(3.264, abs=1e-3)
    assert call(monkeypatch, *chosen) == 0
    assert (
        "cifar10-resnet20 (matched): differences spread by 1 % over seeds so far; with 3 seeds only 3.3 % or more "
        "would be found with 80 % probability; 1 % would take 10\n"
    ) in capsys.readouterr().out
    states = Tracker(store, "cifar10-resnet20").best()
    assert {i: s.final for i, s in states.items()} == {
        i: s.final for i, s in read_states(store, "cifar10-resnet20").items()
    }


def test_a_broken_package_is_named_and_the_others_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken_adapter.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    given = {"broken": "broken_adapter:Broken", "bare": "collections:Counter", "l1": "elsewhere:L1"}
    points = [EntryPoint(name, value, "prunebench.methods") for name, value in given.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: [p for p in points if p.group == group])
    names = registry.method_names.__wrapped__()
    monkeypatch.setattr(registry, "method_names", lambda: names)
    assert call(monkeypatch, "list", "methods", "--json") == 0
    out, err = capsys.readouterr()
    assert {"l1", "dcss"} <= {row["name"] for row in json.loads(out)}
    assert err.splitlines() == [
        "prunebench: two methods are named 'l1': methods.l1:L1 and elsewhere:L1; methods.l1:L1 is used",
        "prunebench: method 'broken' cannot be loaded from broken_adapter:Broken: SystemExit: 3",
        "prunebench: method 'bare' cannot be used: collections:Counter is no dataclass",
    ]
    assert call(monkeypatch, "plan", "demo", "--only", "method=l1", "--tracking-uri", f"sqlite:///{tmp_path}/x.db") == 0


def test_every_field_is_listed_with_its_default_range_and_meaning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "list", "methods", "--verbose", "--json") == 0
    rows = {row["name"]: row["fields"] for row in json.loads(capsys.readouterr().out)}
    assert rows["l1"][0]["default"] == '"layer"' and rows["l1"][0]["range"] == "layer | inner | global | sensitivity"
    assert {
        "field": "temperature_start",
        "default": "1.0",
        "range": "number, > 0",
        "meaning": "T of the first step.",
    } in (rows["dais"])
    assert {f["field"]: f["default"] for f in rows["slimming"]}["strength"] == "none"
    assert all(field["meaning"] for fields in rows.values() for field in fields)
    assert call(monkeypatch, "list", "tasks", "--verbose") == 0
    out = capsys.readouterr().out
    assert re.search(r"^  val_photos +10 +whole number +Photographs that are held out", out, re.MULTILINE)
    assert re.search(r"^  dataset +required +text$", out, re.MULTILINE)
    assert call(monkeypatch, "list", "suites", "--verbose") == 2
    assert "--verbose is not allowed for 'suites'" in capsys.readouterr().err
