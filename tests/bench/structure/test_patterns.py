"""Every structural pattern is held to what its entry states."""

from __future__ import annotations

import logging

import pytest

from tests.bench.structure.examine import examine
from tests.bench.structure.patterns import PATTERNS


@pytest.fixture(autouse=True)
def _no_advice_on_compiling() -> None:
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)


def test_there_is_a_pattern_for_each_kind_of_outcome() -> None:
    assert len(PATTERNS) >= 110
    assert {entry.kind for entry in PATTERNS.values()} == {"exact", "part", "whole", "refused"}


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_is_pruned_as_it_states(name: str) -> None:
    entry = PATTERNS[name]
    assert not entry.complaint(examine(entry.make, entry.example()))
