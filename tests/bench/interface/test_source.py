"""The hash of a method's source: what changes it, and what does not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import methods
from bench.interface import registry
from bench.interface.source import code_of, source_files, source_hash

TEXT = '''"""A method."""

from dataclasses import dataclass  # frozen


@dataclass(frozen=True)
class Method:
    """What it does."""

    power: float = 2.0
    """The exponent # of the norm."""
    name: str = "# no comment"

    def search(self):
        """Decide."""
        # one score a channel
        return self.power  # the highest stay
'''


def test_comments_docstrings_and_blank_lines_are_no_code() -> None:
    assert code_of(TEXT).splitlines() == [
        "from dataclasses import dataclass",
        "@dataclass(frozen=True)",
        "class Method:",
        "    power: float = 2.0",
        '    name: str = "# no comment"',
        "    def search(self):",
        "        return self.power",
    ]
    assert code_of("no python (") == "no python ("


def test_a_method_of_this_project_is_its_own_file() -> None:
    assert list(source_files("methods.l1")) == ["l1.py"]
    assert len(source_hash("l1")) == 12 and source_hash("l1") != source_hash("fpgm")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of another's, with a method in one file and what it uses in another."""
    root = tmp_path / "borrowed_method"
    root.mkdir()
    (root / "__init__.py").write_text("from borrowed_method.parts import power\n\n\nclass Method:\n    power = power\n")
    (root / "parts.py").write_text("power = 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(methods.CATALOGUE, "borrowed", "borrowed_method:Method")
    registry.method_names.cache_clear()
    yield root
    registry.method_names.cache_clear()
    source_hash.cache_clear()
    for name in ("borrowed_method", "borrowed_method.parts"):
        sys.modules.pop(name, None)


def test_a_method_of_another_package_is_all_of_its_files(package: Path) -> None:
    assert list(source_files("borrowed_method")) == ["__init__.py", "parts.py"]

    def now() -> str:
        source_hash.cache_clear()
        return source_hash("borrowed")

    first = now()
    (package / "parts.py").write_text("# two\npower = 2\n\n")
    assert now() == first
    (package / "parts.py").write_text("power = 3\n")
    assert now() != first
