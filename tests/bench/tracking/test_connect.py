"""Stores that cannot be reached, in a sentence that says what to do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from bench.errors import RequestError
from bench.tracking.connect import StoreError, connect, download, gone, retry
from bench.tracking.mlflow_store import Tracker


@pytest.mark.parametrize(
    ("uri", "package"),
    [
        ("mysql://bob:secret@h/db", "mysqlclient"),
        ("mysql+pymysql://bob:secret@h/db", "PyMySQL"),
        ("mssql://bob:secret@h/db", "pyodbc"),
        ("mssql+pyodbc://bob:secret@h/db", "pyodbc"),
        ("postgresql+psycopg2://bob:secret@h/db", "psycopg2-binary"),
    ],
)
def test_a_database_without_its_driver_names_the_package(
    uri: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = {"mysqlclient": "MySQLdb", "PyMySQL": "pymysql", "psycopg2-binary": "psycopg2"}.get(package, package)
    monkeypatch.setitem(__import__("sys").modules, module, None)
    for use in (lambda: Tracker(uri, "s"), lambda: Tracker.suites(uri)):
        with pytest.raises(RequestError, match=rf"needs the package {package}: pip install '{package}'") as refused:
            use()
        assert "bob" not in str(refused.value) and "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("postgres://bob:secret@h/db", "postgresql://"),
        ("mysql+nonsense://bob:secret@h/db", "is not allowed"),
        ("sqlite+aiosqlite:///m.db", "."),
        ("./mlruns", r"is a folder, in which this release of MLflow keeps no runs; use sqlite:///FILE"),
        ("mlflow.db", r"for that file, write sqlite:///.*mlflow\.db"),
    ],
)
def test_addresses_that_mlflow_cannot_use_are_refused_whole(
    uri: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    with pytest.raises(RequestError, match=reason) as refused:
        Tracker(uri, "s")
    assert "secret" not in str(refused.value) and not list(tmp_path.iterdir())


def test_a_store_that_fails_in_use_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    tries: list[int] = []

    def fail() -> None:
        tries.append(1)
        raise OSError("No space left on device")

    with pytest.raises(RequestError, match="the tracking store failed: No space left on device"):
        retry(fail)
    assert len(tries) == 5


def test_a_run_that_is_not_there_is_asked_for_once(store: str) -> None:
    client, tries = connect(store), []

    def ask() -> object:
        tries.append(1)
        return client.get_run("absent")

    with pytest.raises(RequestError, match="the tracking store failed"):
        retry(ask)
    assert len(tries) == 1


@pytest.mark.parametrize("there", [True, False])
def test_a_download_that_was_cut_off_is_no_lost_file(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow says of both that there is no such artifact."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    calls: list[str] = []

    class Client:
        def download_artifacts(self, run_id: str, path: str, folder: str) -> str:
            calls.append(path)
            if len(calls) < 3:
                raise MlflowException("Failed to download artifacts from path 'model'", RESOURCE_DOES_NOT_EXIST)
            return f"{folder}/{path}"

        def list_artifacts(self, run_id: str, path: str | None) -> list[SimpleNamespace]:
            return [SimpleNamespace(path="model")] if there and path is None else []

    def fetched() -> str:
        return retry(lambda: download(Client(), "r", "model", "/f"))  # pyright: ignore[reportArgumentType]

    if there:
        assert fetched() == "/f/model" and len(calls) == 3
    else:
        with pytest.raises(StoreError) as refused:
            fetched()
        assert gone(refused.value.__cause__) and len(calls) == 1
