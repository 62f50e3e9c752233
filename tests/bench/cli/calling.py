"""Calls of the command line in this process."""

from __future__ import annotations

import sys

import pytest

from bench.cli.app import main


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of `prunebench ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["prunebench", *arguments])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0
