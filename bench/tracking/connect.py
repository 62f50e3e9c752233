"""MLflow's client for an address, and what goes wrong with it in a sentence."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import sqlalchemy
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

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


def retry(call: Callable[[], T], tries: int = 5) -> T:
    """Call again after a passing failure (a locked database, a server that restarts): 0.2 to 3 seconds apart.

    Raises:
        StoreError: it does not pass; its cause is the last failure.
    """
    for attempt in range(tries):
        try:
            return call()
        except (MlflowException, SQLAlchemyError, OSError) as error:
            if attempt == tries - 1 or gone(error):
                raise StoreError(f"the tracking store failed: {first_line(error)}") from error
            time.sleep(0.2 * 2**attempt)
    raise AssertionError("unreachable")


def gone(error: object) -> bool:
    """Whether a failure says that there is no such run or file, which no second try changes."""
    if isinstance(error, MlflowException):
        return error.error_code == "RESOURCE_DOES_NOT_EXIST"
    answer = getattr(error, "response", None)
    return isinstance(error, FileNotFoundError) or getattr(answer, "status_code", 0) == 404
