"""Networks that learned nothing: at the majority class, or diverged. They are flagged, and their entries not ranked."""

from __future__ import annotations

import math

from bench.interface.record import Record

MAJORITY = "majority class"
"""Name of the reference that answers every sample with the most frequent class, and of being no better than it."""
DIVERGED = "diverged"
NOT_FINITE = ("the loss became ", "values that are not finite", "not a finite number")
"""What the training loop and the evaluation say where a loss, a weight or a metric is NaN or infinite."""
OF_ANOTHER = "the dense network of "
"""How the error of a cell begins whose dense network failed: it trained nothing itself."""
EXPLODED = 2.0
"""A last training loss that is so many times the loss of the first epoch of training has diverged."""


def ailment(record: Record) -> str:
    """`majority class`, `diverged`, or "" where nothing is wrong with the cell's final network."""
    if record.status == "failed":
        own = not record.error.startswith(OF_ANOTHER)
        return DIVERGED if own and any(words in record.error for words in NOT_FINITE) else ""
    if _at_majority(record):
        return MAJORITY
    return DIVERGED if _exploded(record) else ""


def sentence(record: Record) -> str:
    """What is wrong with the final network of a cell, in words; "" where nothing is."""
    found = ailment(record)
    if found == MAJORITY:
        value = record.final_metrics[record.metric_name]
        bar = record.reference_metrics[MAJORITY][record.metric_name]
        return f"{record.metric_name} {value:.2f} is no better than that of the majority class, {bar:.2f}: not ranked"
    if found:
        return "training diverged: not ranked"
    return ""


def _at_majority(record: Record) -> bool:
    """Whether the final network is no better than an answer that is the same for every sample."""
    value = record.final_metrics.get(record.metric_name)
    bar = record.reference_metrics.get(MAJORITY, {}).get(record.metric_name)
    return value is not None and bar is not None and no_better(value, bar, higher_is_better=record.higher_is_better)


def no_better(value: float, bar: float, *, higher_is_better: bool) -> bool:
    """Whether a metric does not pass that of the majority class."""
    return (value - bar if higher_is_better else bar - value) <= 1e-9


def _exploded(record: Record) -> bool:
    """Whether the last loss of recovery is far above that of the first epoch of training, of the same loss."""
    if str(record.cell.get("recovery", "")).endswith("distil"):
        return False  # a distillation loss is another quantity than the loss of the dense network
    losses = [
        (row["phase"], float(row["loss"]))
        for row in record.trajectory
        if row.get("phase") in ("dense", "recovery") and isinstance(row.get("loss"), int | float)
    ]
    recovery = [loss for phase, loss in losses if phase == "recovery"]
    if len(losses) < 2 or not recovery:
        return False
    first, last = losses[0][1], recovery[-1]
    return math.isfinite(first) and first > 0 and last > EXPLODED * first
