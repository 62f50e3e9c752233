"""Figures are drawn again where something that they show has changed, and in other processes where there are many."""

import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.interface.record import Record
from bench.report.figures import processes
from bench.report.figures.catalogue import all_figures
from bench.report.figures.fingerprint import Fingerprints
from bench.report.figures.processes import Renderer
from bench.report.figures.style import FORMATS, new_figure, render
from bench.report.figures.write import writing_figures
from bench.report.matrix import build
from tests.bench.report import synthetic
from tests.undrawn import draw_here


def records() -> list[Record]:
    return synthetic.matrix(methods=("dcss", "l1"), budgets=(0.5,), seeds=(0, 1))


def write(folder: Path, found: Sequence[Record], monkeypatch: pytest.MonkeyPatch) -> int:
    """How many figures are drawn for a report of these records."""
    drawn: list[Any] = []
    original = Renderer.submit
    with monkeypatch.context() as patched:
        patched.setattr(Renderer, "submit", lambda self, figure: drawn.append(figure) or original(self, figure))
        with writing_figures(build(found, suite="s"), None, folder) as written:
            written()
    return len(drawn)


def test_figures_that_did_not_change_are_not_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_here(monkeypatch.setattr)
    found = records()
    names = [drawing.name for drawing in all_figures(build(found, suite="s"))]
    assert write(tmp_path, found, monkeypatch) == len(names) >= 4
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert {f"{name}.{suffix}" for name in names for suffix in FORMATS} | {".drawn.json"} == set(before)
    assert write(tmp_path, found, monkeypatch) == 0
    # One file is gone, and one was changed by hand.
    (tmp_path / f"{names[0]}.svg").unlink()
    (tmp_path / f"{names[1]}.pdf").write_bytes(b"changed")
    assert write(tmp_path, found, monkeypatch) == 2
    (tmp_path / ".drawn.json").write_text("[")
    assert write(tmp_path, found, monkeypatch) == len(names)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_fingerprint_holds_what_a_figure_can_show() -> None:
    def prints(found: Sequence[Record]) -> dict[str, str]:
        matrix = build(found, suite="s")
        return {drawing.name: Fingerprints(matrix).of(drawing) for drawing in all_figures(matrix)}

    found = records()
    plain = prints(found)
    assert prints(found[::-1]) == plain and len(set(plain.values())) == len(plain)
    # The scan of layers shows one record, and not this one.
    changed = found[0].model_copy(update={"final_metrics": {**found[0].final_metrics, "accuracy": 1.25}})
    same = {name for name, print_ in prints([changed, *found[1:]]).items() if print_ == plain[name]}
    assert same == {"sensitivity"}
    # A workload that is added leaves the figures alone that show the first one's searches; another method does not,
    # since colours and legends are those of all methods.
    other = synthetic.workload("last", model="resnet20")
    both = prints([*found, *synthetic.matrix([other], methods=("dcss", "l1"), budgets=(0.5,), seeds=(0, 1))])
    assert both["trajectories"] == plain["trajectories"] and both["metric_vs_macs"] != plain["metric_vs_macs"]
    third = prints([*found, *synthetic.matrix(methods=("gdp",), budgets=(0.5,), seeds=(0, 1))])
    assert not set(third.values()) & set(plain.values())
    matrix = build(found, suite="s")
    unknown = replace(next(all_figures(matrix)), further=object())
    with pytest.raises(TypeError, match="no fingerprint can be made of a object"):
        Fingerprints(matrix).of(unknown)


def test_other_processes_write_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "FEWEST", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    drawings = list(all_figures(build(records(), suite="s")))[:2]
    with Renderer(2) as renderer:
        found = [renderer.submit(drawing.figure) for drawing in drawings]
        elsewhere = [future.result() for future in found]
    assert elsewhere == [render(drawing.figure) for drawing in drawings]


def test_an_error_of_another_process_is_raised_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "FEWEST", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    figure = new_figure(2, 2)
    figure.text(0.5, 0.5, r"$\frac$")
    with Renderer(1) as renderer, pytest.raises(ValueError):
        renderer.submit(figure).result()


def test_a_pdf_holds_the_glyphs_of_its_fonts_and_no_layout_tables() -> None:
    figure = new_figure(2, 1)
    figure.text(0.1, 0.5, "fine")
    pdf = render(figure, ("pdf",))["pdf"]
    streams = [found for found in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.S) if found[:1] == b"\x78"]
    fonts = [data for data in map(zlib.decompress, streams) if data[:4] == b"\0\1\0\0"]
    assert fonts
    for data in fonts:
        tables = {data[12 + 16 * i : 16 + 16 * i] for i in range(int.from_bytes(data[4:6]))}
        assert b"glyf" in tables and not tables & {b"GDEF", b"GPOS", b"GSUB"}
