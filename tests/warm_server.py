"""Imports what programs of this project import, and copies itself for each program that `warm_client` asks for.

python -m tests.warm_server SOCKET PROCESS    # ends with that process
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import random
import runpy
import select
import signal
import socket
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

from bench.processes import USUAL, keep, run_as_program
from tests.undrawn import draw_nothing, measure_briefly

PRELOADED = """
    bench.cli.app bench.cli.check bench.cli.export bench.cli.new bench.cli.plan bench.cli.run bench.cli.show
    bench.contract.suite bench.report.write bench.runs.display bench.runs.loaded bench.runs.matrix
    bench.structure.onnx_export bench.tracking.mlflow_store matplotlib.backends.backend_pdf
    matplotlib.backends.backend_svg matplotlib.pyplot onnx pytest segmentation_models_pytorch sklearn.datasets
    torchmetrics.classification torchvision
"""


def serve(path: Path, tests: int) -> tuple[dict[str, Any], list[int]]:
    """Copy this process whenever a program is asked for, until the tests have ended.

    Returns:
        In a copy: what is asked for, and the program's streams.
    """
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    print("ready", flush=True)
    ended = os.pidfd_open(tests)
    while True:
        if ended in select.select([listener, ended], [], [])[0]:
            path.unlink()
            Path(f"{path}.lock").unlink()
            os._exit(0)
        asking = listener.accept()[0]
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not os.fork():
            listener.close()
            os.close(ended)
            return attended(asking)
        asking.close()


def attended(asking: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Start the program in a process below this one, say how it ended, and end it when nobody waits for it.

    Returns:
        In the program: what is asked for, and its streams. The process that attends to it does not return.
    """
    text, streams, _, _ = socket.recv_fds(asking, 2**20, 3)
    if not text:
        os._exit(0)  # only looked whether somebody listens
    while not text.endswith(b"\n"):
        text += asking.recv(2**20)
    program = os.fork()
    if not program:
        asking.close()
        return json.loads(text), streams
    for stream in streams:
        os.close(stream)
    watched = os.pidfd_open(program)
    if watched not in select.select([asking, watched], [], [])[0]:
        os.kill(program, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
    with contextlib.suppress(OSError):
        asking.sendall(f"{code}\n".encode())
    os._exit(0)


def become(request: dict[str, Any], streams: list[int]) -> None:
    """Go on as the program that is asked for."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = sys.__stdin__ = os.fdopen(0, closefd=False)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    assert os.environ["OMP_NUM_THREADS"] == "1", "a copy cannot change how many threads there are"
    tempfile.tempdir = None
    random.seed()
    sys.modules["numpy"].random.seed()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    first, *rest = request["arguments"]
    if first == "undrawn":
        draw_nothing()
        measure_briefly()
        first, *rest = rest
    if first == "-u":
        sys.stdout.reconfigure(line_buffering=True)
        first, *rest = rest
    start = {"-c": "", "-m": request["folder"]}.get(first, str(Path(first).parent.resolve()))
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [start, *filter(None, given), *sys.path]
    importlib.invalidate_caches()
    # What the server has imported need not be taken down at the end.
    run_as_program(functools.partial(run, first, rest))


def run(first: str, rest: list[str]) -> None:
    """What Python does with these arguments."""
    gc.set_threshold(*USUAL)
    if first == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        return
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    if first == "-c":
        sys.argv, code = [first, *rest[1:]], compile(rest[0], "<string>", "exec")
    else:
        main.__file__ = first
        sys.argv, code = [first, *rest], compile(Path(first).read_text("utf-8"), first, "exec")
    exec(code, main.__dict__)


def start() -> None:
    """Import all, and serve."""
    for name in PRELOADED.split():
        importlib.import_module(name)
    gc.collect()
    keep()
    threads = {(thread / "comm").read_text().strip() for thread in Path("/proc/self/task").iterdir()}
    # A copy has none of this process's threads; that of pyarrow's memory is started again there.
    assert len(threads - {"jemalloc_bg_thd"}) == 1, threads
    mine = {str(Path.cwd()), *os.environ["PYTHONPATH"].split(os.pathsep)}
    sys.path[:] = [place for place in sys.path if place not in mine]
    become(*serve(Path(sys.argv[1]), int(sys.argv[2])))


if __name__ == "__main__":
    start()
