"""The page on networks of one's own: its files and commands, as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pages import blocks, page, run, write_programs

PAGE = page("own-network.md")


@pytest.fixture
def place(store: str, tmp_path: Path) -> Path:
    """A working folder with an empty store, and a folder of the two programs that the page calls."""
    write_programs(tmp_path)
    return tmp_path


def test_the_page_leads_from_a_file_to_onnxruntime(place: Path) -> None:
    first, _, rest = PAGE.partition("\n## The network\n")
    found = blocks(first)
    assert rest and [block.file for block in found if block.file] == [
        "net.py", "training.py", "own.toml", "use.py", "torch_use.py",
    ]  # fmt: skip
    for block in found:
        if block.file:
            (place / block.file).write_text(block.text)
    said = [run(block.text, place) for block in found if block.language == "sh"]
    assert len(said) == 2 and said[1].splitlines() == ["(8, 10)", "torch.Size([8, 10])"]
    report = (place / "reports" / "own" / "README.md").read_text("utf-8")
    assert "net.py:make\\_net with the weights of trained.pth on digits" in report
    dense = re.search(r"The dense network has ([\d.]+) %", report)
    assert dense is not None and float(dense[1]) > 80  # the given weights, under the given normalisation


def test_one_network_in_python(place: Path) -> None:
    text = next(block.text for block in blocks(PAGE) if block.language == "python" and "prune_to" in block.text)
    (place / "one.py").write_text(text)
    ratio = float(run("python one.py", place))
    assert abs(ratio - 0.5) <= 0.005 and (place / "smaller" / "architecture.json").is_file()
