"""The commands as a whole: their help, version, completion, and what is said of a name that is none."""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import __version__
from bench.cli.app import COMMANDS, summary
from tests.bench.cli.calling import call

ROOT = Path(__file__).resolve().parents[3]
RUN = "Run every cell of the suite that is not yet recorded, then write the report."


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_of_a_command_is_its_docstring(name: str) -> None:
    module, _, function = COMMANDS[name].partition(":")
    documented = inspect.getdoc(getattr(importlib.import_module(module), function)) or ""
    assert summary(COMMANDS[name]) == " ".join(documented.split("\n\n")[0].split()) != ""


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_has_whole_lines(option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, option) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert RUN in text and text.count("...") == 1  # of the usage: [ARGS]...
    assert call(monkeypatch, "run", option) == 0
    assert "Usage: prunebench run [OPTIONS]" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--version", "-v"])
def test_version(option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, option) == 0
    assert capsys.readouterr().out == f"prunebench {__version__}\n"


@pytest.mark.parametrize("given, near", [("rnu", "run"), ("reprot", "report"), ("list-methods", "list")])
def test_a_command_that_is_none(
    given: str, near: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, given) == 2
    assert capsys.readouterr().err.startswith(f"prunebench: unknown command {given!r}; did you mean {near!r}")


def module(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m prunebench ARGUMENTS`."""
    return subprocess.run(
        [sys.executable, "-m", "prunebench", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
    )


def test_shells_complete_commands(tmp_path: Path) -> None:
    done = module(cwd=tmp_path, _PRUNEBENCH_COMPLETE="complete_bash", COMP_WORDS="prunebench re", COMP_CWORD="1")
    assert done.stdout.split() == ["report"]


def test_a_file_of_the_users_with_the_name_of_a_package_is_not_in_the_way(tmp_path: Path) -> None:
    for name in ("tasks", "methods"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not this one')")
    done = module("list", "tasks", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and "classification" in done.stdout


def test_what_is_typed_for_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for set_ in ("methods=[fpgm,l1]", "methods=fpgm,l1", 'methods=["fpgm", "l1"]', "methods = [fpgm, l1]"):
        assert call(monkeypatch, "plan", "cifar10-resnet20", "--set", set_, "--only", "method=l1,fpgm") == 0
        assert "18 cells: 18 missing" in capsys.readouterr().out
    one = ("--set", "methods=fpgm", "--set", "controls=[]", "--set", "seeds=0", "--set", "budgets=0.5")
    assert call(monkeypatch, "plan", "cifar10-resnet20", *one) == 0
    assert "1 cells: 1 missing" in capsys.readouterr().out


NEAR = {
    "a method": (("plan", "demo", "--set", "methods=l2"), "unknown method 'l2'; did you mean 'l1' or 'group-l2'?"),
    "a longer name": (
        ("plan", "demo", "--set", "methods=network-sliming"),
        "unknown method 'network-sliming'; did you mean 'slimming'?",
    ),
    "epochs": (
        ("plan", "demo", "--set", "workloads.0.epochs.serch=3"),
        "workload digits-resnet8: unknown field 'workloads.0.epochs.serch'; did you mean 'search'?",
    ),
    "a recipe": (
        ("plan", "demo", "--set", "workloads.0.train.lrr=3"),
        "workload digits-resnet8: workloads.train: unknown field 'lrr'; did you mean 'lr'?",
    ),
    "a hyper-parameter": (
        ("plan", "demo", "--set", "method.l1.scop=layer"),
        "method 'l1' has no field 'scop'; did you mean 'scope'?",
    ),
    "a network": (
        ("plan", "demo", "--set", "workloads.0.model=resnt8"),
        "workload digits-resnt8: unknown model 'resnt8'; did you mean 'resnet8'",
    ),
    "a key": (("plan", "demo", "--only", "methd=l1"), "did you mean 'method'? use KEY=VALUE"),
    "a value": (
        ("plan", "demo", "--only", "method=l1,tsa"),
        "--only method=tsa matches no cell of this suite; did you mean 'tas'?",
    ),
    "an adapter": (("check", "l2"), "unknown adapter 'l2'; did you mean 'l1' or 'group-l2'?"),
    "a list": (("list", "method"), "cannot list 'method'; did you mean 'methods'?"),
    "an executor": (("run", "demo", "--executor", "slurn"), "unknown executor 'slurn'; did you mean 'slurm'?"),
}


@pytest.mark.parametrize("name", NEAR)
def test_near_names(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, sentence = NEAR[name]
    assert call(monkeypatch, *arguments) == 2
    assert sentence in capsys.readouterr().err


def test_a_module_of_the_users_that_is_imported_already_is_named(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("")
    script = (
        "import tasks, prunebench\ntry:\n    prunebench.run\nexcept prunebench.RequestError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert f"prunebench has a package 'tasks', and {tmp_path}/tasks.py is imported under that name" in done.stdout
