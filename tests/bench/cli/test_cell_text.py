"""A cell in words."""

from __future__ import annotations

from bench.cli.cell_text import cell_text, settings_lines
from bench.interface.record import Audit, GroupWidth, LatencyFigures, Ledger, Record
from bench.report.latency import pooled
from bench.runs.suite import load_suite, suite_from_table
from tests.bench.runs.tables import changed_workload

CELL = load_suite("demo").cells[0]
LATENCY = LatencyFigures(median_ms=2.0, iqr_ms=0.1, batch_size=1, threads=1, device="x86")


def finished(*, within: bool) -> Record:
    return Record(
        suite="s",
        cell_id=CELL.id,
        run_id="run0",
        status="finished",
        cell=CELL.model_dump(mode="json"),
        metric_name="accuracy",
        metric_unit="%",
        dense_metrics={"accuracy": 90.0},
        pruned_metrics={"accuracy": 50.0},
        final_metrics={"accuracy": 88.5},
        input_shape=[1, 1, 16, 16],
        macs_dense=2_000_000,
        macs_pruned=1_000_000,
        params_dense=4000,
        params_pruned=1000,
        audit=Audit(
            requested=0.5,
            tolerance=0.005,
            native_macs_ratio=0.6,
            fitted_channels=3,
            macs_ratio=0.5,
            within=within,
            note="too coarse",
        ),
        groups=[GroupWidth(name="conv1", size=16, width=8, native_width=9)],
        dropped_blocks=["layer2.0"],
        left_whole={"fc": "the output"},
        latency_dense=LATENCY,
        latency_pruned=LATENCY.model_copy(update={"median_ms": 1.0}),
        ledger=Ledger(
            dense_epochs=12,
            search_epochs=4,
            recovery_epochs=5,
            dense_seconds=1.0,
            search_seconds=2.0,
            recovery_seconds=3.0,
            device="cpu",
        ),
        notes=["a note"],
    )


def test_a_cell_that_finished() -> None:
    lines = cell_text(finished(within=True), suite="s", uri="http://u:p@h:1").splitlines()
    assert lines[:4] == [
        f"cell       {CELL.id}  {CELL.label}",
        "status     finished",
        "MLflow     run run0 in experiment 's' of http://***@h:1",
        f"dense      {CELL.dense_id}",
    ]
    for line in (
        "accuracy   dense 90.00%, after pruning 50.00%, after recovery 88.50%",
        "budget     requested 0.5 ± 0.005 of the MACs, method's own 0.6000, 3 channels fitted, measured 0.5000",
        "MACs       2,000,000 -> 1,000,000 at 1×1×16×16",
        "epochs     12 dense + 4 search + 5 recovery",
        "latency    2.00 -> 1.00 ms (batch 1, 1 thread, x86)",
        "widths     conv1 8/16",
        "removed    layer2.0",
        "left whole fc or part of it: the output",
        "note       a note",
    ):
        assert line in lines
    assert "(MISSED: too coarse)" in cell_text(finished(within=False), suite="s", uri="")


def test_latencies_that_scatter_are_remarked_on_as_in_the_tables() -> None:
    """Medians of 1, 2 and 4 ms: quartiles 1.5 and 3, a range of 75 % of the median."""
    record = finished(within=True)
    others = [
        record.model_copy(update={"latency_dense": LATENCY.model_copy(update={"median_ms": ms})}) for ms in (1.0, 4.0)
    ]
    lines = cell_text(record, suite="s", uri="", latencies=pooled([record, *others])).splitlines()
    assert lines[lines.index("latency    2.00 -> 1.00 ms (batch 1, 1 thread, x86)") + 1] == (
        "           dense latency 2.00 ms (median; interquartile range 75% over 3 cells; above 20%, so that speedups "
        "are left out; batch 1, 1 thread, on x86)"
    )
    assert "dense latency" not in cell_text(record, suite="s", uri="")


def test_settings_that_are_not_at_their_defaults_are_named_and_the_others_pointed_to() -> None:
    table = changed_workload(dataset="digits", model="resnet8", train_size=100, train={"batch_size": 32, "lr": 0.1})
    table["workloads"][0] |= {"protect": ["fc"], "epochs": {"dense": 1, "search": 2, "recovery": 1}}
    table |= {"methods": ["dais"], "method": {"dais": {"travel": 3.0}}, "recovery": "finetune", "round_to": 8}
    (cell, *_) = suite_from_table({**table, "controls": [], "budgets": [0.5], "seeds": [0]}, "t").cells
    assert settings_lines(cell) == [
        "workload   classification of digits by resnet8: train_size=100, protect=['fc']",
        "method     dais: travel=3",
        "held       recovery finetune, protocol matched, equal samples, widths in steps of 8",
        "train      batch_size=32",
        "finetune   batch_size=32",
        f"settings   all of them: prunebench show {cell.id} --config",
    ]
    plain = cell_text(finished(within=True), suite="s", uri="")
    assert f"method     {CELL.title}: fields at their defaults\n" in plain and "{" not in plain


def test_a_cell_that_failed_shows_why_and_no_figures() -> None:
    failed = Record(
        suite="s",
        cell_id=CELL.id,
        run_id="run0",
        status="failed",
        cell=CELL.model_dump(mode="json"),
        error="it broke",
        traceback="Traceback: here",
    )
    text = cell_text(failed, suite="s", uri="")
    assert "error      it broke\nTraceback: here" in text and "budget     requested" not in text
