"""Reports with a dot in place of each figure, or drawn by one process, and brief latencies: they take most of a small
run's time.
"""

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


def draw_here(replace: Callable[[Any, str, object], object]) -> None:
    """This process draws its figures by itself from now on: others would have to import matplotlib first."""
    from bench.report.figures import processes

    replace(processes, "FEWEST", 1_000_000)


def measure_briefly(replace: Callable[[Any, str, object], object] = setattr) -> None:
    """Latencies are of ten measurements from now on, however short."""
    from bench.runs.cell import evaluation
    from bench.structure.measure import compare_latencies

    def quickly(*arguments: Any, min_seconds: float, **options: Any) -> list[Any]:
        return compare_latencies(*arguments, min_seconds=0, **options)

    replace(evaluation, "compare_latencies", quickly)
