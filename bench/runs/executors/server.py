"""The server that forks processes which run jobs, with PyTorch loaded once. Imports no torch."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Iterator
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext

LOADED = "bench.runs.loaded"
"""What the server loads."""

MALLOC = "GLIBC_TUNABLES"
"""Where Linux gives large pages to those who ask, activations in them made a step of a U-Net or an EDSR 4 to 7 % faster
on a processor."""


def serving() -> ForkServerContext:
    """Processes of this context are forked by the server, which begins to load now where it does not run yet."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([LOADED])
    with environment(MALLOC, os.environ.get(MALLOC, "glibc.malloc.hugetlb=1")):
        forkserver.ensure_running()
    return context


@contextlib.contextmanager
def environment(name: str, value: str | None) -> Iterator[None]:
    """A process that is started inside sees this variable; None: as it is."""
    before = os.environ.get(name)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        if before is not None:
            os.environ[name] = before
        elif value is not None:
            del os.environ[name]
