import time

import numpy as np
import pytest

from bench.interface.outcomes import Kind, metric, packed
from bench.interface.record import Record
from bench.report.matrix import build
from bench.report.records import ReportError
from bench.report.resampling import RESAMPLES, SampleBootstrap, replicates, resample_weights
from tests.bench.report import synthetic


def with_outcomes(kind: Kind, arrays: dict[str, list[np.ndarray]]) -> list[Record]:
    """Records of a budget, by method and seed, whose test samples came out like this."""
    finals = {method: [float(metric(kind, array)) for array in of_seed] for method, of_seed in arrays.items()}
    records = synthetic.results(finals)
    for record in records:
        record.outcomes = packed(kind, arrays[record.cell["method"]][record.cell["seed"]])
    return records


def interval(records: list[Record]) -> tuple[float, float] | None:
    made = build(records, suite="s")
    return made.bootstrap.interval(*(synthetic.entry_of(records, name) for name in ("gdp", "l1")))


def test_every_resample_has_as_many_samples_as_the_test_set():
    parts = list(resample_weights(30_000))
    assert sum(len(part) for part in parts) == RESAMPLES and len(parts) > 1
    assert all((part.sum(1) == 30_000).all() for part in parts)


@pytest.mark.parametrize("kind", ["correct", "mean", "iou"])
def test_replicates_are_the_metric_of_the_resampled_set(kind: Kind):
    generator = np.random.default_rng(0)
    shape = (50, 2, 3) if kind == "iou" else (50,)
    array = generator.integers(0, 2 if kind == "correct" else 90, size=shape)
    ((cell_id, found),) = replicates(with_outcomes(kind, {"gdp": [array]}))
    weights = np.concatenate(list(resample_weights(50)))
    assert found.shape == (RESAMPLES,) and len(cell_id) == 12
    drawn = np.repeat(np.arange(50), weights[7].astype(int))
    assert found[7] == pytest.approx(float(metric(kind, array[drawn])), rel=1e-6)


def test_the_interval_is_that_of_the_mean_over_seeds_by_the_normal_approximation():
    """Differences d of single samples, averaged over seeds: mean d ± 1.96 · 100 · std(d) / √n."""
    generator = np.random.default_rng(1)
    ours = [generator.random(2_000) < 0.9 for _ in range(3)]
    theirs = [generator.random(2_000) < 0.8 for _ in range(3)]
    found = interval(with_outcomes("correct", {"gdp": ours, "l1": theirs}))
    assert found is not None
    gaps = 100 * np.mean([a.astype(float) - b for a, b in zip(ours, theirs, strict=True)], axis=0)
    half = 1.96 * gaps.std() / 2_000**0.5
    assert found == pytest.approx((gaps.mean() - half, gaps.mean() + half), abs=0.1 * half)


def test_the_resample_is_the_same_for_both_networks():
    """Two networks that fail on the same samples but one differ by that one alone, whatever is drawn."""
    easy = np.arange(100) < 60
    other = easy.copy()
    other[0] = False
    found = interval(with_outcomes("correct", {"gdp": [easy, easy], "l1": [other, other]}))
    assert found is not None
    assert found[0] == 0.0 and 2.0 <= found[1] <= 4.0


def test_only_common_outcomes_are_compared():
    right, wrong = np.ones(10, bool), np.zeros(10, bool)
    records = with_outcomes("correct", {"gdp": [right, right], "l1": [right, wrong]})
    records[3].outcomes = None
    assert interval(records) == (0.0, 0.0)
    records[2].data_fingerprint = "another test set"
    with pytest.raises(ReportError, match="were made with different data and cannot share a table"):
        interval(records)
    assert interval(synthetic.results({"gdp": [92.0], "l1": [91.0]})) is None


def test_outcomes_that_are_damaged_are_left_out():
    records = with_outcomes("correct", {"gdp": [np.ones(9, bool)], "l1": [np.zeros(9, bool)]})
    assert records[0].outcomes is not None
    records[0].outcomes = records[0].outcomes.model_copy(update={"data": "AAAA"})
    assert interval(records) is None
    assert [cell_id for cell_id, _ in replicates(records)] == [records[1].cell_id]


def test_ten_thousand_samples_and_five_seeds_take_less_than_a_second():
    generator = np.random.default_rng(2)
    arrays = {name: [generator.random(10_000) < 0.9 for _ in range(5)] for name in ("gdp", "l1")}
    made = build(with_outcomes("correct", arrays), suite="s")
    start = time.process_time()
    assert isinstance(made.bootstrap, SampleBootstrap) and made.bootstrap.interval(*made.main) is not None
    assert time.process_time() - start < 1
