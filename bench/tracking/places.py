"""Where the artifacts of runs lie, and whether the record of a run is still there. Imports no MLflow.

Beside a SQLite file they are in `mlartifacts/SUITE/RUN/artifacts`. MLflow keeps whole paths, which are wrong once the
folder has been moved.
"""

from __future__ import annotations

import hashlib
import json
import urllib.parse
import zlib
from pathlib import Path

from bench.interface.record import SCHEMA_VERSION, LaterRecordError, RecordError, read_record

RECORD = "record.json"
MODEL = "model/model.safetensors"
SEARCH = "search/search.json"
FILES = {"dense": (MODEL,), "search": (SEARCH,)}
"""What a stage that has finished must have beside its record, by its kind."""


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def artifact_root(database: Path, suite: str) -> Path:
    """The folder of a suite's artifacts beside its database, as a whole path."""
    return database.resolve().parent / "mlartifacts" / suite


def local_folder(uri: str) -> Path | None:
    """The folder that an artifact address names; None where the artifacts are on a server."""
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme == "file":
        return Path(urllib.parse.unquote(parts.path))
    return Path(uri) if uri and not parts.scheme else None


def current_folder(uri: str, run_id: str, root: Path | None) -> Path | None:
    """The folder of a run's artifacts today: beside the database where they lie there, whatever MLflow knows.

    Args:
        uri: what MLflow has recorded.
        root: the suite's folder beside its database; None for other stores.
    """
    known = local_folder(uri)
    if known is None or root is None:
        return known
    beside = root / run_id / "artifacts"
    return known if known.is_dir() and not beside.is_dir() else beside


def seal(record: bytes) -> str:
    """What a run is tagged with whose record is stored and can be read: a file of the same seal is that record."""
    return f"{SCHEMA_VERSION}:{len(record)}:{zlib.crc32(record):08x}"


def seal_of_record(text: str) -> str:
    """The seal of a cell's record; "" for any other text."""
    try:
        read_record(text, RECORD)
    except (LaterRecordError, RecordError):
        return ""
    return seal(text.encode())


def loss(folder: Path, kind: str, status: str, sealed: str = "") -> str:
    """Why a run that has ended does not count: its record is gone or damaged. Empty where it counts.

    Args:
        folder: of its artifacts.
        kind: `cell`, `dense` or `search`.
        status: `finished` or `failed`.
        sealed: the record's seal where it is known: reading a record is a hundred times the work of comparing that.

    Raises:
        RequestError: a later release has recorded it.
    """
    file = folder / RECORD
    try:
        content = file.read_bytes()
        if kind == "cell" and sealed and seal(content) == sealed:
            return ""
        text = content.decode("utf-8")
        plain = json.loads(text)
        if not isinstance(plain, dict):
            return f"{file} holds no record"
        if "schema_version" in plain:
            read_record(text, str(file))
    except LaterRecordError:
        raise
    except FileNotFoundError:
        return f"{file} is gone"
    except RecordError as error:
        return str(error)
    except ValueError:
        return f"{file} is damaged"
    except OSError as error:
        return f"{file} cannot be read ({error.strerror})"
    if status != "finished" or kind not in FILES or not plain:
        return ""
    named = plain.get("files")
    files = (*FILES[kind], *(named if isinstance(named, dict) else ()))
    return next((f"{folder / name} is gone" for name in files if not (folder / name).is_file()), "")
