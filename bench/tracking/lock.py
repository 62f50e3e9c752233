"""A lock that processes of several machines see: a file beside what it guards."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from bench.errors import RequestError

PATIENCE = 300.0
"""Seconds to wait for another process: making a store takes some."""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold `path` + `.lock`, which the system gives free when the process ends, however it ends.

    Raises:
        RequestError: the folder allows no lock, or another process keeps it.
    """
    file = path.with_name(path.name + ".lock")
    try:
        descriptor = _taken(file)
    except OSError as error:
        raise RequestError(f"{path} cannot be locked ({error.strerror}); give a place in another folder") from None
    try:
        yield
    finally:
        # Whoever waits for it finds that it is gone, and makes another.
        file.unlink(missing_ok=True)
        os.close(descriptor)


def _taken(file: Path) -> int:
    """The open lock file, once it is ours."""
    deadline = time.monotonic() + PATIENCE
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(descriptor, file):
                return descriptor
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise TimeoutError(0, f"another process has kept it for {PATIENCE:g} seconds") from None
            time.sleep(0.05)
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is(descriptor: int, file: Path) -> bool:
    """Whether the open file is the one that has this name today."""
    try:
        named = file.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), named)
