"""MLflow's client for an address, and what goes wrong with it in a sentence."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import requests
import sqlalchemy
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from bench.errors import RequestError, first_line
from bench.tracking.address import DATABASES, SERVERS, redacted, scheme, sqlite_path, without_secrets
from bench.tracking.database import opened
from bench.tracking.rest import ask_server

T = TypeVar("T")

PACKAGES = {
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
    "pymysql": "PyMySQL",
    "mysql": "mysql-connector-python",
}
"""What to install for a database driver; others are called like their module."""


class StoreError(RequestError):
    """The tracking store failed while it was in use."""


class StoreAwayError(StoreError):
    """The tracking store could not be reached for longer than is waited for."""


def connect(uri: str) -> MlflowClient:
    """A client of the store at this address, whose first question has been answered.

    Raises:
        RequestError: it is no address of a store, or what it needs is missing.
    """
    # What they log of an error, with its traceback, is raised as well.
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    kind = scheme(uri)
    if kind == "sqlite":
        return opened(sqlite_path(uri).resolve(), _asked)
    if kind in SERVERS:
        with contextlib.suppress(FileNotFoundError):
            ask_server(uri, "experiments/get-by-name?experiment_name=prunebench")
    elif kind in DATABASES:
        _require_driver(uri)
    elif kind in ("", "file") and uri != "databricks":
        return _of_folder(uri)
    elif kind not in ("", "databricks"):
        raise RequestError(
            f"tracking URI {redacted(uri)} is not allowed; use sqlite:///FILE, http(s)://… or a database "
            f"({', '.join(f'{name}://…' for name in DATABASES)})"
        )
    return _asked(uri)


def _asked(address: str) -> MlflowClient:
    client = MlflowClient(address)
    client.search_experiments(max_results=1)
    return client


def _of_folder(uri: str) -> MlflowClient:
    """A client of a folder of runs, which MLflow used before it had databases; newer releases refuse it."""
    path = Path(uri)
    if path.is_file() or path.suffix in (".db", ".sqlite", ".sqlite3"):
        raise RequestError(f"tracking URI {uri} is not allowed; for that file, write sqlite:///{uri}")
    try:
        return _asked(uri)
    except (MlflowException, OSError) as error:
        raise RequestError(
            f"tracking store {uri} is a folder, in which this release of MLflow keeps no runs; use sqlite:///FILE or "
            "http(s)://…, and `mlflow migrate-filestore` for runs that are there already"
        ) from error


def _require_driver(uri: str) -> None:
    """Refuse a database whose driver is not installed, with the package to install."""
    try:
        sqlalchemy.make_url(uri).get_dialect().import_dbapi()
    except ImportError as error:
        module = (error.name or str(error)).partition(".")[0]
        package = PACKAGES.get(module, module)
        raise RequestError(
            f"tracking store {redacted(uri)} needs the package {package}: pip install '{package}'"
        ) from None
    except (SQLAlchemyError, ValueError) as error:
        reason = without_secrets(first_line(error), uri)
        raise RequestError(
            f"tracking URI {redacted(uri)} is not allowed ({reason}); use {scheme(uri)}://USER:PASSWORD@HOST/DATABASE"
        ) from None


@contextlib.contextmanager
def sentences(uri: str) -> Iterator[None]:
    """Turn what MLflow and SQLAlchemy raise into a sentence without secrets.

    Raises:
        RequestError: whatever went wrong.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = without_secrets(first_line(error), uri)
        raise RequestError(
            f"tracking store {redacted(uri)} cannot be used ({reason}); give another with --tracking-uri"
        ) from None


def retry(call: Callable[[], T], tries: int = 5, patience: float | None = None) -> T:
    """Call again after a passing failure: a locked database five times, a server that is away for `patience` seconds.

    Args:
        patience: by default what PRUNEBENCH_PATIENCE of the environment says, else 600.

    Raises:
        StoreAwayError: the store could not be reached all the time.
        StoreError: another failure does not pass; its cause is the last failure.
    """
    begin, attempt = time.monotonic(), 0
    patience = store_patience() if patience is None else patience
    while True:
        try:
            return call()
        except (MlflowException, SQLAlchemyError, OSError) as error:
            attempt += 1
            if _is_away(error):
                waited = time.monotonic() - begin
                if waited >= patience:
                    raise StoreAwayError(
                        f"the tracking store has been away for {waited:.0f} seconds ({first_line(error)}); what was "
                        "computed is kept, and the same command goes on once the store is back"
                    ) from error
                time.sleep(min(0.2 * 2**attempt, 5.0, max(0.1, patience - waited)))
            elif attempt == tries or gone(error) or _is_final(error):
                raise StoreError(f"the tracking store failed: {first_line(error)}") from error
            else:
                time.sleep(0.2 * 2 ** (attempt - 1))


def store_patience() -> float:
    """Seconds for which a store that cannot be reached is waited for.

    Raises:
        RequestError: PRUNEBENCH_PATIENCE is no number of seconds.
    """
    text = os.environ.get("PRUNEBENCH_PATIENCE") or "600"
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise RequestError(f"PRUNEBENCH_PATIENCE={text} is not allowed; use a number of seconds, 0 or more")
    return seconds


def all_runs(
    client: MlflowClient, experiments: Sequence[str], where: str, view: int = ViewType.ACTIVE_ONLY, order: str = ""
) -> Iterator[Run]:
    """Every run of these experiments that a filter of MLflow's holds for, page after page.

    Args:
        order: what they are ordered by, as MLflow writes it; "" for its own order.

    Raises:
        StoreError: as for `retry`.
    """
    token: str | None = None
    while True:
        page = retry(
            lambda token=token: client.search_runs(
                list(experiments), where, view, 1000, [order] if order else None, token
            )
        )
        yield from page
        token = page.token
        if not token:
            return


def download(client: MlflowClient, run_id: str, path: str, folder: str) -> str:
    """Fetch an artifact of a run, file or folder, into a folder; its place there.

    MLflow says of a download that was cut off that there is no such artifact: it is looked for then.

    Raises:
        MlflowException: it could not be fetched; TEMPORARILY_UNAVAILABLE where it is in the store all the same.
    """
    try:
        return client.download_artifacts(run_id, path, folder)
    except MlflowException as error:
        if not gone(error):
            raise
        if path not in {found.path for found in client.list_artifacts(run_id, path.rpartition("/")[0] or None)}:
            raise
        raise MlflowException(f"the download of {path} was cut off", TEMPORARILY_UNAVAILABLE) from error


_AWAY = re.compile(r"API request to .* failed with (timeout )?exception|failed with error code (429|50[234])\b", re.S)


def _is_away(error: object) -> bool:
    """Whether a failure says that the store cannot be reached just now."""
    if isinstance(error, MlflowException):
        return error.error_code == "TEMPORARILY_UNAVAILABLE" or bool(_AWAY.search(str(error)))
    if isinstance(error, requests.ConnectionError | requests.Timeout):
        return True
    answer = getattr(error, "response", None)
    if getattr(answer, "status_code", 0) in (429, 502, 503, 504):
        return True
    return isinstance(error, DBAPIError) and error.connection_invalidated


def _is_final(error: object) -> bool:
    """Whether a failure is the store's answer to what was asked, which is no other the next time."""
    return isinstance(error, MlflowException) and error.error_code in (
        "INVALID_PARAMETER_VALUE",
        "PERMISSION_DENIED",
        "UNAUTHENTICATED",
    )


def gone(error: object) -> bool:
    """Whether a failure says that there is no such run or file, which no second try changes."""
    if isinstance(error, MlflowException):
        return error.error_code == "RESOURCE_DOES_NOT_EXIST"
    answer = getattr(error, "response", None)
    return isinstance(error, FileNotFoundError) or getattr(answer, "status_code", 0) == 404
