"""A working folder for whole runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.runs.tiny import SUITE


@pytest.fixture
def place(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a suite file and a store."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(SUITE)
    return tmp_path
