"""MLflow's SQLite file: under any name, made and migrated once, recovered, and refused in a sentence."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic import command
from alembic.script import ScriptDirectory
from mlflow.store.db import utils as mlflow_database
from mlflow.store.tracking.dbmodels.initial_models import Base
from sqlalchemy.pool import NullPool

from bench.errors import RequestError
from bench.tracking import sqlite_file
from bench.tracking.address import absolute, sqlite_address
from bench.tracking.mlflow_store import Tracker
from bench.tracking.quick_read import read_states
from tests.bench.tracking.ended import end
from tests.bench.tracking.test_address import AWKWARD


@pytest.mark.parametrize("name", AWKWARD)
def test_a_store_lies_in_any_folder(
    name: str, _empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    shutil.copy(_empty_store, folder / "mlflow.db")
    monkeypatch.chdir(folder)
    uri = absolute("sqlite:///mlflow.db")
    tracker = Tracker(uri, "s")
    run_id = end(tracker, "aaa", text='{"x": 1}')
    assert tracker.read_text(run_id, "record.json") == '{"x": 1}'
    assert read_states(uri, "s")["aaa"].status == "finished"
    assert (folder / "mlartifacts/s" / run_id / "artifacts/record.json").is_file()
    # Nothing else has appeared, in this folder or beside it.
    assert {file.name for file in folder.iterdir()} == {"mlflow.db", "mlartifacts"}
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_mlflows_scripts_are_read_once_a_process(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Tracker(store, "first")

    def read(*_: Any) -> None:
        raise AssertionError("they are read again")

    monkeypatch.setattr(ScriptDirectory, "from_config", read)
    shutil.copy(store.removeprefix("sqlite:///"), f"{store.removeprefix('sqlite:///')}.other.db")
    Tracker(f"{store}.other.db", "second")


def test_a_new_store_is_made_once_by_whoever_comes_first(
    _empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def make(engine: sqlalchemy.Engine) -> None:
        made.append(engine.url.database or "")
        time.sleep(0.3)  # long enough for the others to come
        shutil.copy(_empty_store, made[-1])

    monkeypatch.setattr(mlflow_database, "_initialize_tables", make)
    (tmp_path / "mlflow.db.new").write_text("left by one who was killed")
    uri = sqlite_address(tmp_path / "mlflow.db")
    with ThreadPoolExecutor(3) as pool:
        trackers = list(pool.map(lambda suite: Tracker(uri, suite), ["s", "s", "t"]))
    assert made == [str(tmp_path / "mlflow.db.new")]
    assert trackers[0].experiment == trackers[1].experiment != trackers[2].experiment
    assert {file.name for file in tmp_path.iterdir()} == {"mlflow.db"}


def test_a_store_of_an_older_mlflow_is_copied_and_migrated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "mlflow.db"
    older = _make_older(path)
    before = path.read_bytes()
    tracker = Tracker(sqlite_address(path), "s")
    end(tracker, "aaa")
    assert [line for line in caplog.messages if "older release" in line and f"mlflow.db.{older}" in line]
    assert _version(tmp_path / f"mlflow.db.{older}") == older != _version(path)
    assert _tables(tmp_path / f"mlflow.db.{older}") and before[:16] == b"SQLite format 3\0"
    # A second time there is nothing to do.
    caplog.clear()
    Tracker(sqlite_address(path), "s")
    assert not caplog.messages and not (tmp_path / f"mlflow.db.{older}-2").exists()


def _make_older(path: Path) -> str:
    """A store as the release of MLflow before the last change of its tables made it; its version."""
    config = mlflow_database._get_alembic_config("")
    head = ScriptDirectory.from_config(config).get_revision(mlflow_database._get_latest_schema_revision())
    assert head is not None and isinstance(head.down_revision, str)
    engine = sqlalchemy.create_engine(f"sqlite:///{path}", poolclass=NullPool)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, head.down_revision)
    return head.down_revision


def _version(path: Path) -> str:
    with sqlite3.connect(path) as database:
        return database.execute("SELECT version_num FROM alembic_version").fetchone()[0]


def _tables(path: Path) -> set[str]:
    with sqlite3.connect(path) as database:
        return {name for (name,) in database.execute("SELECT name FROM sqlite_master")}


def test_a_store_of_a_later_mlflow_is_refused_and_stays_as_it_is(store: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'fffffffffff0'")
    before = (tmp_path / "mlflow.db").read_bytes()
    with pytest.raises(RequestError, match=r"later release of MLflow \(schema fffffffffff0\); update mlflow"):
        Tracker(store, "s")
    assert (tmp_path / "mlflow.db").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_store_that_was_left_half_made_is_refused(store: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("DELETE FROM alembic_version")
    with pytest.raises(RequestError, match="was left half-made by a process that was killed; remove it"):
        Tracker(store, "s")


def test_a_store_that_is_read_only_is_read_and_not_written(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end(Tracker(store, "s"), "aaa")
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    assert read_states(store, "s")["aaa"].status == "finished"
    with pytest.raises(RequestError, match=rf"mlflow\.db cannot be written: {tmp_path} is read-only"):
        Tracker(store, "s")


def test_what_is_no_store_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    (tmp_path / "it's.db").write_text("this is no database")
    with sqlite3.connect(tmp_path / "other.db") as database:
        database.execute("CREATE TABLE pets (name TEXT)")
    (tmp_path / "folder").mkdir()
    before = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    for name, reason in {
        "empty.db": "is an empty file and no MLflow database; remove it, or give another",
        "it's.db": "it's.db cannot be used: it cannot be read as an MLflow database \\(no SQLite file\\); give another",
        "other.db": "it has no table alembic_version",
        "folder": "is a folder; give a file in it: --tracking-uri sqlite:///.*folder/mlflow.db",
    }.items():
        for use in (read_states, Tracker):
            with pytest.raises(RequestError, match=reason):
                use(sqlite_address(tmp_path / name), "s")
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before


def test_what_a_killed_writer_left_is_undone(store: str, tmp_path: Path) -> None:
    end(Tracker(store, "s"), "aaa")
    (tmp_path / "killed").mkdir()
    writer = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
    writer.execute("PRAGMA cache_size = 1")
    writer.execute("BEGIN")
    writer.execute("CREATE TABLE half (x TEXT)")
    writer.executemany("INSERT INTO half VALUES (?)", [("x" * 3000,)] * 200)
    writer.execute("UPDATE runs SET status = 'FAILED'")
    writer.executemany("INSERT INTO half VALUES (?)", [("x" * 3000,)] * 200)
    # A copy of both files is what a process leaves that is killed now.
    for name in ("mlflow.db", "mlflow.db-journal"):
        shutil.copy(tmp_path / name, tmp_path / "killed" / name)
    writer.close()
    shutil.copytree(tmp_path / "mlartifacts", tmp_path / "killed" / "mlartifacts")
    uri = sqlite_address(tmp_path / "killed" / "mlflow.db")
    assert read_states(uri, "s")["aaa"].status == "finished"
    assert "half" not in _tables(tmp_path / "killed" / "mlflow.db")


def test_what_lies_in_a_write_ahead_log_is_read(store: str, tmp_path: Path) -> None:
    run_id = end(Tracker(store, "s"), "aaa")
    (tmp_path / "killed").mkdir()
    writer = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("UPDATE tags SET value = 'bbb' WHERE key = 'prunebench.cell_id'")
    for name in ("mlflow.db", "mlflow.db-wal"):
        shutil.copy(tmp_path / name, tmp_path / "killed" / name)
    writer.close()
    states = read_states(sqlite_address(tmp_path / "killed" / "mlflow.db"), "s")
    assert {identity: state.run_id for identity, state in states.items()} == {"bbb": run_id}


def test_a_locked_store_is_waited_for_and_then_named(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end(Tracker(store, "s"), "aaa")
    monkeypatch.setattr(sqlite_file, "PATIENCE", 0.5)
    writer = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN EXCLUSIVE")
    with pytest.raises(RequestError, match="is locked by another process"):
        read_states(store, "s")
    monkeypatch.setattr(sqlite_file, "PATIENCE", 20.0)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(_release, writer)
        assert read_states(store, "s")["aaa"].status == "finished"


def _release(writer: Any) -> None:
    time.sleep(0.3)
    writer.execute("ROLLBACK")
