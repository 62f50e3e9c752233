import math

import numpy as np
import pytest
from scipy import stats

from bench.report.matrix import build
from bench.report.power import planned_spreads, pooled_spreads, seeds_needed, smallest_difference, spreads
from tests.bench.report import synthetic


@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_seeds_for_effects_of_cohen(effect: float, seeds: int):
    """Sample sizes of a paired t-test, two-sided 5 %, power 0.8, as G*Power and R's power.t.test give them."""
    assert seeds_needed(1.0, effect) == seeds
    assert smallest_difference(1.0, seeds) <= effect < smallest_difference(1.0, seeds - 1)


def test_the_difference_is_in_units_of_the_spread():
    assert smallest_difference(0.5, 5) == pytest.approx(0.5 * smallest_difference(1.0, 5))
    assert smallest_difference(1.0, 5) == pytest.approx(1.682, abs=1e-3)
    assert smallest_difference(1.0, 3) == pytest.approx(3.264, abs=1e-3)


def test_a_difference_of_that_size_is_found_in_four_of_five_studies():
    drawn = np.random.default_rng(0).normal(smallest_difference(1.0, 3), 1.0, size=(40_000, 3))
    t = drawn.mean(axis=1) / (drawn.std(axis=1, ddof=1) / math.sqrt(3))
    found = abs(t) > stats.t.ppf(0.975, 2)
    assert found.mean() == pytest.approx(0.8, abs=0.01)


def test_one_seed_shows_nothing_and_no_spread_needs_the_fewest():
    assert smallest_difference(1.0, 1) == math.inf
    assert (seeds_needed(0.0, 1.0), smallest_difference(0.0, 2)) == (2, 0.0)
    with pytest.raises(ValueError, match="must be positive"):
        seeds_needed(1.0, 0.0)


def test_the_spread_is_pooled_over_pairs_by_hand():
    # gdp − l1: 1, 2, 3 (variance 1); gdp − random: 2, 2, 5 (3); l1 − random: 1, 0, 2 (1). Pooled: 5 / 3.
    finals = {"gdp": [93.0, 94.0, 97.0], "l1": [92.0, 92.0, 94.0], "random": [91.0, 92.0, 92.0]}
    (found,) = pooled_spreads(synthetic.results(finals))
    assert (found.workload, found.protocol, found.pairs, found.seeds, found.point) == (
        "digits-resnet8", "matched", 3, 3, 1.0
    )  # fmt: skip
    assert found.spread == pytest.approx(math.sqrt(5 / 3))
    assert found.smallest == pytest.approx(math.sqrt(5 / 3) * 3.26404, rel=1e-4)
    assert found.seeds_for_a_point == seeds_needed(math.sqrt(5 / 3), 1.0)


def test_longer_series_count_for_more():
    # gdp − l1 over three seeds: 1, 2, 3; at the other budget over two: 0, 4 (variance 8). Pooled: (2·1 + 1·8) / 3.
    records = synthetic.results({"gdp": [93.0, 94.0, 97.0], "l1": [92.0, 92.0, 94.0]})
    records += synthetic.results({"gdp": [90.0, 94.0], "l1": [90.0, 90.0]}, budget=0.25)
    (found,) = pooled_spreads(records)
    assert found.spread == pytest.approx(math.sqrt(10 / 3))
    assert found.seeds == 2


def test_what_cannot_be_paired_has_no_spread():
    assert pooled_spreads([]) == []
    assert pooled_spreads(synthetic.results({"gdp": [93.0], "l1": [92.0]})) == []
    assert spreads(build(synthetic.results({"gdp": [93.0, 94.0], "gdp blind": [92.0, 92.0]}), suite="s")) == []


def test_the_spread_of_planned_cells_is_that_of_their_report():
    finals = {"gdp": [93.0, 94.0, 97.0], "l1": [92.0, 92.0, 94.0], "random": [91.0, 92.0, 92.0]}
    records = synthetic.results(finals)
    cells = [record.config for record in records]
    recorded = {record.cell_id: record.final_metrics["accuracy"] for record in records}
    (found,) = planned_spreads(cells, recorded)
    (reported,) = pooled_spreads(records)
    assert found == reported
    # Two of three seeds recorded: gdp − l1 is 1, 2; gdp − random 2, 2; l1 − random 1, 0. Three are planned.
    early = {record.cell_id: recorded[record.cell_id] for record in records if record.config.seed < 2}
    (found,) = planned_spreads(cells, early)
    assert found.spread == pytest.approx(math.sqrt((0.5 + 0 + 0.5) / 3))
    assert (found.seeds, found.pairs) == (3, 3)
    assert planned_spreads(cells, {}) == []
