"""Puts a report's figures into their folder: those that changed are drawn, the others stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.report.figures.catalogue import all_figures
from bench.report.figures.drawing import Drawing, Written
from bench.report.figures.fingerprint import Fingerprints
from bench.report.figures.kept import Kept
from bench.report.figures.processes import Renderer
from bench.report.figures.samples import LoadPicture
from bench.report.matrix import Matrix
from bench.report.page_pictures import FigurePicture
from bench.report.records import write_bytes

Shown = tuple[list[Written], list[FigurePicture]]
"""What there is, and as images those figures that the page does not draw itself."""


@contextmanager
def writing_figures(
    matrix: Matrix, load: LoadPicture | None, folder: Path, lines: Mapping[str, bytes] | None = None
) -> Iterator[Callable[[], Shown]]:
    """Draw figures while the caller does other work; what is yielded waits for them and writes them.

    Args:
        load: as of `all_figures`.
        lines: as of `Fingerprints`.
    """
    fingerprints, kept = Fingerprints(matrix, lines), Kept(folder)
    drawings = [(drawing, fingerprints.of(drawing)) for drawing in all_figures(matrix, load)]
    changed = [drawing for drawing, drawn_from in drawings if not kept.has(drawing.name, drawn_from)]
    with Renderer(len(changed)) as renderer:
        rendered = {drawing.name: renderer.submit(drawing.figure) for drawing in changed}

        def written() -> Shown:
            shown: Shown = [], []
            for drawing, drawn_from in drawings:
                if drawing.name in rendered:
                    files = rendered[drawing.name].result()
                    for suffix, data in files.items():
                        write_bytes(folder / f"{drawing.name}.{suffix}", data)
                    kept.add(drawing.name, drawn_from, files)
                _show(drawing, folder, shown)
            if drawings:
                kept.save()
            return shown

        yield written


def _show(drawing: Drawing, folder: Path, shown: Shown) -> None:
    written, images = shown
    written.append(Written(drawing.name, drawing.title, drawing.caption))
    if not drawing.interactive:
        png = (folder / f"{drawing.name}.png").read_bytes()
        images.append(FigurePicture(drawing.title, drawing.caption, png))
