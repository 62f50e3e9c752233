"""Signs of life of runs, sent by a process of their own: neither a long epoch nor a long call into C holds them up.

The process is a child of the one that works. It hears on its standard input which runs are held, says on its standard
output which of them are held no more, and ends with its parent, or when no run is held for a while. What it does is in
`beats`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import sys
import threading
import time

from bench.tracking import beats
from bench.tracking.address import scheme, sqlite_path

PROGRAM = "import sys; sys.path[:] = {path!r}; from bench.tracking.beats import main; main(*sys.argv[1:])"
"""For stores that need more than Python's own modules."""


class Lease:
    """That a run is ours, as long as nobody has taken it over."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self._lost = threading.Event()

    @property
    def is_lost(self) -> bool:
        """Whether another process has taken the run over, or closed it."""
        return self._lost.is_set()

    def lose(self) -> None:
        """Say that the run is no longer ours."""
        self._lost.set()


class Heart:
    """The process that shows that the runs of this one are alive; it is started with the first of them.

    Args:
        uri: the store's absolute address.
        tag: name of the runs' tag that is changed.
        interval: seconds between two signs.
    """

    def __init__(self, uri: str, tag: str, interval: float) -> None:
        if scheme(uri) == "sqlite":
            self._program = ["-S", "-P", beats.__file__]
            uri = f"sqlite:{sqlite_path(uri).resolve().as_uri()}"
        else:
            self._program = ["-c", PROGRAM.format(path=sys.path)]
        self._arguments = (uri, tag, str(interval))
        self._leases: dict[str, Lease] = {}
        self._lock = threading.RLock()
        self._process: subprocess.Popen[str] | None = None
        self._owner = os.getpid()

    @property
    def pid(self) -> int | None:
        """The process number of the one that is running."""
        return self._process.pid if self._process is not None else None

    def hold(self, run_id: str) -> Lease:
        """Show from now on that this run is alive."""
        with self._lock:
            self._leases[run_id] = lease = Lease(run_id)
            self._tell(f"+{run_id}")
        return lease

    def release(self, run_id: str) -> None:
        """Stop showing it: the run has ended."""
        with self._lock:
            if self._leases.pop(run_id, None) is not None:
                self._tell(f"-{run_id}")

    def stop(self) -> None:
        """End the process; a run that is held later starts another."""
        with self._lock:
            self._leases.clear()
            process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.wait()

    def _tell(self, line: str) -> None:
        if self._process is None:
            self._begin()
            return
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # it has died: who reads its answers starts another
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _begin(self) -> None:
        """Start the process, and tell it of all that is held."""
        self._process = subprocess.Popen(
            [sys.executable, *self._program, *self._arguments, str(os.getpid())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            start_new_session=True,  # Ctrl-C is for the one that works
        )  # fmt: skip
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        for run_id in self._leases:
            self._tell(f"+{run_id}")

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            for line in process.stdout:
                with self._lock:
                    lease = self._leases.get(line.strip())
                if lease is not None:
                    lease.lose()
        process.wait()
        with self._lock:
            if process is not self._process:
                return
            self._process = None
            if self._leases:  # it was killed, or ended just as a run was taken up
                time.sleep(0.2)
                self._begin()


_hearts: dict[tuple[int, str], Heart] = {}


def heart_of(uri: str, tag: str, interval: float) -> Heart:
    """This process's heart for a store."""
    key = os.getpid(), uri
    if key not in _hearts:
        _hearts[key] = heart = Heart(uri, tag, interval)
        atexit.register(heart.stop)
    return _hearts[key]
