"""What the process of `heart` does: it changes a tag of the runs that its parent holds, until that one is gone.

For a SQLite file this is run as a program of its own, which loads a few of Python's modules and nothing else: it begins
in a sixth of the time that the project's modules would take, and stays small.
"""

from __future__ import annotations

import os
import select
import sys
import time

TYPE_CHECKING = False  # as in `typing`, which is not loaded either
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PATIENCE = 20.0
"""Seconds to wait for a database that another process has locked, as MLflow does."""


def heartbeat(count: object) -> str:
    """The value of a run's heartbeat: the time of day, for people, and a count, so that no two are the same."""
    return f"{time.time():.0f} {count}"


def main(store: str, tag: str, interval: str, parent: str) -> None:
    """Change the tag of the runs that standard input names, until the parent is gone or holds none for an interval.

    Args:
        store: the store's address; a SQLite file's is `sqlite:file:///` and the path, with % for what is special.
        interval: seconds between two changes.
        parent: the number of the process that holds the runs.
    """
    beat, held, due, count, rest = _beats(store, tag), list[str](), time.monotonic() + float(interval), 0, b""
    idle = False
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
            idle = False
        if time.monotonic() < due:
            continue
        if idle:
            return
        due, count, idle = time.monotonic() + float(interval), count + 1, not held
        for run_id in list(held):
            try:
                ours = beat(run_id, heartbeat(f"{os.getpid()}.{count}"))
            except Exception:  # the store is away: it is tried again at the next beat
                continue
            if not ours:
                held.remove(run_id)
                print(run_id, flush=True)


def _beats(store: str, tag: str) -> Callable[[str, str], bool]:
    """How a run's tag is changed in this store: gives False where the run has ended, or was deleted."""
    if store.startswith("sqlite:"):
        address = store.removeprefix("sqlite:")
        return lambda run_id, value: _beat_file(address, tag, run_id, value)
    from bench.tracking.address import SERVERS, scheme

    if scheme(store) in SERVERS:
        return lambda run_id, value: _beat_server(store, tag, run_id, value)
    from mlflow.tracking import MlflowClient

    client = MlflowClient(store)

    def beat(run_id: str, value: str) -> bool:
        info = client.get_run(run_id).info
        if (info.status, info.lifecycle_stage) != ("RUNNING", "active"):
            return False
        client.set_tag(run_id, tag, value)
        return True

    return beat


def _beat_file(address: str, tag: str, run_id: str, value: str) -> bool:
    import sqlite3

    update = """
        UPDATE tags SET value = ? WHERE run_uuid = ? AND key = ? AND EXISTS (
            SELECT 1 FROM runs WHERE run_uuid = ? AND status = 'RUNNING' AND lifecycle_stage = 'active')
    """
    database = sqlite3.connect(f"{address}?mode=rw", uri=True, timeout=PATIENCE)
    try:
        with database:
            return database.execute(update, (value, run_id, tag, run_id)).rowcount == 1
    finally:
        database.close()


def _beat_server(uri: str, tag: str, run_id: str, value: str) -> bool:
    from bench.errors import RequestError
    from bench.tracking.rest import ask_server

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


if __name__ == "__main__":
    main(*sys.argv[1:])
