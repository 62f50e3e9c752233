"""Reports with a dot in place of each figure: drawing is most of the time of a small report."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

DOT = b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg==")
"""A PNG of one pixel."""


def draw_nothing(replace: Callable[[Any, str, object], object] = setattr) -> None:
    """Figures that this process makes are not drawn from now on, neither of reports nor of cells."""
    from bench.report.figures import processes
    from bench.report.figures.style import FORMATS
    from bench.runs.cell import run

    dots: Future[dict[str, bytes]] = Future()
    dots.set_result(dict.fromkeys(FORMATS, DOT))
    replace(processes.Renderer, "submit", lambda self, figure: dots)
    replace(run, "save_widths", lambda record, path: path.write_bytes(DOT))
