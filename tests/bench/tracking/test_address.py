"""Addresses of stores."""

from __future__ import annotations

from pathlib import Path

from bench.tracking.address import redacted, sqlite_path


def test_addresses() -> None:
    assert sqlite_path("sqlite:///mlflow.db") == Path("mlflow.db")
    assert sqlite_path("sqlite:////a/b%20c.db") == Path("/a/b c.db")
    assert redacted("http://u:p@h:1/x") == "http://***@h:1/x"
    assert redacted("http://h:1/x") == "http://h:1/x"
