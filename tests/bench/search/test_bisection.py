"""Bisection: the nearest argument of rising and falling steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.search.bisection import nearest


@pytest.mark.parametrize(("target", "found"), [(0, 0), (8, 3), (13, 4), (12.4, 3), (12.6, 4), (30, 5), (-3, 0)])
def test_whole_numbers_by_hand(target: float, found: int) -> None:
    """Squares of 0 … 5; 12.5 lies half-way between 9 and 16."""
    assert nearest(lambda n: n * n, target, 0, 5) == found
    assert nearest(lambda n: -n * n, -target, 0, 5) == found


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=50), st.integers(-10, 1010), st.booleans())
def test_no_whole_number_comes_nearer(values: list[int], target: int, rising: bool) -> None:
    values.sort(reverse=not rising)
    found = nearest(values.__getitem__, target, 0, len(values) - 1)
    assert abs(values[found] - target) == min(abs(value - target) for value in values)


def test_a_step_function_of_a_share_is_met_on_its_nearer_side() -> None:
    """Channels kept of 10: 3.5 lies between 0.35 and the next float, 4 of 10 are the nearer of 3 and 4 to 3.9."""
    assert round(10 * nearest(lambda share: round(10 * share), 3.9, 0.0, 1.0)) == 4
    assert round(10 * nearest(lambda share: round(10 * share), 3.1, 0.0, 1.0)) == 3
    assert nearest(lambda share: 2 * share, 0.5, 0.0, 1.0) == pytest.approx(0.25, abs=1e-9)
