"""Outcomes of single samples: packed without loss, and giving the metric of any resample."""

from __future__ import annotations

import numpy as np
import pytest

from bench.interface.outcomes import metric, packed, unpacked


def test_each_kind_comes_back_as_it_was() -> None:
    random = np.random.default_rng(0)
    correct = random.random(1001) < 0.7
    iou = random.integers(0, 9000, (7, 2, 11))
    means = random.normal(30, 4, 14).astype(np.float32)
    assert (unpacked(packed("correct", correct)) == correct).all()
    assert (unpacked(packed("iou", iou)) == iou).all()
    assert (unpacked(packed("mean", means)) == means).all()
    assert len(packed("correct", correct).data) < 250  # a bit a sample, before base64


def test_metrics_by_hand() -> None:
    assert metric("correct", np.array([True, False, True, True])) == 75.0
    assert metric("mean", np.array([30.0, 34.0])) == 32.0
    # Two images, three classes, of which the last is nowhere: 30 / 40 and 10 / 40.
    counts = np.array([[[10, 10, 0], [20, 20, 0]], [[20, 0, 0], [20, 20, 0]]])
    assert metric("iou", counts) == pytest.approx(100 * (30 / 40 + 10 / 40) / 2)


def test_weights_are_counts_of_samples() -> None:
    correct = np.array([True, False, False])
    weights = np.array([[3, 0, 0], [1, 1, 1], [0, 2, 1]])
    assert metric("correct", correct, weights) == pytest.approx([100, 100 / 3, 0])
    counts = np.array([[[10], [20]], [[0], [20]]])
    assert metric("iou", counts, np.array([[2, 0], [0, 2]])) == pytest.approx([50, 0])


def test_what_does_not_fit_is_refused() -> None:
    for kind, values in (("correct", [[True]]), ("iou", [[1, 2]]), ("mean", []), ("iou", [[[1], [1], [1]]])):
        with pytest.raises(ValueError, match="cannot have shape"):
            packed(kind, values)  # pyright: ignore[reportArgumentType]
    good = packed("mean", [1.0, 2.0])
    with pytest.raises(ValueError, match="needs 12"):
        unpacked(good.model_copy(update={"shape": [3]}))
    with pytest.raises(ValueError, match="cannot be read"):
        unpacked(good.model_copy(update={"data": "not base64!"}))
