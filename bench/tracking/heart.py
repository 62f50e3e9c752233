"""Signs of life of runs, sent by a process of their own: neither a long epoch nor a long call into C holds them up.

The process is a child of the one that works. It hears on its standard input which runs are held, says on its standard
output which of them are held no more, and ends with its parent. It imports no MLflow where the store is a SQLite file
or a server.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from bench.errors import RequestError
from bench.tracking.address import SERVERS, scheme, sqlite_path
from bench.tracking.rest import ask_server
from bench.tracking.sqlite_file import connected

PROGRAM = "import sys; sys.path[:] = {path!r}; from bench.tracking.heart import main; main(*sys.argv[1:])"


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
            [sys.executable, "-c", PROGRAM.format(path=sys.path), *self._arguments, str(os.getpid())],
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
            if self._leases:  # it was killed
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


def heartbeat(count: object) -> str:
    """The value of a run's heartbeat: the time of day, for people, and a count, so that no two are the same."""
    return f"{time.time():.0f} {count}"


def main(uri: str, tag: str, interval: str, parent: str) -> None:
    """The process: changes the tag of the runs that its parent holds, until that one is gone."""
    beat, held, due, count, rest = _beats(uri, tag), list[str](), time.monotonic() + float(interval), 0, b""
    while os.getppid() == int(parent):
        ready, _, _ = select.select([0], [], [], min(1.0, max(0.0, due - time.monotonic())))
        if ready:
            told = os.read(0, 65536)
            if not told:
                return
            *lines, rest = (rest + told).split(b"\n")
            for line in lines:
                run_id = line[1:].decode()
                held = [*held, run_id] if line[:1] == b"+" else [run for run in held if run != run_id]
        if time.monotonic() < due:
            continue
        due, count = time.monotonic() + float(interval), count + 1
        for run_id in list(held):
            try:
                ours = beat(run_id, heartbeat(f"{os.getpid()}.{count}"))
            except Exception:  # the store is away: it is tried again at the next beat
                continue
            if not ours:
                held.remove(run_id)
                print(run_id, flush=True)


def _beats(uri: str, tag: str) -> Callable[[str, str], bool]:
    """How a run's tag is changed in this store: gives False where the run has ended, or was deleted."""
    kind = scheme(uri)
    if kind == "sqlite":
        return lambda run_id, value: _beat_file(uri, tag, run_id, value)
    if kind in SERVERS:
        return lambda run_id, value: _beat_server(uri, tag, run_id, value)
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)

    def beat(run_id: str, value: str) -> bool:
        info = client.get_run(run_id).info
        if (info.status, info.lifecycle_stage) != ("RUNNING", "active"):
            return False
        client.set_tag(run_id, tag, value)
        return True

    return beat


def _beat_file(uri: str, tag: str, run_id: str, value: str) -> bool:
    update = """
        UPDATE tags SET value = ? WHERE run_uuid = ? AND key = ? AND EXISTS (
            SELECT 1 FROM runs WHERE run_uuid = ? AND status = 'RUNNING' AND lifecycle_stage = 'active')
    """
    with connected(sqlite_path(uri)) as database:
        return database.execute(update, (value, run_id, tag, run_id)).rowcount == 1


def _beat_server(uri: str, tag: str, run_id: str, value: str) -> bool:
    try:
        found: Any = ask_server(uri, f"runs/get?run_id={run_id}")
        info = found["run"]["info"]
        if (info["status"], info.get("lifecycle_stage", "active")) != ("RUNNING", "active"):
            return False
        ask_server(uri, "runs/set-tag", {"run_id": run_id, "key": tag, "value": value})
    except FileNotFoundError:
        return False
    except RequestError as error:
        if "INVALID_PARAMETER_VALUE" in str(error):  # it was deleted between the two questions
            return False
        raise
    return True
