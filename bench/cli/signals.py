"""Ctrl-C and SIGTERM: the command ends within seconds, whatever it is doing, and says how to go on."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import typer

GRACE = 5.0
"""Seconds that a command has to end in good order."""
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "ended from outside"}


class Signals:
    """SIGTERM raises KeyboardInterrupt as Ctrl-C does, and either ends the process after `GRACE` seconds at the latest.

    A context manager. A handler in Python runs between two steps of the main thread alone, which may be in a long call:
    a thread sees to it that the process ends all the same.
    """

    def __init__(self, end: Callable[[int], object] = os._exit) -> None:
        self._end = end
        self._came: list[int] = []
        self._over = threading.Event()

    def __enter__(self) -> Signals:
        self._in_main = threading.current_thread() is threading.main_thread()
        if self._in_main:
            self._ours, self._theirs = socket.socketpair()
            self._theirs.setblocking(False)
            self._before = signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
            self._handler = signal.signal(signal.SIGTERM, self._terminated)
            threading.Thread(target=self._attend, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._in_main:
            signal.signal(signal.SIGTERM, self._handler)
            signal.set_wakeup_fd(self._before)
            self._theirs.close()

    def how_to_go_on(self) -> int:
        """Say in one line what came and how to go on; gives the exit code."""
        return _say(signal.SIGTERM if signal.SIGTERM in self._came else signal.SIGINT)

    def _terminated(self, number: int, frame: FrameType | None) -> None:
        self._came.append(number)
        raise KeyboardInterrupt

    def _attend(self) -> None:
        """Wait for a signal, and end the process when it has had its time."""
        with self._ours, suppress(OSError):
            while told := self._ours.recv(1):
                if told[0] in _WORDS and not self._over.wait(GRACE):
                    code = _say(told[0])
                    sys.stderr.flush()
                    self._end(code)


def _say(number: int) -> int:
    again = shlex.join(["prunebench", *sys.argv[1:]])
    typer.echo(f"prunebench: {_WORDS[signal.Signals(number)]}; to go on where this stopped: {again}", err=True)
    return 128 + number
