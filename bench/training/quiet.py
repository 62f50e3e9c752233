"""A latency is measured while the other cells on the machine hold still.

Two file locks, which the operating system releases when a process dies. A process that computes passes the *turnstile*
and stays in the *room* for one step at a time. A process that measures shuts the turnstile, so that nobody enters, and
begins when the room is empty. Imports no torch.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # No such locks on this system: cells run as they come, and a record says so.
    fcntl = None  # type: ignore[assignment]

PATIENCE = 60.0
"""Seconds after which a process that does not answer (one that was stopped) is no longer waited for."""

_open: tuple[int, int, int] | None = None
_waited = 0.0


@contextmanager
def step() -> Iterator[None]:
    """One step of training or evaluation; waits where a latency is being measured."""
    turnstile, room = _locks()
    if fcntl is None or turnstile < 0:
        yield
        return
    global _waited
    start = time.perf_counter()
    if _take(turnstile, fcntl.LOCK_SH):
        _take(room, fcntl.LOCK_SH)
        fcntl.flock(turnstile, fcntl.LOCK_UN)
    _waited += time.perf_counter() - start
    try:
        yield
    finally:
        fcntl.flock(room, fcntl.LOCK_UN)


@contextmanager
def quiet() -> Iterator[bool]:
    """No other process of this user is inside a `step`; False where that could not be had."""
    turnstile, room = _locks()
    if fcntl is None or turnstile < 0:
        yield False
        return
    try:
        yield _take(turnstile, fcntl.LOCK_EX) and _take(room, fcntl.LOCK_EX)
    finally:
        fcntl.flock(room, fcntl.LOCK_UN)
        fcntl.flock(turnstile, fcntl.LOCK_UN)


def waited() -> float:
    """Seconds that this process has stood still for others' measurements."""
    return _waited


def _take(lock: int, how: int) -> bool:
    assert fcntl is not None
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(lock, how | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)


def _locks() -> tuple[int, int]:
    """File descriptors of the turnstile and the room, this process's own; -1 where they cannot be had."""
    global _open
    if _open is None or _open[0] != os.getpid():
        folder = Path(tempfile.gettempdir()) / f"prunebench-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            turnstile, room = (os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600) for name in ("turnstile", "room"))
        except OSError:
            turnstile, room = -1, -1
        _open = (os.getpid(), turnstile, room)
    return _open[1:]
