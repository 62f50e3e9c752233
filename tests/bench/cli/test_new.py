"""`prunebench new`: what it writes works as it stands, in a checkout and as a package of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli.new import new
from bench.errors import RequestError
from tests import warm

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = "from bench.cli.program import main; main()"


def call(command: list[str], cwd: Path, path: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def python(*arguments: str, cwd: Path, path: Path) -> subprocess.CompletedProcess[str]:
    return call([sys.executable, *arguments], cwd, path)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, with a method and a task that were made in it."""
    root = tmp_path_factory.mktemp("checkout")
    for part in ("bench", "methods", "tasks"):
        shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    for kind, name, file in (("method", "my-norm", "my_norm"), ("task", "my-spot", "my_spot")):
        made = python("-c", PROGRAM, "new", kind, name, cwd=root, path=root)
        assert made.returncode == 0, made.stderr
        files, _, steps = made.stdout.partition("\n\nnext:\n")
        assert files.split() == [f"{kind}s/{file}.py", f"tests/{kind}s/test_{file}.py", f"{kind}s/__init__.py"]
        assert f"prunebench check {name}" in steps and f"python -m pytest tests/{kind}s/test_{file}.py" in steps
    return root


@pytest.mark.parametrize(("kind", "name"), [("method", "my-norm"), ("task", "my-spot")])
def test_what_is_new_in_a_checkout_passes_its_contract(checkout: Path, kind: str, name: str) -> None:
    listed = python("-c", PROGRAM, "list", f"{kind}s", cwd=checkout, path=checkout)
    assert name in listed.stdout
    checked = python("-c", PROGRAM, "check", name, "--quick", cwd=checkout, path=checkout)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{name}: every property holds" in checked.stdout
    again = python("-c", PROGRAM, "new", kind, name, cwd=checkout, path=checkout)
    assert again.returncode == 2 and "exists already" in again.stderr


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is no checkout, with a package of each kind."""
    root = tmp_path_factory.mktemp("packages")
    for kind, name in (("method", "my-norm"), ("task", "my-spot")):
        new(kind, name, root)
    return root


@pytest.mark.parametrize(
    ("kind", "name", "module", "cls"),
    [("method", "my-norm", "prunebench_my_norm", "MyNorm"), ("task", "my-spot", "prunebench_my_spot", "MySpot")],
)
def test_a_package_registers_itself_and_passes(packages: Path, kind: str, name: str, module: str, cls: str) -> None:
    """As pip would install it, but for the copying: the entry point that its pyproject.toml states."""
    import tomllib

    project = tomllib.loads((packages / name / "pyproject.toml").read_text())["project"]
    assert project["entry-points"] == {f"prunebench.{kind}s": {name: f"{module}:{cls}"}}
    assert project["readme"] == "README.md" and (packages / name / "README.md").is_file()
    info = packages / name / f"{module}-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(f"[prunebench.{kind}s]\n{name} = {module}:{cls}\n")
    path = Path(f"{packages / name}{os.pathsep}{ROOT}")
    tested = call(warm.python("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"), packages / name, path)
    assert tested.returncode == 0, tested.stdout[-2000:] + tested.stderr[-2000:]


def test_skeletons_pass_lint_and_types(packages: Path) -> None:
    for arguments in (("ruff", "check", "--no-cache", "."), ("ruff", "format", "--no-cache", "--check", ".")):
        for name in ("my-norm", "my-spot"):
            done = python("-m", *arguments, cwd=packages / name, path=ROOT)
            assert done.returncode == 0, done.stdout + done.stderr
    config = packages / "pyrightconfig.json"
    config.write_text(f'{{"extraPaths": ["{ROOT}"], "typeCheckingMode": "standard"}}')
    arguments = ("-m", "pyright", "-p", str(config), "--pythonpath", sys.executable)
    done = python(*arguments, cwd=packages, path=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("kind", "name", "sentence"),
    [
        ("metric", "x", "cannot make a new 'metric'; available: method, task"),
        ("method", "My_Norm", "name 'My_Norm' is not allowed; use lower-case letters, digits and single dashes"),
        ("method", "l1", "a method named 'l1' exists already"),
        ("task", "classification", "a task named 'classification' exists already"),
        ("method", "my-norm", "my-norm exists already; --in DIR makes the package in another folder"),
    ],
)
def test_what_cannot_be_made_is_refused(packages: Path, kind: str, name: str, sentence: str) -> None:
    with pytest.raises(RequestError) as error:
        new(kind, name, packages)
    assert sentence in str(error.value)


def test_it_says_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new("method", "my-norm", tmp_path)
    files, steps = capsys.readouterr().out.split("\n\nnext:\n")
    assert [Path(line).is_file() for line in files.splitlines()] == [True] * 4
    root, source = tmp_path / "my-norm", tmp_path / "my-norm" / "prunebench_my_norm" / "__init__.py"
    assert steps.splitlines() == [
        f"  pip install -e {root}     # in the environment that has prunebench",
        "  prunebench check my-norm     # passes as it stands",
        f"  change search() in {source}, then check again",
        f"  python -m pytest {root / 'tests'}     # needs pytest; say there what holds for yours",
        '  prunebench run demo --set \'methods=["l1", "my-norm"]\' --only workload=digits-resnet8',
    ]


def test_a_name_that_the_file_has_already_makes_no_class_of_that_name(tmp_path: Path) -> None:
    for kind, name, cls in (("method", "found", "FoundMethod"), ("task", "none", "NoneTask")):
        new(kind, name, tmp_path)
        source = (tmp_path / name / f"prunebench_{name}" / "__init__.py").read_text()
        assert f"class {cls}:" in source
        compile(source, name, "exec")
