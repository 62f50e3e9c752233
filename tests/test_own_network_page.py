"""The page on networks of one's own: its files and commands, as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "own-network.md").read_text("utf-8")
BLOCK = re.compile(r"(?:<!-- file: (\S+) -->\n)?```(\w+)\n(.*?)```", re.DOTALL)


@pytest.fixture
def place(store: str, tmp_path: Path) -> Path:
    """A working folder with an empty store, and a folder of the two programs that the page calls."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, rest in {"python": "", "prunebench": " -c 'from bench.cli.app import main; main()'"}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{rest} "$@"\n')
        (programs / name).chmod(0o755)
    return tmp_path


def run(command: str, place: Path) -> str:
    environment = {**os.environ, "PATH": f"{place / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-ec", command], cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_leads_from_a_file_to_onnxruntime(place: Path) -> None:
    first, _, rest = PAGE.partition("\n## The network\n")
    blocks = BLOCK.findall(first)
    assert rest and [file for file, *_ in blocks if file] == [
        "net.py", "training.py", "own.toml", "use.py", "torch_use.py",
    ]  # fmt: skip
    for file, _, text in blocks:
        if file:
            (place / file).write_text(text)
    commands = [text for file, language, text in blocks if language == "sh"]
    said = [run(text, place) for text in commands]
    assert len(said) == 2 and said[1].splitlines() == ["(8, 10)", "torch.Size([8, 10])"]
    page = (place / "reports" / "own" / "README.md").read_text("utf-8")
    assert "net.py:make\\_net with the weights of trained.pth on digits" in page
    dense = re.search(r"The dense network has ([\d.]+) %", page)
    assert dense is not None and float(dense[1]) > 80  # the given weights, under the given normalisation


def test_one_network_in_python(place: Path) -> None:
    text = next(text for _, language, text in BLOCK.findall(PAGE) if language == "python" and "prune_to" in text)
    (place / "one.py").write_text(text)
    ratio = float(run("python one.py", place))
    assert abs(ratio - 0.5) <= 0.005 and (place / "smaller" / "architecture.json").is_file()
