"""The pages that lead a new user: their files and commands, block after block, as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.pages import blocks, install, page, run, write_programs


@pytest.fixture
def place(store: str, tmp_path: Path) -> Path:
    """A working folder with an empty store, and a folder of the two programs that the pages call."""
    write_programs(tmp_path)
    return tmp_path


def follow(name: str, place: Path, *packages: Path) -> list[str]:
    """Write the files of a page and run its commands, in their order; what each block of commands printed."""
    said: list[str] = []
    for block in blocks(page(name)):
        if block.file:
            (place / block.file).write_text(block.text)
        elif block.language == "sh":
            said.append(run(block.text, place, *packages))
            for package in packages:
                if package.is_dir() and not list(package.glob("*.dist-info")):
                    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
                    ((group, points),) = project["entry-points"].items()
                    install(package, group, *next(iter(points.items())))
    return said


def test_the_quick_start(place: Path) -> None:
    ran, again, shown, python = follow("quick-start.md", place)
    assert "3 cells: 3 missing; dense networks: 0 of 1 done; 8 epochs to train\n" in ran
    assert ran.endswith("3 cells: 3 done; dense networks: 1 of 1 done; 0 epochs to train\n")
    assert again == ""
    assert "l1" in shown and (place / "pruned" / "card.json").is_file()
    assert not (place / "pruned" / "model.onnx").exists()
    assert "| 0.50 | l1 |" in python and python.splitlines()[-1].isdigit()
    report = (place / "reports" / "first" / "README.md").read_text("utf-8")
    assert "*random*" in report and (place / "reports" / "first" / "index.html").is_file()


def test_a_method_in_ten_minutes(place: Path) -> None:
    made, checked, ran = follow("own-method.md", place, place / "spread")
    assert "prunebench_spread/__init__.py" in made
    assert "spread: every property holds" in checked and ran == ""
    report = (place / "reports" / "mine" / "README.md").read_text("utf-8")
    assert "| 0.50 | spread |" in report and "norm\\_share=0.5" in report
    source = place / "spread" / "prunebench_spread" / "__init__.py"
    rules = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--no-cache",
        "--select=E,F,I,B,UP",
        "--line-length=120",
        str(source),
    ]
    assert subprocess.run(rules, capture_output=True).returncode == 0


def test_a_task(place: Path) -> None:
    made, checked, ran = follow("own-task.md", place, place / "spot")
    assert "prunebench_spot/__init__.py" in made
    assert "spot: every property holds" in checked and ran == ""
    report = (place / "reports" / "spots" / "README.md").read_text("utf-8")
    assert "| 0.50 | l1 |" in report and "train\\_size 600" in report
    source = (place / "spot" / "prunebench_spot" / "__init__.py").read_text()
    for row in page("own-task.md").partition("| part | what it is |")[2].partition("\n\n")[0].splitlines()[2:]:
        for name in re.findall(r"`(\w+)", row.split("|")[1]):
            assert re.search(rf"\b{name}\b", source), row
