import csv
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from bench.report import tables
from bench.report.frames import build
from bench.report.latex import tex_escape
from tests.bench.report import synthetic

LATEX = shutil.which("tectonic") or shutil.which("pdflatex")


def test_figures_as_a_reader_sees_them():
    assert tables.Num(93.456, 0.123).text == "93.46 ± 0.12"
    assert tables.Num(-0.5, 0.25, signed=True).text == "−0.50 ± 0.25"
    assert tables.Num(0.5, digits=1, signed=True).text == "+0.5"
    assert tables.Num(-0.001, signed=True).text == "0.00"
    assert tables.Num(None).text == "–"
    assert tables.Num(float("nan")).text == "–"


def test_markdown_shows_names_as_they_are():
    assert tables.md_escape("<img src=x>|a_b*c*`") == "&lt;img src=x&gt;\\|a\\_b\\*c\\*\\`"


def test_latex_shows_names_as_they_are():
    assert tex_escape("50%_of & #1 {x} ~^\\ $") == (
        r"50\%\_of \& \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{} \$"
    )
    assert tex_escape("剪") == r"{\ttfamily U+526A}"
    assert tex_escape("naïve") == "naïve"


def test_a_spreadsheet_runs_no_formula():
    assert tables.csv_text([{"a": "=1+1", "b": -1.5}]) == "a,b\n'=1+1,-1.5\n"


def test_tables_without_anything_to_say_are_left_out():
    made = tables.all_tables(build(synthetic.matrix(methods=("l1",), budgets=(0.5,)), suite="s"))
    assert {t.name for t in made} == {"main", "budget_audit", "ledger", "metrics"}
    assert tables.all_tables(build([], suite="s")) == []


def test_all_tables_of_a_rich_suite(report: Path):
    names = {path.stem for path in (report / "tables").iterdir()}
    expected = {"main", "ranks", "recovery", "transfer", "published", "budget_audit", "ledger", "metrics"}
    assert names == expected
    for name in names:
        assert {p.suffix for p in (report / "tables").glob(f"{name}.*")} == {".md", ".csv", ".tex"}


def test_main_table_tells_controls_failures_and_misses(report: Path):
    text = (report / "tables" / "main.md").read_text(encoding="utf-8")
    assert "*random*" in text and "*uniform-scratch*" in text
    assert "⚠ 2 (1 failed)" in text and "⚠ 2 (1 missing)" in text
    assert "⚠ off budget (1/3)" in text


def test_published_figures_stand_beside_ours_with_source_and_caveat(report: Path):
    text = (report / "tables" / "published.md").read_text(encoding="utf-8")
    assert "| resnet56, cifar10 | l1 B | 93.06 | +0.02 | 27.6 |" in text
    assert "arXiv 1608.08710" in text and "best test accuracy seen during retraining" in text


def test_every_published_source_has_protocol_and_caveat():
    sources = tables.published_sources()
    assert {source["method"] for source in sources} == {"l1", "uniform-scratch", "tas", "gdp"}
    for source in sources:
        assert source["cite"] and source["protocol"] and source["caveat"] and source["results"]
        # TAS's accuracies were not read in the paper itself, and are not printed.
        assert source["method"] != "tas" or all("pruned" not in result for result in source["results"])


def test_transfer_is_compared_with_the_own_search(report: Path):
    with (report / "tables" / "transfer.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["source"] for row in rows] == ["cifar10-resnet56 at 0.25"]
    gap = float(rows[0]["own_mean"]) - float(rows[0]["final_mean"])
    assert float(rows[0]["gap_mean"]) == pytest.approx(gap)


def compile_latex(text: str, folder: Path) -> None:
    assert LATEX is not None
    (folder / "page.tex").write_text(text, encoding="utf-8")
    options = [] if LATEX.endswith("tectonic") else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run([LATEX, *options, "page.tex"], cwd=folder, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (folder / "page.pdf").stat().st_size > 2000


@pytest.mark.skipif(LATEX is None, reason="neither tectonic nor pdflatex is installed")
class TestLatex:
    @pytest.mark.parametrize("name", ["main", "ranks", "recovery", "transfer", "published", "budget_audit"])
    def test_compiles_as_it_stands(self, report: Path, name: str):
        with tempfile.TemporaryDirectory() as folder:
            compile_latex((report / "tables" / f"{name}.tex").read_text(encoding="utf-8"), Path(folder))

    def test_hostile_names_compile(self, hostile_report: Path):
        with tempfile.TemporaryDirectory() as folder:
            compile_latex((hostile_report / "tables" / "main.tex").read_text(encoding="utf-8"), Path(folder))

    def test_can_be_part_of_a_paper(self, report: Path):
        paper = (
            "\\documentclass{article}\\usepackage{booktabs,longtable,siunitx,amsmath}\\begin{document}\n"
            f"Before. \\input{{{report / 'tables' / 'ranks.tex'}}} Between. "
            f"\\input{{{report / 'tables' / 'main.tex'}}} After.\n\\end{{document}}\n"
        )
        with tempfile.TemporaryDirectory() as folder:
            compile_latex(paper, Path(folder))
