"""The README shows what the committed demo report says, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.errors import RequestError
from bench.report.readme import BEGIN, END, excerpt, filled, main

ROOT = Path(__file__).parents[3]


def test_the_readme_carries_the_demos_figure_and_table() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    part = excerpt(ROOT / "reports" / "studies" / "demo", ROOT)
    assert filled(text, part) == text, "run: make readme"
    figure = part.partition("](")[2].partition(")")[0]
    assert (ROOT / figure).is_file()
    records = [
        json.loads(line) for line in (ROOT / "reports" / "studies" / "demo" / "cells.jsonl").open(encoding="utf-8")
    ]
    assert all(f"{record['cell']['method']}" in part for record in records)
    assert all(f"**{record['cell']['workload']['name']}, protocol matched**" in part for record in records)


def test_columns_are_kept_with_their_rows(report: Path) -> None:
    table = next(part for part in excerpt(report, report.parent).split("\n\n") if part.startswith("| Budget"))
    rows = [line.strip("| ").split(" | ") for line in table.split("\n")]
    assert {len(row) for row in rows} == {len(rows[0])}
    whole = (report / "tables" / "main.md").read_text(encoding="utf-8")
    last, title = rows[-1], rows[0].index("After recovery")
    assert any(last[title] in line and last[1] in line for line in whole.split("\n"))


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_markers_that_are_not_there_are_an_error(text: str) -> None:
    with pytest.raises(RequestError, match="once each"):
        filled(text, "x")


def test_a_folder_without_a_report_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "README.md"
    target.write_text(f"{BEGIN}{END}")
    assert main([str(target), str(tmp_path)]) == 2
    assert "main.md" in capsys.readouterr().err
    assert target.read_text() == f"{BEGIN}{END}"
