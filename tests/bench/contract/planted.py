"""What holds where one fault is planted."""

from __future__ import annotations


def assert_named(found: dict[str, str], name: str, reason: str) -> None:
    """One property fails, the one of this name, and says this reason."""
    assert list(found) == [name], found
    assert reason in found[name]
