"""Curves are of what was measured: counts of samples and steps, which only rise, are in the ledger."""

from bench.report.figures.trajectories import trajectories
from bench.report.matrix import build
from bench.report.page_details import curves
from tests.bench.report import synthetic

COUNTS = {"samples", "weight_steps", "architecture_steps"}


def test_counts_are_not_drawn():
    records = synthetic.matrix(methods=("dcss",), budgets=(0.5,), seeds=(0,))
    assert records[0].trajectory[-1].keys() >= COUNTS
    (drawing,) = trajectories(build(records, suite="s"))
    titles = {axis.get_title(loc="left") for axis in drawing.figure.axes}
    assert titles == {"expected macs ratio", "loss", "temperature", "val accuracy"}
    assert set(curves(records[0], points=20)["values"]) == {
        "expected_macs_ratio", "loss", "temperature", "val_accuracy"
    }  # fmt: skip
