"""The command line: quick to answer, clear when refused, and nothing half-written."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.cli.calling import call

ROOT = Path(__file__).resolve().parents[3]


HEAVY = {"torch", "mlflow", "pandas", "matplotlib", "sklearn", "numpy"}


@pytest.mark.parametrize("arguments", [["--help"], ["plan", "demo"], ["list", "methods"], ["list", "models"]])
def test_answers_come_without_torch_and_in_a_second(arguments: list[str], tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def answered(*options: str) -> tuple[str, float]:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, *options, "-m", "prunebench", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0 and done.stdout, done.stderr
        # Processor time: what the answer costs, however busy the machine is.
        return done.stderr, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    said, _ = answered("-X", "importtime")  # the first may have to compile, and is not timed
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in said.splitlines()}
    assert "bench" in loaded and not loaded & HEAVY
    times = [answered()[1] for _ in range(2)]
    assert min(times) < (0.3 if arguments == ["--help"] else 1.0), times
    assert list(tmp_path.iterdir()) == []


REFUSED = {
    "unknown suite": (["run", "demmo"], "unknown suite 'demmo'; did you mean 'demo'? available: "),
    "unknown method": (
        ["run", "demo", "--set", 'methods=["dias"]'],
        "unknown method 'dias'; did you mean 'dais'? available: ",
    ),
    "unknown field": (
        ["run", "demo", "--set", "budget=[0.5]"],
        "unknown field 'budget'; did you mean 'budgets' or 'budget_kind'? allowed: ",
    ),
    "budget 0": (["run", "demo", "--set", "budgets=[0]"], "budgets.0 = 0 is not allowed"),
    "budget 1.2": (["run", "demo", "--set", "budgets=[1.2]"], "budgets.0 = 1.2 is not allowed"),
    "budget -0.5": (["run", "demo", "--set", "budgets=[-0.5]"], "budgets.0 = -0.5 is not allowed"),
    "budget nan": (["run", "demo", "--set", "budgets=[nan]"], "budgets.0 = nan is not allowed"),
    "no seeds": (["run", "demo", "--set", "seeds=[]"], "seeds = [] is not allowed"),
    "duplicate cells": (["run", "demo", "--set", "seeds=[1, 1]"], "seeds lists 1 twice"),
    "unreachable budget": (["run", "S", "--set", "budgets=[0.001]"], "budget 0.001 cannot be reached"),
    "nothing of that name to protect": (
        ["run", "S", "--set", 'protect=["conv9"]'],
        "cannot protect 'conv9': the network has no module of that name; did you mean 'conv1'",
    ),
    "a network of a hub": (["run", "S", "--set", "workloads.0.model=hf_hub:x/y"], "not fetched from a hub or a file"),
    "no data folder": (["run", "S", "--set", "workloads.0.dataset=cifar10"], "give --data DIR or set PRUNEBENCH_DATA"),
    "missing data folder": (
        ["run", "S", "--set", "workloads.0.dataset=cifar10", "--data", "absent"],
        "data folder absent does not exist",
    ),
    "foreign data": (
        ["run", "S", "--set", "workloads.0.dataset=cifar10", "--data", "foreign"],
        "not a readable parquet",
    ),
    "unknown timm network": (
        ["run", "S", "--set", "workloads.0.model=timm:nonsense"],
        "timm has no network 'nonsense'",
    ),
    "unreachable server": (
        ["run", "demo", "--tracking-uri", "http://127.0.0.1:9"],
        "tracking server http://127.0.0.1:9",
    ),
    "store in no folder": (["run", "S", "--tracking-uri", "sqlite:///absent/m.db"], "cannot be written"),
    "output is a file": (["run", "demo", "--out", "suite.toml/x"], "suite.toml is a file"),
    "no jobs": (["run", "demo", "--jobs", "0"], "--jobs 0 is not allowed"),
    "unknown executor": (["run", "demo", "--executor", "kubernetes"], "unknown executor 'kubernetes'; available: "),
    "unknown device": (
        ["run", "demo", "--device", "tpu"],
        "unknown device 'tpu'; did you mean 'cpu'? available: auto, cpu, cuda",
    ),
    "nothing selected": (["run", "demo", "--only", "method=zzz"], "matches no cell"),
    "unknown list": (["list", "things"], "cannot list 'things'; available: "),
    "no store to show": (["show", "abc123"], "there is no tracking store"),
    "no cell id": (["show", "xyz"], "'xyz' is no cell id"),
    "nothing to report": (["report", "demo"], "nothing of suite 'demo' is recorded"),
    "unknown adapter": (["check", "dias"], "unknown adapter 'dias'; did you mean 'dais'? available: "),
    "new what": (["new", "suite", "x"], "cannot make a new 'suite'"),
    "bad method name": (["new", "method", "My Method"], "name 'My Method' is not allowed"),
    "merge nothing": (["merge", "absent.jsonl", "absent.jsonl", "--out", "m"], "absent.jsonl"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_request_gets_one_sentence_and_writes_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, sentence = REFUSED[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PRUNEBENCH_DATA", raising=False)
    suite = (ROOT / "bench" / "runs" / "suites" / "cifar10-resnet20.toml").read_text().replace("cifar10", "digits")
    (tmp_path / "suite.toml").write_text(suite.replace("train_size = 3000", ""))
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for part in ("train", "test"):
        (foreign / f"{part}.parquet").write_text("hello")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert call(monkeypatch, *[str(tmp_path / "suite.toml") if a == "S" else a for a in arguments]) == 2
    out, err = capsys.readouterr()
    *steps, last = err.splitlines()
    assert sentence in last and last.startswith("prunebench: ")
    assert all(re.fullmatch(r"[\w.-]+: (reading|loading|trying) .* …", step) for step in steps), steps
    assert out == ""
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "run", "demo", "--out", "locked/x") == 2


def test_a_wrong_option_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "run", "demo", "--sede", "3") == 2
    assert "--sede" in capsys.readouterr().err
