"""The report's figures are computed again from `cells.jsonl`, and a slip that is planted anywhere is caught."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.report import ReportError, read_records, write_report
from bench.report.audit import audit, audit_cells, contradictions
from bench.report.matrix import build
from bench.report.records import parse_payload
from tests.bench.report import synthetic

pytestmark = pytest.mark.usefixtures("undrawn")


def test_a_report_agrees_with_its_cells(report: Path, hostile_report: Path):
    assert audit(report) == []
    # Its run ids and environment are hostile; its figures are sound.
    assert audit(hostile_report) == []


@pytest.fixture
def copy(report: Path, tmp_path: Path) -> Path:
    (tmp_path / "tables").mkdir()
    for name in ("cells.jsonl", "results.csv", "tables/main.csv"):
        shutil.copy(report / name, tmp_path / name)
    return tmp_path


def edit_main(folder: Path, column: str, change: Callable[[str], str], method: str = "l1") -> None:
    file = folder / "tables" / "main.csv"
    head, *rows = file.read_text(encoding="utf-8").splitlines()
    names = head.split(",")
    for index, row in enumerate(rows):
        values = row.split(",")
        if values[names.index("method")] == method and values[names.index("rank")]:
            values[names.index(column)] = change(values[names.index(column)])
            rows[index] = ",".join(values)
            break
    else:
        raise AssertionError("no such row")
    file.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    "column",
    [
        "delta_mean",
        "delta_std",
        "final_mean",
        "macs_drop_percent",
        "params_drop_percent",
        "peak_memory_drop_percent",
        "speedup_mean",
    ],
)
def test_a_table_whose_figure_is_off_is_caught(copy: Path, column: str):
    edit_main(copy, column, lambda text: str(float(text) + 0.1))
    found = audit(copy)
    assert len(found) == 1 and f"{column} is" in found[0]


def test_a_column_that_is_not_there_is_named(copy: Path):
    file = copy / "tables" / "main.csv"
    head, _, rest = file.read_text(encoding="utf-8").partition("\n")
    file.write_text(head.replace("speedup_mean", "renamed") + "\n" + rest, encoding="utf-8")
    assert audit(copy) == ["main.csv has no column speedup_mean"]


def test_records_of_protocol_1_are_read():
    """A record of protocol 1 lacks the fields that came later; its identity is that of its own protocol."""
    records = synthetic.matrix(methods=("l1", "gdp"), budgets=(0.5,))
    cells = [json.loads(record.model_dump_json()) for record in records]
    for cell in cells:
        cell["schema_version"] = cell["protocol_version"] = 1
        cell["cell"]["recovery"] = "finetune"
        for name in ("match", "weight_share", "ablation", "source", "plan"):
            cell["cell"].pop(name)
        del cell["outcomes"], cell["ledger"]["phases"]
        (expected,) = re.findall("is that of cell (.*)", audit_cells([cell])[0])
        cell["cell_id"] = expected
    assert audit_cells(cells) == []
    made = build([parse_payload(cell) for cell in cells], suite="s")
    assert [(e.method, e.n, e.recovery) for e in made.main] == [("gdp", 3, "finetune"), ("l1", 3, "finetune")]


def test_a_wrong_rank_is_caught(copy: Path):
    edit_main(copy, "rank", lambda text: str(float(text) + 1))
    assert re.search(r"l1 has rank .*, its mean has place", audit(copy)[0])


def test_a_wrong_bold_is_caught(copy: Path):
    edit_main(copy, "bold", lambda text: "True", method="random")
    assert any("random is bold and is not better beyond the interval" in finding for finding in audit(copy))


def edit_cells(folder: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    file = folder / "cells.jsonl"
    cells = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    change(cells)
    file.write_text("".join(json.dumps(cell) + "\n" for cell in cells), encoding="utf-8")


def finished(cells: list[dict[str, Any]]) -> dict[str, Any]:
    return next(cell for cell in cells if cell["status"] == "finished" and cell["cell"]["method"] == "l1")


def test_pain_13_a_record_whose_delta_is_off_is_caught(copy: Path):
    """Δ rests on two figures. The dense one is the same for all cells of a seed, the final one is in results.csv."""

    def dense(cells: list[dict[str, Any]]) -> None:
        cell = finished(cells)
        cell["dense_metrics"][cell["metric_name"]] += 0.1

    edit_cells(copy, dense)
    found = audit(copy)
    assert any("cells with the same dense network say" in finding for finding in found)
    assert any("results.csv" in finding and "dense_metric" in finding for finding in found)


def test_a_final_figure_that_was_changed_is_caught(copy: Path):
    def final(cells: list[dict[str, Any]]) -> None:
        cell = finished(cells)
        cell["final_metrics"][cell["metric_name"]] += 0.1

    edit_cells(copy, final)
    assert any("final_metric is" in finding for finding in audit(copy))
    assert any("delta_mean is" in finding for finding in audit(copy))


def test_a_doubled_cell_is_caught(copy: Path):
    edit_cells(copy, lambda cells: cells.append(cells[0]))
    assert any("is there twice" in finding for finding in audit(copy))
    with pytest.raises(ReportError, match="recorded twice"):
        write_report(read_records(copy), copy / "again", suite="demo")


def test_mixed_protocol_versions_are_caught():
    cells = [json.loads(r.model_dump_json()) for r in synthetic.matrix(methods=("l1",), budgets=(0.5,))]
    cells[0]["protocol_version"] = 1
    assert "records of protocol versions 1, 2 are mixed" in audit_cells(cells)


def test_a_configuration_that_is_not_the_cells_is_caught():
    records = synthetic.matrix(methods=("l1",), budgets=(0.5,))
    assert contradictions(records) == []
    records[0].cell["budget"] = 0.25
    assert any("its configuration is that of cell" in finding for finding in contradictions(records))


def test_a_variant_is_the_cell_of_its_adapter():
    """`[method.tas-pad] base = "tas"`: the label is not part of the identity, the adapter is."""
    variant = synthetic.cell(synthetic.workload(), "tas-pad", 0.5, 0, base="tas", searches=True)
    record = synthetic.record(variant)
    assert contradictions([record]) == []
    record.cell["base"] = "dcss"
    assert any("its configuration is that of cell" in finding for finding in contradictions([record]))


def test_a_variant_of_an_unpruned_control_is_in_order(tmp_path: Path):
    records = synthetic.results({"gdp": [92.0, 92.1, 92.3], "l1": [91.0, 91.1, 91.5]})
    records += synthetic.results({"longer": [99.0, 99.1, 99.3]}, base="dense-longer")
    for record in records[-3:]:
        record.macs_pruned = record.macs_dense
        assert record.audit is not None
        record.audit.macs_ratio, record.audit.within = 1.0, False
    write_report(records, tmp_path, suite="demo")
    assert audit(tmp_path) == []
    main = (tmp_path / "tables" / "main.csv").read_text(encoding="utf-8")
    assert "longer" in main and "reference" in main


def test_a_budget_that_the_macs_do_not_give_is_caught():
    records = synthetic.matrix(methods=("l1",), budgets=(0.5,))
    records[0].macs_pruned += records[0].macs_dense // 10
    found = contradictions(records)
    assert any("of the dense network's, recorded is" in finding for finding in found)
    assert any("recorded as within budget" in finding for finding in found)


def test_a_final_figure_that_the_outcomes_do_not_give_is_caught():
    records = synthetic.matrix(methods=("l1",), budgets=(0.5,), samples=100)
    assert contradictions(records) == []
    name = records[0].metric_name
    records[0].final_metrics[name] *= 1 + 2e-4
    assert any("its test samples' outcomes give" in finding for finding in contradictions(records))
    records[0].final_metrics[name] /= 1 + 1.9e-4
    assert contradictions(records) == []
    assert records[1].outcomes is not None
    records[1].outcomes = records[1].outcomes.model_copy(update={"data": "AAAA"})
    assert any("outcomes cannot be read" in finding for finding in contradictions(records))


@pytest.mark.parametrize("task", ["segmentation", "super_resolution"])
def test_the_outcomes_of_every_task_give_its_metric(task: str):
    w = synthetic.workload("w", task)
    records = synthetic.matrix([w], methods=("l1",), budgets=(0.5,), samples=50)
    assert contradictions(records) == []
    records[0].final_metrics[records[0].metric_name] += 0.1
    assert len(contradictions(records)) == 1


def test_phases_that_are_not_the_ledgers_are_caught():
    records = synthetic.matrix(methods=("gdp",), budgets=(0.5,), seeds=(0, 1))
    assert contradictions(records) == []
    first, second = (record.ledger for record in records)
    assert first is not None and second is not None
    first.phases[1].epochs += 1
    second.phases[2].seconds += 1
    stated = second.recovery_seconds
    assert [finding.partition(": ")[2] for finding in contradictions(records)] == [
        "search epochs are 6 in the ledger, 7 by its phases",
        f"recovery seconds are {stated:g} in the ledger, {stated + 1:g} by its phases",
    ]


def test_contradictions_stand_in_the_report(tmp_path: Path):
    records = synthetic.matrix(methods=("gdp", "l1", "random"), budgets=(0.5,), trajectory=False)
    records[0].dense_metrics["accuracy"] += 0.1
    write_report(records, tmp_path, suite="demo")
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert f"cell {records[0].cell_id}: dense network's" in readme
    assert records[0].cell_id in (tmp_path / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def taken_apart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with a method that is taken apart, one control of it off its budget."""
    folder = tmp_path_factory.mktemp("apart")
    records = synthetic.matrix(
        methods=("dcss", "gdp", "random-widths", "uniform-scratch"),
        budgets=(0.5, 0.25),
        ablations=synthetic.ABLATIONS,
        trajectory=False,
        samples=60,
    )
    records[-1] = synthetic.record(records[-1].config, miss=0.03)
    write_report(records, folder, suite="demo")
    return folder


@pytest.fixture
def apart(taken_apart: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(taken_apart, tmp_path / "apart"))


def test_the_contribution_table_agrees_with_its_cells(apart: Path):
    assert (apart / "tables" / "contribution.csv").is_file()
    assert audit(apart) == []


@pytest.mark.parametrize("column", ["difference_mean", "difference_low", "p", "p_holm"])
def test_a_contribution_that_is_off_is_caught(apart: Path, column: str):
    file = apart / "tables" / "contribution.csv"
    head, first, second, *rest = file.read_text(encoding="utf-8").splitlines()
    place, values = head.split(",").index(column), second.split(",")
    values[place] = str(float(values[place]) + 0.01)
    file.write_text("\n".join([head, first, ",".join(values), *rest]) + "\n", encoding="utf-8")
    (finding,) = audit(apart)
    assert (
        finding.startswith("contribution.csv, digits-resnet8, dcss against blind at 0.5") and f"{column} is" in finding
    )


def test_a_rank_of_a_network_that_learned_nothing_is_a_contradiction(tmp_path: Path) -> None:
    records = synthetic.results({"gdp": [92.0, 91.0], "l1": [10.0, 90.0], "tas": [91.0, 90.0]})
    rows = records[-1].trajectory
    rows[-1]["loss"] = 3 * rows[0]["loss"]
    write_report(records, tmp_path, suite="s")
    assert audit(tmp_path) == []
    file = tmp_path / "tables" / "main.csv"
    table = pd.read_csv(file, keep_default_na=False)
    assert dict(zip(table["method"], table["rank"], strict=True)) == {"gdp": "1.0", "l1": "", "tas": ""}
    table.loc[table["method"] != "gdp", "rank"] = "2"
    table.to_csv(file, index=False)
    assert [found.split(": ")[1] for found in audit(tmp_path)] == [
        "l1 is ranked or bold, and must not be",
        "tas is ranked or bold, and must not be",
    ]
