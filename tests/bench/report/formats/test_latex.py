import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from bench.report.formats.latex import tex_escape

LATEX = shutil.which("tectonic") or shutil.which("pdflatex")


def test_latex_shows_names_as_they_are():
    assert tex_escape("50%_of & #1 {x} ~^\\ $") == (
        r"50\%\_of \& \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{} \$"
    )
    assert tex_escape("剪") == r"{\ttfamily U+526A}"
    assert tex_escape("naïve") == "naïve"


def compile_latex(text: str, folder: Path) -> None:
    assert LATEX is not None
    (folder / "page.tex").write_text(text, encoding="utf-8")
    options = [] if LATEX.endswith("tectonic") else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run([LATEX, *options, "page.tex"], cwd=folder, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (folder / "page.pdf").stat().st_size > 2000


@pytest.mark.skipif(LATEX is None, reason="neither tectonic nor pdflatex is installed")
class TestLatex:
    @pytest.mark.parametrize(
        "name",
        ["main", "contribution", "power", "ranks", "recovery", "transfer", "published", "budget_audit", "ledger"],
    )
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
