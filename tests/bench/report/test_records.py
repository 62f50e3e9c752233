import json
from pathlib import Path

import pytest

from bench.errors import RequestError
from bench.interface.cell import Cell, PaperPlan
from bench.interface.record import Record
from bench.report import ReportError, merge_records, read_records, relabelled, write_report
from bench.report.records import dump_line
from tests.bench.report import synthetic


def write(path: Path, records: list[Record]) -> Path:
    path.write_text("".join(dump_line(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_round_trip(tmp_path: Path):
    records = synthetic.matrix(methods=("gdp", "l1"), budgets=(0.5,)) + synthetic.hostile()
    file = write(tmp_path / "cells.jsonl", records)
    assert read_records(file) == records
    assert read_records(tmp_path) == records


def test_a_bad_line_is_named(tmp_path: Path):
    record = synthetic.matrix(methods=("l1",), budgets=(0.5,), seeds=(0,))[0]
    file = write(tmp_path / "cells.jsonl", [record])
    with file.open("a", encoding="utf-8") as lines:
        lines.write("\n" + dump_line(record)[:100] + "\n")
    with pytest.raises(ReportError, match=r"cells\.jsonl, line 3: "):
        read_records(file)


def test_a_bad_configuration_is_named(tmp_path: Path):
    record = synthetic.matrix(methods=("l1",), budgets=(0.5,), seeds=(0,))[0]
    plain = json.loads(dump_line(record))
    plain["cell"]["budget"] = 7
    file = tmp_path / "cells.jsonl"
    file.write_text(json.dumps(plain) + "\n", encoding="utf-8")
    with pytest.raises(ReportError, match=r"line 1: budget: Input should be less than or equal to 1"):
        read_records(file)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"null\n", b"[]\n", b"{}\n"])
def test_what_is_no_record_is_refused(tmp_path: Path, content: bytes):
    file = tmp_path / "cells.jsonl"
    file.write_bytes(content)
    with pytest.raises(ReportError):
        read_records(file)


def test_no_file(tmp_path: Path):
    with pytest.raises(ReportError, match="no such file"):
        read_records(tmp_path)
    assert issubclass(ReportError, RequestError)


def test_figures_that_are_not_finite_leave_the_metrics(tmp_path: Path):
    record = synthetic.matrix(methods=("l1",), budgets=(0.5,), seeds=(0,))[0]
    record.final_metrics["accuracy"] = float("nan")
    record.trajectory[0]["loss"] = float("inf")
    again = read_records(write(tmp_path / "cells.jsonl", [record]))[0]
    assert "accuracy" not in again.final_metrics
    assert again.trajectory[0]["loss"] is None


def test_mixed_protocol_versions_are_refused(tmp_path: Path):
    records = synthetic.matrix(methods=("l1",), budgets=(0.5,))
    records[1].protocol_version = 1
    with pytest.raises(ReportError, match="different protocol versions cannot share a table: 1 of version 1, 2 of"):
        write_report(records, tmp_path, suite="demo")


def test_a_doubled_cell_is_refused(tmp_path: Path):
    records = synthetic.matrix(methods=("l1",), budgets=(0.5,))
    with pytest.raises(ReportError, match=rf"{records[0].cell_id}\) is recorded twice"):
        write_report([*records, records[0]], tmp_path, suite="demo")


class TestRelabelled:
    def test_names_are_those_of_the_cells(self):
        old = synthetic.cell(synthetic.workload("digits"), "tas-pad", 0.5, 0, base="tas")
        new = synthetic.cell(synthetic.workload("digits-8x8"), "tas-padded", 0.5, 0, base="tas")
        assert old.id == new.id
        record = synthetic.record(old)
        found = relabelled([record], [new])[0]
        assert found.config == new
        assert record.config == old

    def test_a_variant_can_become_the_method_itself(self):
        variant = synthetic.cell(synthetic.workload(), "l1-layer", 0.5, 0, base="l1", hyper={"scope": "layer"})
        plain = synthetic.cell(synthetic.workload(), "l1", 0.5, 0)
        found = relabelled([synthetic.record(variant)], [plain])[0]
        assert (found.config.method, found.config.base) == ("l1", None)

    def test_other_cells_keep_their_names(self):
        records = synthetic.matrix(methods=("l1",), budgets=(0.5,))
        assert relabelled(records, [synthetic.cell(synthetic.workload("other"), "gdp", 0.5, 0)]) == records


class TestMerge:
    one = synthetic.matrix(methods=("l1",), budgets=(0.5,))
    two = synthetic.matrix(methods=("gdp",), budgets=(0.5,))

    def test_joins_and_counts_a_cell_once(self):
        merged = merge_records(self.one, [*self.two, *self.one])
        assert sorted(r.cell_id for r in merged) == sorted(r.cell_id for r in self.one + self.two)

    def test_a_second_run_with_the_same_result_is_the_same(self):
        again = [record.model_copy(update={"run_id": "other", "suite": "other"}) for record in self.one]
        assert len(merge_records(self.one, again)) == len(self.one)

    def test_another_result_is_refused(self):
        other = self.one[0].model_copy(deep=True)
        other.final_metrics["accuracy"] += 0.1
        with pytest.raises(ReportError, match=r"has two different results, .* differ in final_metrics"):
            merge_records(self.one, [other])

    def test_a_result_takes_the_place_of_a_failure(self):
        failed = synthetic.record(self.one[0].config, fail="diverged")
        for pair in ((self.one, [failed]), ([failed], self.one)):
            merged = merge_records(*pair)
            assert [r.status for r in merged] == ["finished"] * 3

    def test_published_epochs_that_were_shortened_differently_are_refused(self):
        cells = [record.config for record in (*self.one, *self.two)]
        plan = {"search": cells[0].workload.train, "search_epochs": 4, "recovery": cells[0].workload.train}
        for cell, scale in zip(cells, (1.0, 1.0, 1.0, 0.1, 0.1, 0.1), strict=True):
            own = PaperPlan(**plan, recovery_epochs=9, scale=scale)
            cells[cells.index(cell)] = cell.model_copy(update={"protocol": "paper", "plan": own})
        records = [synthetic.record(cell) for cell in cells]
        with pytest.raises(ReportError, match=r"digits-resnet8 with paper_scale 0\.1, 1 cannot share a table"):
            merge_records(records, [])

    def test_mixed_protocol_versions_are_refused(self):
        older = [record.model_copy(update={"protocol_version": 1}) for record in self.two]
        with pytest.raises(ReportError, match="protocol versions"):
            merge_records(self.one, older)


def test_what_tuning_cost_is_a_label_and_no_result():
    """A suite may state it after its cells ran, and two suites may state it differently."""
    records = synthetic.results({"l1": [91.0]})
    cost = {"trials": 20, "epochs": 40, "seconds": 1.5}
    cell = records[0].config
    assert records[0].cell_id == cell.id
    tuned = Cell.model_validate(cell.model_dump() | {"tuning": cost})
    (relabelled_one,) = relabelled(records, [tuned])
    assert tuned.id == cell.id and relabelled_one.cell["tuning"] == cost
    (merged,) = merge_records(records, [relabelled_one])
    assert merged.cell_id == cell.id
