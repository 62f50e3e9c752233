"""Pages of docs/ whose code is run as it stands: their blocks, and the two programs that they call."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.warm import python

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(?:<!-- file: (\S+) -->\n)?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fence of a page."""

    file: str
    """Where its text belongs, below the reader's folder; empty where it is no file."""
    language: str
    text: str


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


def blocks(text: str) -> list[Block]:
    return [Block(*found) for found in BLOCK.findall(text)]


def write_programs(place: Path) -> None:
    """`python` and `prunebench` in `place/bin`: those of this project, whatever is installed. Figures are dots."""
    programs = place / "bin"
    programs.mkdir()
    for name, given in {"python": (), "prunebench": ("-c", "from bench.cli.program import main; main()")}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.join(python(*given, drawn=False))} "$@"\n')
        (programs / name).chmod(0o755)


def run(command: str, place: Path, *packages: Path) -> str:
    """What a command prints in the folder of a reader who has installed some packages of his own.

    Raises:
        AssertionError: the command failed; with all that it printed.
    """
    path = os.pathsep.join(map(str, (*packages, ROOT)))
    environment = {**os.environ, "PATH": f"{place / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": path}
    done = subprocess.run(["sh", "-ec", command], cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def install(package: Path, group: str, name: str, place: str) -> None:
    """Register a new package as pip would, but for the copying: its metadata and entry point."""
    info = package / f"{place.partition(':')[0]}-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: prunebench-{name}\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {place}\n")
