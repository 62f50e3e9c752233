"""A second interval: a paired bootstrap over test samples, from what each network made of each of them.

Test samples are drawn anew with replacement, the same draw for both networks and all seeds, and the difference of the
metric is averaged over common seeds (Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13:
percentile interval). It says how far another test set of this kind could move the difference between *these* trained
networks. It says nothing of other seeds, for which the interval over seeds stands.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from bench.interface.outcomes import metric, unpacked
from bench.interface.record import Record
from bench.report.entry import Entry

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 2_000
SEED = 20_130
"""Of the generator: the same records give the same interval."""
CHUNK = 2_000_000
"""Weights that are in memory at once, as float64."""
BLOCK = 256
"""Records whose outcomes are in memory at once."""


class SampleBootstrap:
    """The metric of many resamples of the test set, for every record that has outcomes.

    Replicates are made when the first of a test set is asked for, and kept: 16 kB a record, and 8 kB where they are
    counts of correct answers.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self._groups: dict[tuple[object, ...], list[Record]] = defaultdict(list)
        for record in records:
            if record.outcomes is not None:
                self._groups[_test_set(record)].append(record)
        self._replicates: dict[str, np.ndarray] = {}

    def interval(self, one: Entry, other: Entry) -> tuple[float, float] | None:
        """The 95 % interval of `one` − `other`, averaged over common seeds; None without common outcomes."""
        import numpy as np

        theirs = {record.cell["seed"]: record for record in other.records}
        pairs = [
            (mine, theirs[mine.cell["seed"]])
            for mine in one.records
            if mine.cell["seed"] in theirs and _comparable(mine, theirs[mine.cell["seed"]])
        ]
        gaps = []
        for mine, rival in pairs:
            ours, others = self._of(mine), self._of(rival)
            if ours is not None and others is not None:
                gaps.append(ours - others)
        if not gaps:
            return None
        low, high = np.percentile(np.mean(gaps, axis=0), [2.5, 97.5])
        return float(low), float(high)

    def _of(self, record: Record) -> np.ndarray | None:
        """The record's metric of each resample, [resamples]; None where its outcomes cannot be read."""
        if record.cell_id not in self._replicates:
            for cell_id, values in replicates(self._groups.pop(_test_set(record), [])):
                self._replicates[cell_id] = _kept(values, record)
        values = self._replicates.get(record.cell_id)
        return values if values is None else _metric(values, record)


def _kept(values: np.ndarray, record: Record) -> np.ndarray:
    """Replicates of the record's test set as they are kept: shares of correct answers as counts."""
    assert record.outcomes is not None
    if record.outcomes.kind != "correct":
        return values
    return (values * math.prod(record.outcomes.shape) / 100.0).round().astype("uint32")


def _metric(kept: np.ndarray, record: Record) -> np.ndarray:
    """What `_kept` was made of, to the last bit."""
    assert record.outcomes is not None
    return 100.0 * kept / math.prod(record.outcomes.shape) if record.outcomes.kind == "correct" else kept


def _test_set(record: Record) -> tuple[object, ...]:
    outcomes = record.outcomes
    assert outcomes is not None
    return (record.data_fingerprint, outcomes.kind, *outcomes.shape)


def _comparable(one: Record, other: Record) -> bool:
    return one.outcomes is not None and other.outcomes is not None and _test_set(one) == _test_set(other)


def replicates(records: Sequence[Record]) -> Iterator[tuple[str, np.ndarray]]:
    """The metric of each resample, [resamples], by cell id; records without readable outcomes are left out.

    Args:
        records: of one test set, so that all have the same samples in the same order.
    """
    import numpy as np

    for start in range(0, len(records), BLOCK):
        arrays: dict[str, np.ndarray] = {}
        kind = "mean"
        for record in records[start : start + BLOCK]:
            assert record.outcomes is not None
            kind = record.outcomes.kind
            try:
                arrays[record.cell_id] = unpacked(record.outcomes)
            except ValueError:
                continue  # the audit says so
        if not arrays:
            continue
        parts: list[np.ndarray] = []
        samples = len(next(iter(arrays.values())))
        # The metric is a mean for all kinds but one: all records at once are one product of matrices.
        table = None if kind == "iou" else np.stack([array.astype(float) for array in arrays.values()], axis=1)
        for weights in resample_weights(samples):
            if table is not None:
                parts.append((100.0 if kind == "correct" else 1.0) * (weights @ table) / samples)
            else:
                parts.append(np.stack([metric(kind, array, weights) for array in arrays.values()], axis=1))
        yield from zip(arrays, np.concatenate(parts).T, strict=True)


def resample_weights(samples: int) -> Iterator[np.ndarray]:
    """How often each test sample is drawn, float64 [some resamples, samples], until there are `RESAMPLES` of them."""
    import numpy as np

    generator = np.random.default_rng(SEED)
    rows = max(1, CHUNK // samples)
    for start in range(0, RESAMPLES, rows):
        count = min(rows, RESAMPLES - start)
        drawn = generator.integers(0, samples, size=(count, samples))
        drawn += samples * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * samples).reshape(count, samples).astype(float)
