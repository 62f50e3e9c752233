"""What holds where one fault is planted."""

from __future__ import annotations

import dataclasses

from bench.contract.places import MAIN

QUICK = dataclasses.replace(MAIN, options={**MAIN.options, "image_size": 8})
"""The trial's network and data at a quarter of the pixels."""


def assert_named(found: dict[str, str], name: str, reason: str) -> None:
    """One property fails, the one of this name, and says this reason."""
    assert list(found) == [name], found
    assert reason in found[name]
