"""The package that users import: every name is there, and none costs before it is used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bench
import prunebench

ROOT = Path(__file__).resolve().parent.parent


def test_every_name_resolves() -> None:
    names = dir(prunebench)
    assert {"run", "read", "read_records", "budget", "Result", "PruningGraph", "prune", *bench.__all__} <= set(names)
    assert all(getattr(prunebench, name) is not None for name in names)
    assert prunebench.__version__ == bench.__version__
    from bench.search.fit import fit

    assert prunebench.budget.fit is fit


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match=r"module 'prunebench' has no attribute 'prun'; available: "):
        prunebench.prun  # noqa: B018


def test_importing_loads_nothing_heavy(tmp_path: Path) -> None:
    script = (
        "import sys, prunebench\n"
        "assert not {'torch', 'mlflow', 'pandas', 'numpy', 'pydantic', 'typer', 'rich'} & set(sys.modules)\n"
        "prunebench.run\n"
        "assert not {'torch', 'mlflow', 'pandas', 'numpy'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_readmes_snippet_runs_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "README.md").read_text("utf-8").partition("## The engine alone")[2]
    (snippet,) = re.findall(r"```python\n(.*?)```", text.partition("\n## ")[0], re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(snippet, "README.md", "exec"), names)
    smaller, graph, example = names["smaller"], names["graph"], names["example"]
    assert isinstance(graph, prunebench.PruningGraph)
    assert 0 < prunebench.count_macs(smaller, example) < graph.macs()  # pyright: ignore
    assert capsys.readouterr().out


def test_no_process_says_that_a_cuda_toolkit_without_a_gpu_is_of_no_use(capfd: pytest.CaptureFixture[str]) -> None:
    """torch logs it in every process that loads its extensions; what else that logger says is heard."""
    script = (
        "import logging, os, bench\n"
        "os.environ['CUDA_HOME'] = '/'\n"
        "from torch.utils import cpp_extension\n"
        "cpp_extension._find_cuda_home()\n"
        "logging.getLogger('torch.utils.cpp_extension').warning('something else')\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    said = capfd.readouterr().err
    assert "something else" in said and "No CUDA runtime" not in said
