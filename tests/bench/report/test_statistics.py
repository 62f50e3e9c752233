import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench.report.statistics import (
    Sample,
    average_ranks,
    friedman_p,
    holm,
    paired_p,
    rank_test,
    studentized_range_quantile,
)


def test_sample_of_three_by_hand():
    sample = Sample((1.0, 2.0, 6.0))
    assert sample.mean == 3.0
    assert sample.std == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    # t(0.975, 2) = 4.302653
    assert sample.interval == pytest.approx(4.302653 * math.sqrt(7) / math.sqrt(3), rel=1e-6)


def test_one_seed_has_no_spread():
    assert Sample((5.0,)).mean == 5.0
    assert Sample((5.0,)).std is None
    assert Sample((5.0,)).interval is None
    assert Sample(()).mean is None


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.04 times 3, 2, 1: 0.03, 0.04, 0.04.
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    # A later one is never smaller than an earlier one: 0.02·2 = 0.04 before 0.03·1.
    assert holm([0.02, 0.03]) == pytest.approx([0.04, 0.04])
    assert holm([0.6, 0.7]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_by_its_definition(p_values: list[float]):
    """The largest of all p-values up to one's own, each times the number of those that are not smaller."""
    smallest_first = sorted(p_values)
    steps = [(len(p_values) - place) * p for place, p in enumerate(smallest_first)]
    for raw, adjusted in zip(p_values, holm(p_values), strict=True):
        up_to = len(smallest_first) - smallest_first[::-1].index(raw)
        assert adjusted == pytest.approx(min(1.0, max(steps[:up_to])))
        assert raw <= adjusted <= min(1.0, raw * len(p_values))


def test_paired_p_agrees_with_scipy_on_common_seeds():
    one, other = {0: 91.0, 1: 92.5, 2: 90.1, 7: 1.0}, {0: 90.2, 1: 92.1, 2: 89.9}
    expected = stats.ttest_rel([91.0, 92.5, 90.1], [90.2, 92.1, 89.9]).pvalue
    assert paired_p(one, other) == pytest.approx(expected)


def test_what_cannot_be_tested_has_no_p():
    assert paired_p({0: 1.0}, {0: 2.0}) is None
    assert paired_p({0: 1.0, 1: 2.0}, {2: 1.0, 3: 2.0}) is None
    # Equal differences come of a small test split; a variance of zero would make any difference significant.
    assert paired_p({0: 2.0, 1: 3.0, 2: 4.0}, {0: 1.0, 1: 2.0, 2: 3.0}) is None


def test_ranks_share_places():
    assert average_ranks([90.0, 95.0, 95.0, 80.0], higher_is_better=True) == [3.0, 1.5, 1.5, 4.0]
    assert average_ranks([0.1, 0.3, 0.2], higher_is_better=False) == [1.0, 3.0, 2.0]


@given(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=3, max_size=8))
def test_friedman_agrees_with_scipy(values: list[list[int]]):
    ranks = [average_ranks(row, higher_is_better=False) for row in values]
    if all(len(set(row)) == 1 for row in values):
        assert friedman_p(ranks) == 1.0
    else:
        expected = stats.friedmanchisquare(*zip(*values, strict=True)).pvalue
        assert friedman_p(ranks) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("methods", [2, 3, 5, 10, 30])
def test_the_studentized_range_agrees_with_scipy(methods: int):
    assert studentized_range_quantile(methods) == pytest.approx(stats.studentized_range.isf(0.05, methods, math.inf))


def test_critical_difference_of_demsar_2006():
    # Demšar, JMLR 7 (2006), section 3.2.2: four classifiers, fourteen data sets, q = 2.569, CD = 1.25.
    ranks = [[4.0, 3.0, 2.0, 1.0]] * 13 + [[3.0, 4.0, 2.0, 1.0]]
    test = rank_test(["a", "b", "c", "d"], ranks)
    assert test.critical_difference == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), abs=1e-3)
    assert test.critical_difference == pytest.approx(1.25, abs=5e-3)
    assert test.cliques() == [("d", "c"), ("c", "b"), ("b", "a")]
    assert test.friedman_p < 1e-6
