"""The command line: quick to answer, clear when refused, and nothing half-written."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli.app import main

ROOT = Path(__file__).resolve().parents[2]


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["prunebench", *arguments])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize("arguments", [["--help"], ["plan", "demo"], ["list", "methods"], ["list", "models"]])
def test_answers_come_without_torch_and_in_a_second(arguments: list[str], tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from bench.cli import main\n"
        f"sys.argv = ['prunebench', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'mlflow', 'pandas', 'matplotlib', 'sklearn', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    times = []
    for _ in range(2):  # the first may have to compile
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stderr.decode()
        # Processor time: what the answer costs, however busy the machine is.
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 1.0, times
    assert list(tmp_path.iterdir()) == []


def test_plan_lists_every_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "plan", "cifar10-resnet20", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["counts"] == {"missing": 30} == {"missing": len(answer["cells"])}
    assert len(answer["dense"]) == 3
    # Dense networks, l1 and random, uniform-scratch, dense-longer (once a seed, whatever the budgets).
    assert answer["epochs_left"] == 3 * 10 + 18 * 5 + 9 * 15 + 3 * 5
    assert call(monkeypatch, "plan", "cifar10-resnet20", "--only", "method=l1", "--only", "seed=2") == 0
    text = capsys.readouterr().out
    assert "3 cells: 3 missing; dense networks: 0 of 1 done; 25 epochs to train" in text


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


REFUSED = {
    "unknown suite": (["run", "demmo"], "unknown suite 'demmo'; available: "),
    "unknown method": (["run", "demo", "--set", 'methods=["dias"]'], "unknown method 'dias'; available: "),
    "unknown field": (["run", "demo", "--set", "budget=[0.5]"], "unknown field 'budget'; allowed: "),
    "budget 0": (["run", "demo", "--set", "budgets=[0]"], "budgets.0 = 0 is not allowed"),
    "budget 1.2": (["run", "demo", "--set", "budgets=[1.2]"], "budgets.0 = 1.2 is not allowed"),
    "budget -0.5": (["run", "demo", "--set", "budgets=[-0.5]"], "budgets.0 = -0.5 is not allowed"),
    "budget nan": (["run", "demo", "--set", "budgets=[nan]"], "budgets.0 = nan is not allowed"),
    "no seeds": (["run", "demo", "--set", "seeds=[]"], "seeds = [] is not allowed"),
    "duplicate cells": (["run", "demo", "--set", "seeds=[1, 1]"], "seeds lists 1 twice"),
    "unreachable budget": (["run", "S", "--set", "budgets=[0.001]"], "budget 0.001 cannot be reached"),
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
    "unknown device": (["run", "demo", "--device", "tpu"], "unknown device 'tpu'; available: auto, cpu, cuda"),
    "nothing selected": (["run", "demo", "--only", "method=zzz"], "matches no cell"),
    "unknown list": (["list", "things"], "cannot list 'things'; available: "),
    "no store to show": (["show", "abc123"], "there is no tracking store"),
    "no cell id": (["show", "xyz"], "'xyz' is no cell id"),
    "nothing to report": (["report", "demo"], "nothing of suite 'demo' is recorded"),
    "unknown adapter": (["check", "dias"], "unknown adapter 'dias'; available: "),
    "new what": (["new", "task", "x"], "cannot make a new 'task'; available: method"),
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
    suite = (ROOT / "bench" / "suites" / "cifar10-resnet20.toml").read_text().replace("cifar10", "digits")
    (tmp_path / "suite.toml").write_text(suite.replace("train_size = 6000", ""))
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for part in ("train", "test"):
        (foreign / f"{part}.parquet").write_text("hello")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert call(monkeypatch, *[str(tmp_path / "suite.toml") if a == "S" else a for a in arguments]) == 2
    out, err = capsys.readouterr()
    assert sentence in err
    assert err.startswith("prunebench: ") and err.count("\n") == 1 and "Traceback" not in err
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


def test_a_new_method_passes_its_contract_as_it_stands(tmp_path: Path) -> None:
    for part in ("bench", "methods", "tasks"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests" / "methods").mkdir(parents=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}

    def python(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    program = "from bench.cli import main; main()"
    made = python("-c", program, "new", "method", "my-norm")
    assert made.returncode == 0, made.stderr
    assert made.stdout.split() == ["methods/my_norm.py", "tests/methods/test_my_norm.py", "methods/__init__.py"]
    listed = python("-c", program, "list", "methods")
    assert "my-norm" in listed.stdout
    checked = python("-c", program, "check", "my-norm")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "my-norm: every property holds" in checked.stdout
    tested = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/methods/test_my_norm.py")
    assert tested.returncode == 0, tested.stdout[-2000:]
    again = python("-c", program, "new", "method", "my-norm")
    assert again.returncode == 2 and "exists already" in again.stderr
