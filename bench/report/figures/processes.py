"""Writes figures as PNG, SVG and PDF beside what this process does: drawing is most of the work of a small report.

A figure is made here, where its data is, and travels to a process of its own to be written in each format. These
processes run a module of the project and not the script that asked for a report, which needs no guard for that.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection, Pipe
from types import TracebackType
from typing import TYPE_CHECKING, Any

from bench.processes import cores, keep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROCESSES = 2
FEWEST = 6
"""Figures that are worth a process, which takes a second to import what it draws with."""
PROGRAM = """
import sys
sys.path[:] = {path!r}
from bench.report.figures.processes import serve
serve(int(sys.argv[1]))
"""


class Renderer:
    """Writes figures in every format, in other processes where there are many figures and cores for it.

    Args:
        figures: how many there will be.
    """

    def __init__(self, figures: int) -> None:
        self._count = min(PROCESSES, cores()) if figures >= FEWEST and cores() > 1 else 0
        self._started: list[_Process] = []
        self._mine = threading.local()
        self._threads = ThreadPoolExecutor(self._count) if self._count else None

    def __enter__(self) -> Renderer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for process in self._started:
                process.kill()
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=kind is not None)
        for process in self._started:
            process.end()

    def submit(self, figure: Figure) -> Future[dict[str, bytes]]:
        """The figure's bytes by format, once they are there."""
        if self._threads is not None:
            return self._threads.submit(self._elsewhere, figure)
        from bench.report.figures.style import render

        done: Future[dict[str, bytes]] = Future()
        done.set_result(render(figure))
        return done

    def _elsewhere(self, figure: Figure) -> dict[str, bytes]:
        """Each thread has a process, and waits for it."""
        if not hasattr(self._mine, "process"):
            self._mine.process = _Process()
            self._started.append(self._mine.process)
        return self._mine.process.render(figure)


class _Process:
    def __init__(self) -> None:
        self._pipe, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM.format(path=sys.path), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the one that waits
            )

    def render(self, figure: Figure) -> dict[str, bytes]:
        """The figure's bytes by format.

        Raises:
            RuntimeError: the process has died.
        """
        try:
            self._pipe.send(figure)
            answer: dict[str, bytes] | BaseException = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError(f"a process that draws figures ended with {self._process.wait()}") from error
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        self._pipe.close()  # which it reads as the end
        self._process.wait()


def serve(descriptor: int) -> None:
    """Write figures until the pipe is closed, which it also is when the process at its other end is gone."""
    from matplotlib.backends import backend_agg, backend_pdf, backend_svg  # noqa: F401

    from bench.report.figures.style import render

    keep()  # what is imported stays, and need not be looked at again
    with Connection(descriptor) as pipe:
        while True:
            try:
                figure: Any = pipe.recv()
            except EOFError:
                return
            try:
                pipe.send(render(figure))
            except Exception as error:  # for the process that waits
                pipe.send(error)
