"""`prunebench new method`: what it writes works as it stands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_a_new_method_passes_its_contract_as_it_stands(tmp_path: Path) -> None:
    for part in ("bench", "methods", "tasks"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests" / "methods").mkdir(parents=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}

    def python(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    program = "from bench.cli.app import main; main()"
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
