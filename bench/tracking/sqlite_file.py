"""SQLite files that hold an MLflow store, read and checked without importing MLflow."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from bench.errors import RequestError
from bench.tracking.beats import PATIENCE

ELSEWHERE = "give another with --tracking-uri"


def require_database(path: Path) -> None:
    """Refuse a file that is there and is no MLflow database.

    Raises:
        RequestError: in a sentence.
    """
    try:
        with path.open("rb") as file:
            begin = file.read(16)
    except IsADirectoryError:
        raise RequestError(
            f"tracking store {path} is a folder; give a file in it: --tracking-uri sqlite:///{path / 'mlflow.db'}"
        ) from None
    except OSError as error:
        raise RequestError(f"tracking store {path} cannot be read ({error.strerror}); {ELSEWHERE}") from None
    if not begin:
        raise RequestError(f"tracking store {path} is an empty file and no MLflow database; remove it, or {ELSEWHERE}")
    if begin != b"SQLite format 3\0":
        raise RequestError(
            f"tracking store {path} cannot be used: it cannot be read as an MLflow database (no SQLite file); "
            f"{ELSEWHERE}"
        )
    with connected(path) as database:
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if lacking := {"alembic_version", "experiments", "runs", "tags"} - names:
        raise RequestError(
            f"tracking store {path} cannot be used: it cannot be read as an MLflow database (it has no table "
            f"{min(lacking)}); {ELSEWHERE}"
        )


@contextlib.contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a file that is there.

    It is opened for writing where that is allowed: what a killed process has left half-written can only be undone, and
    what lies in a write-ahead log only be read, by one who may write.

    Raises:
        RequestError: the file cannot be read, is damaged, or stays locked.
    """
    try:
        database = _open(path)
        try:
            with database:
                yield database
        finally:
            database.close()
    except sqlite3.Error as error:
        if "locked" in str(error) or "busy" in str(error):
            raise RequestError(
                f"tracking store {path} is locked by another process and was so for {PATIENCE:g} seconds; end that "
                f"process, or {ELSEWHERE}"
            ) from None
        raise RequestError(
            f"tracking store {path} cannot be used: it cannot be read as an MLflow database ({error}); {ELSEWHERE}"
        ) from None


def _open(path: Path) -> sqlite3.Connection:
    address = path.resolve().as_uri()
    modes = ["rw"] if os.access(path, os.W_OK) else []
    modes += ["ro"]
    if not any(path.with_name(path.name + end).exists() for end in ("-journal", "-wal")):
        modes.append("ro&immutable=1")  # a write-ahead database that was closed, where nothing can be written beside it
    for mode in modes:
        database = sqlite3.connect(f"{address}?mode={mode}", uri=True, timeout=PATIENCE)
        try:
            database.execute("SELECT name FROM sqlite_master LIMIT 1").fetchall()
        except sqlite3.OperationalError as error:
            database.close()
            if mode == modes[-1] or "locked" in str(error):
                raise
        else:
            return database
    raise AssertionError("unreachable")
