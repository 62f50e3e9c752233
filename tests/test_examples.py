"""The examples, as somebody else would use them: installed, tested and run outside of the checkout, without network."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sysconfig
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import warm

Called = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
PROGRAM = "from bench.cli.program import main; main()"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python of its own that has what this one has, and the example's package installed by pip."""
    import venv

    root = tmp_path_factory.mktemp("environment")
    venv.create(root / "venv", with_pip=False, symlinks=True)
    python = root / "venv" / "bin" / "python"
    (site,) = (root / "venv").glob("lib/python*/site-packages")
    (site / "this-one.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    shutil.copytree(EXAMPLES / "lab", root / "lab", ignore=shutil.ignore_patterns("__pycache__"))
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    done = call(python, "-m", "pip", "install", "--quiet", *offline, str(root / "lab"), cwd=root)
    assert done.returncode == 0, done.stderr
    assert (site / "prunebench_lab" / "denoising.py").is_file()
    return python


@pytest.fixture
def place(store: str, environment: Path, tmp_path: Path) -> Path:
    """A working folder with an empty store, and with the suite alone of the example."""
    shutil.copy(EXAMPLES / "lab" / "suite.toml", tmp_path)
    return tmp_path


def call(python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([str(python), *arguments], cwd=cwd, env=variables, capture_output=True, text=True)


def call_warm(python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The same, with what that Python has installed, in a process that has the project loaded."""
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    variables = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(site)}
    return subprocess.run(warm.python(*arguments, drawn=False), cwd=cwd, env=variables, capture_output=True, text=True)


def prunebench(python: Path, *arguments: str, cwd: Path, called: Called = call_warm) -> str:
    done = called(python, "-c", PROGRAM, *arguments, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_adapters_are_listed_with_their_settings(environment: Path, tmp_path: Path) -> None:
    methods = prunebench(environment, "list", "methods", "--verbose", cwd=tmp_path, called=call)
    assert "Remove the channels whose activations are smallest on average." in methods and "images" in methods
    assert "denoising" in prunebench(environment, "list", "tasks", cwd=tmp_path, called=call)


@pytest.mark.parametrize("name", ["mean-activation", "denoising"])
def test_its_adapters_hold_the_contract(name: str, environment: Path, tmp_path: Path) -> None:
    how, quick = (call, ["--quick"]) if name == "mean-activation" else (call_warm, [])
    assert f"{name}: every property holds" in prunebench(environment, "check", name, *quick, cwd=tmp_path, called=how)


def test_its_own_tests_pass(environment: Path, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "lab" / "tests", tmp_path / "tests")
    done = call_warm(
        environment, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not contract", "tests", cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert re.search(r"^[5-9] passed", done.stdout, re.MULTILINE)


def test_its_suite_runs_and_its_method_stands_in_the_report(environment: Path, place: Path) -> None:
    small = [
        "--only",
        "method=l1,mean-activation",
        "--set",
        "workloads.0.epochs={dense=2,recovery=1}",
        "--set",
        "workloads.0.train_size=64",
    ]
    prunebench(environment, "run", "suite.toml", *small, "--out", "reports/lab", "--quiet", cwd=place)
    report = place / "reports" / "lab"
    with (report / "tables" / "main.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert {"l1", "mean-activation"} <= set(rows)
    assert float(rows["mean-activation"]["final_mean"]) > 0 and rows["mean-activation"]["metric"] == "psnr"
    text = (report / "README.md").read_text()
    assert "mean-activation" in text and "noisy image 2" in text  # the reference, 20 dB
    assert "mean-activation" in (report / "index.html").read_text()
    assert list((report / "figures").glob("samples*.png"))
    assert "everything agrees" in prunebench(environment, "audit", "reports/lab", cwd=place)


def test_the_entry_points_are_those_of_the_classes() -> None:
    project = tomllib.loads((EXAMPLES / "lab" / "pyproject.toml").read_text())["project"]
    assert project["entry-points"] == {
        "prunebench.methods": {"mean-activation": "prunebench_lab.mean_activation:MeanActivation"},
        "prunebench.tasks": {"denoising": "prunebench_lab.denoising:Denoising"},
    }


def test_a_network_of_ones_own_is_pruned_and_exported_from_python(tmp_path: Path) -> None:
    folder = shutil.copytree(EXAMPLES / "own-network", tmp_path / "own", ignore=shutil.ignore_patterns("__pycache__"))
    said = []
    for script in ("make_weights.py", "prune.py"):
        variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(warm.python(script), cwd=folder, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    numbers = [float(number) for number in re.findall(r"(\d+\.\d+(?:e-\d+)?)", said[1])]
    kept, dense, _, recovered, error = numbers
    assert abs(kept - 0.5) <= 0.005 and dense > 90 and recovered > 85 and error < 1e-4
    assert f"{dense} %" in said[0]
    assert {path.name for path in (folder / "pruned").iterdir()} >= {"model.safetensors", "model.onnx"}
