"""MLflow's SQLite file: made once, brought up to date, and opened wherever it lies."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy
import sqlalchemy.event
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils as mlflow_database
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from bench.errors import RequestError, first_line
from bench.tracking.lock import locked
from bench.tracking.places import artifact_root, local_folder
from bench.tracking.sqlite_file import ELSEWHERE, connected, require_database

T = TypeVar("T")

logger = logging.getLogger("prunebench")

_files: dict[str, str] = {}
"""Which file is opened in place of a name that SQLAlchemy is given."""


def opened(path: Path, connect: Callable[[str], T]) -> T:
    """What `connect` makes of MLflow's address of a SQLite file, which is made or migrated first where that is due.

    One process at a time does this: MLflow makes its tables, and its default experiment, in steps.

    Args:
        path: whole.

    Raises:
        RequestError: there can be no store, or what is there is none.
    """
    if path.is_dir():
        require_database(path)
    if not path.parent.is_dir():
        raise RequestError(f"tracking store {path} cannot be written: there is no folder {path.parent}; {ELSEWHERE}")
    for place in (path.parent, path) if path.exists() else (path.parent,):
        if not os.access(place, os.W_OK | (os.X_OK if place.is_dir() else 0)):
            raise RequestError(f"tracking store {path} cannot be written: {place} is read-only; {ELSEWHERE}")
    with locked(path):
        if path.exists():
            require_database(path)
            _bring_up_to_date(path)
        else:
            _make(path)
        return connect(mlflow_address(path))


def mlflow_address(path: Path) -> str:
    """The address under which MLflow opens this file.

    Before release 2.1, SQLAlchemy takes the path as it stands and ends it at a question mark; later ones decode it.
    MLflow makes the folder of the path as it stands. A path that means the same to all three is handed over; for any
    other one a name, which is exchanged for the path when SQLite opens it.
    """
    text = str(path)
    if not {"%", "?"} & set(text):
        return f"sqlite:///{text}"
    name = f"/prunebench-{hashlib.sha256(os.fsencode(text)).hexdigest()[:24]}.db"
    if not _files:
        sqlalchemy.event.listen(sqlalchemy.Engine, "do_connect", _exchange_name)
    _files[name] = text
    return f"sqlite:///{name}"


def _exchange_name(dialect: Any, record: Any, arguments: list[Any], options: dict[str, Any]) -> None:
    if arguments and arguments[0] in _files:
        arguments[0] = _files[arguments[0]]


def _make(path: Path) -> None:
    """A new store: under another name until it is whole, so that one who is killed leaves none that is half-made."""
    fresh = path.with_name(path.name + ".new")
    for leftover in (fresh, fresh.with_name(fresh.name + "-journal")):
        leftover.unlink(missing_ok=True)
    try:
        _with_engine(fresh, mlflow_database._initialize_tables)
        fresh.replace(path)
    except (SQLAlchemyError, MlflowException, OSError) as error:
        raise RequestError(f"tracking store {path} cannot be made ({first_line(error)}); {ELSEWHERE}") from error
    finally:
        fresh.unlink(missing_ok=True)


def _bring_up_to_date(path: Path) -> None:
    """Migrate a store that an older MLflow has made, once a copy of it is there."""
    with connected(path) as database:
        row = database.execute("SELECT version_num FROM alembic_version").fetchone()
    version = str(row[0]) if row else ""
    if version == _latest_version():
        return
    if not version:
        raise RequestError(
            f"tracking store {path} was left half-made by a process that was killed; remove it, or {ELSEWHERE}"
        )
    scripts = ScriptDirectory.from_config(mlflow_database._get_alembic_config(""))
    try:
        scripts.get_revision(version)
    except CommandError:
        raise RequestError(
            f"tracking store {path} was made by a later release of MLflow (schema {version}); update "
            f"mlflow, or {ELSEWHERE}"
        ) from None
    copy = _copied(path, version)
    logger.warning("%s was made by an older release of MLflow: it is kept as %s and migrated", path, copy.name)
    try:
        _with_engine(path, mlflow_database._upgrade_db)
    except (SQLAlchemyError, MlflowException, CommandError, OSError) as error:
        raise RequestError(
            f"tracking store {path} cannot be migrated to this release of MLflow ({first_line(error)}); as it was, it "
            f"is in {copy}"
        ) from error


_latest_version = functools.cache(mlflow_database._get_latest_schema_revision)
"""Of the tables of this MLflow, which reads all its scripts to find out: once, and not for each store that it opens."""
mlflow_database._get_latest_schema_revision = _latest_version


def _copied(path: Path, version: str) -> Path:
    """A copy of the database beside it, whole or not at all; an earlier copy is left alone."""
    names = [f"{path.name}.{version}"] + [f"{path.name}.{version}-{number}" for number in range(2, 100)]
    copy = next(file for file in map(path.with_name, names) if not file.exists())
    fresh = copy.with_name(copy.name + ".new")
    fresh.unlink(missing_ok=True)
    try:
        with connected(path) as database:
            target = sqlite3.connect(fresh)
            try:
                database.backup(target)
            finally:
                target.close()
        fresh.replace(copy)
    except (sqlite3.Error, OSError) as error:
        raise RequestError(f"tracking store {path} cannot be copied before it is migrated ({error})") from error
    finally:
        fresh.unlink(missing_ok=True)
    return copy


def _with_engine(path: Path, work: Callable[[sqlalchemy.Engine], object]) -> None:
    engine = sqlalchemy.create_engine(mlflow_address(path), poolclass=NullPool)
    try:
        work(engine)
    finally:
        engine.dispose()


def relocate(path: Path, suite: str) -> None:
    """Tell MLflow where the artifacts of a suite lie, where the folder has been moved since it was last opened.

    What was put elsewhere on purpose, and what is there under its old address alone, is left as it is.

    Raises:
        RequestError: the database cannot be read or written.
    """
    root = artifact_root(path, suite)
    with connected(path) as database:
        row = database.execute("SELECT experiment_id, artifact_location FROM experiments WHERE name = ?", (suite,))
        for experiment, location in row.fetchall():
            if _is_ours(location, ("mlartifacts", suite)) and local_folder(location) != root:
                change = "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?"
                database.execute(change, (root.as_uri(), experiment))
            runs = database.execute("SELECT run_uuid, artifact_uri FROM runs WHERE experiment_id = ?", (experiment,))
            for run_id, location in runs.fetchall():
                folder = root / run_id / "artifacts"
                if _is_ours(location, ("mlartifacts", suite, run_id, "artifacts")) and _has_moved(location, folder):
                    change = "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?"
                    database.execute(change, (folder.as_uri(), run_id))


def _is_ours(location: str | None, end: tuple[str, ...]) -> bool:
    """Whether an address of artifacts is one that a `Tracker` gave."""
    known = local_folder(location or "")
    return known is not None and known.parts[-len(end) :] == end


def _has_moved(location: str, folder: Path) -> bool:
    """Whether what the address names lies in `folder` today, or nowhere."""
    known = local_folder(location)
    return known is not None and known != folder and (folder.is_dir() or not known.is_dir())
