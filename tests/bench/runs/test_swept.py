"""A swept suite from the command line to its report: every table, file and figure tells the values apart."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.bench.runs.tiny import SUITE, prunebench, records, results

SWEPT = SUITE.replace('methods = ["l1"]', 'methods = ["dais"]').replace(
    'controls = ["random", "uniform-scratch"]\nbudgets = [0.5, 0.3]',
    "controls = []\nbudgets = [0.5]",
).replace("[[workloads]]", "[sweep.method.dais]\nsparsity_weight = [0.001, 0.01, 1.0]\n\n[[workloads]]")  # fmt: skip
NAMES = [f"dais(sparsity_weight={value})" for value in ("0.001", "0.01", "1")]


@pytest.mark.drawn
def test_a_sweep_runs_from_cells_to_an_audited_report(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(SWEPT)
    assert prunebench(monkeypatch, "run", "tiny.toml", "--quiet") == 0
    made = records(tmp_path)
    assert sorted(r.config.method for r in made) == NAMES and {r.config.adapter for r in made} == {"dais"}
    assert len({r.cell_id for r in made}) == 3 and all(r.status == "finished" for r in made)
    # The values reach the searches: other penalties leave other networks.
    assert len({str(r.groups) for r in made}) > 1
    rows = {row["method"]: row for row in results(tmp_path)}
    assert [rows[name]["settings"] for name in NAMES] == ["sparsity_weight=0.001", "", "sparsity_weight=1"]
    folder = tmp_path / "reports" / "tiny"
    page, text = (folder / "index.html").read_text(), (folder / "README.md").read_text()
    for table in ("main", "budget_audit", "ledger", "latency"):
        with (folder / "tables" / f"{table}.csv").open() as file:
            assert set(NAMES) <= {row["method"] for row in csv.DictReader(file)}, table
    for name in NAMES:
        assert name in page and name.replace("_", "\\_") in text
        assert name in (folder / "figures" / "widths_per_layer.svg").read_text()
    assert "Settings other than the defaults" not in text  # the names say them
    capsys.readouterr()
    assert prunebench(monkeypatch, "audit", "reports/tiny") == 0
    assert "everything agrees with its records" in capsys.readouterr().out
    assert prunebench(monkeypatch, "plan", "tiny.toml", "--data", "nowhere", "--only", "method=dais,seed=0") == 0
    assert "3 cells: 3 done" in capsys.readouterr().out
