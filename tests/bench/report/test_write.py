import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.report import read_records, write_report
from tests.bench.report import synthetic
from tests.undrawn import draw_here


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_what_lands_in_the_folder(report: Path):
    names = set(contents(report))
    assert {"README.md", "index.html", "results.csv", "cells.jsonl"} <= names
    for figure in (
        "metric_vs_macs",
        "metric_vs_latency",
        "cost_vs_quality",
        "widths_per_layer",
        "trajectories",
        "gate_histograms",
        "sensitivity",
        "samples",
    ):
        assert {f"figures/{figure}.{suffix}" for suffix in ("png", "svg", "pdf")} <= names
    assert not [name for name in names if name.endswith(".tmp")]


def test_results_have_the_promised_columns(report: Path):
    head = (report / "results.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    promised = (
        "cell_id run_id status task dataset model method protocol recovery budget seed metric_name higher_is_better "
        "dense_metric pruned_metric final_metric macs_dense macs_pruned macs_ratio params_dense params_pruned "
        "native_macs_ratio fitted_channels latency_dense_ms latency_pruned_ms search_epochs recovery_epochs "
        "search_seconds recovery_seconds error peak_memory_dense peak_memory_pruned"
    )
    assert set(promised.split()) <= set(head)


def test_the_same_records_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    draw_here(monkeypatch.setattr)
    records = synthetic.matrix(methods=("gdp", "random"), budgets=(0.5,), seeds=(0, 1))
    write_report(records, tmp_path / "a", suite="demo")
    write_report(read_records(tmp_path / "a")[::-1], tmp_path / "b", suite="demo")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_later_report_leaves_nothing_of_an_earlier_one(tmp_path: Path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "transfer.md").write_text("old")
    (tmp_path / "tables" / "notes.txt").write_text("the reader's own")
    write_report(synthetic.matrix(methods=("l1",), budgets=(0.5,), trajectory=False), tmp_path, suite="demo")
    assert not (tmp_path / "tables" / "transfer.md").exists()
    assert (tmp_path / "tables" / "notes.txt").exists()


@pytest.mark.parametrize("kind", ["none", "only missing", "only failed"])
def test_a_matrix_without_results_is_reported(tmp_path: Path, kind: str):
    cell = synthetic.cell(synthetic.workload(), "l1", 0.5, 0)
    records = [synthetic.record(cell, fail="diverged")] if kind == "only failed" else []
    missing = [cell] if kind == "only missing" else []
    readme = write_report(records, tmp_path, suite="demo", missing=missing).read_text(encoding="utf-8")
    assert (tmp_path / "index.html").stat().st_size > 0
    assert "diverged" in readme if records else "No cell is recorded yet" in readme


def test_importing_the_report_loads_nothing_heavy():
    code = (
        "import sys, bench.report; "
        "print([m for m in ('torch', 'mlflow', 'pandas', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif("PRUNEBENCH_SCALE" not in os.environ, reason="takes half a minute; set PRUNEBENCH_SCALE=1")
def test_ten_thousand_cells_in_half_a_minute_and_a_gigabyte(tmp_path: Path):
    code = f"""
import resource, time
from pathlib import Path
from bench.report import write_report
from tests.bench.report import synthetic
workloads = [synthetic.workload(f"w{{i}}", dataset=f"d{{i}}") for i in range(20)]
methods = (*synthetic.METHODS, *synthetic.CONTROLS, "a", "b", "c")
records = synthetic.matrix(workloads, methods, budgets=(0.8, 0.65, 0.5, 0.35, 0.2), seeds=range(10))
assert len(records) == 10_000
start = time.perf_counter()
write_report(records, Path({str(tmp_path)!r}), suite="large")
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, mebibytes = map(float, done.stdout.split())
    assert seconds < 30
    assert mebibytes < 1000


def test_a_thousand_cells_are_quick(thousand: tuple[Path, float]):
    out, seconds = thousand
    assert seconds < 30
    assert (out / "index.html").stat().st_size < 5_000_000
