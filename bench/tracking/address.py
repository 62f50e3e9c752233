"""Addresses of tracking stores."""

from __future__ import annotations

import os
import re
import urllib.parse
from pathlib import Path

from bench.errors import RequestError

SQLITE = "sqlite:///"
SERVERS = ("http", "https")
DEFAULT = "sqlite:///mlflow.db"
"""The store where none is named."""
DATABASES = ("postgresql", "mysql", "mssql")


def scheme(uri: str) -> str:
    """What comes before the colon, in small letters and without a driver's name; "" for a folder."""
    found = re.match(r"([a-zA-Z][\w.-]*)(\+\w+)?:", uri)
    return found[1].lower() if found else ""


def sqlite_path(uri: str) -> Path:
    """`sqlite:///mlflow.db` (relative) or `sqlite:////data/mlflow.db` (absolute) as a path.

    A percent sign and two digits stand for a character. Where only a folder exists whose name is spelled like that,
    that one is meant.

    Raises:
        RequestError: the address names no file.
    """
    text = uri[len(SQLITE) :]
    if not uri.lower().startswith(SQLITE) or text in ("", ":memory:") or text.startswith("file:"):
        raise RequestError(f"tracking URI {uri} names no file; use sqlite:///FILE, or sqlite:////FILE for a whole path")
    if query := re.search(r"\?[\w.-]+=[^/]*$", text):
        raise RequestError(
            f"tracking URI {uri} is not allowed: options ({query[0]}) cannot be given; use sqlite:///FILE"
        )
    if "\0" in text or "%00" in text:
        raise RequestError(f"tracking URI {uri!r} is not allowed: no file name holds a zero byte; use sqlite:///FILE")
    written = Path(text)
    meant = Path(os.fsdecode(urllib.parse.unquote_to_bytes(os.fsencode(text))))
    path = written if written.parent.is_dir() and not meant.parent.is_dir() else meant
    try:
        return path.expanduser()
    except RuntimeError:
        raise RequestError(f"tracking URI {uri} begins with the home of an unknown user; give a whole path") from None


def sqlite_address(path: Path) -> str:
    """The address of a SQLite file, wherever it is and whatever its name: what `sqlite_path` takes apart."""
    return SQLITE + urllib.parse.quote(os.fsencode(path))


def absolute(uri: str) -> str:
    """The same store whatever folder a process works in: relative SQLite files and folders are made absolute.

    Raises:
        RequestError: no address of a store.
    """
    uri = uri.strip()
    kind = scheme(uri)
    if kind == "sqlite":
        path = sqlite_path(uri).resolve()
        try:
            str(path).encode()
        except UnicodeEncodeError:  # a name in bytes that are no UTF-8, which MLflow cannot write down
            raise RequestError(
                f"tracking store {str(path)!r} has a name in its path that is not UTF-8; rename it, or give another "
                "with --tracking-uri"
            ) from None
        return sqlite_address(path)
    if kind in SERVERS:
        try:
            parts = urllib.parse.urlsplit(uri)
            known = bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            known = False
        if not known:
            raise RequestError(f"tracking URI {redacted(uri)} names no server; use http://HOST:PORT")
    if kind == "" and uri != "databricks":
        return str(Path(uri).expanduser().resolve())
    return uri


def redacted(uri: str) -> str:
    """The address for people to read: without a user name and password, and a SQLite file as it is called."""
    if scheme(uri) == "sqlite":
        return SQLITE + str(sqlite_path(uri))
    begin, colon, rest = uri.partition("://")
    if not colon or "@" not in rest:
        return uri
    # A password may hold a slash or a question mark, so that no rule for addresses finds its end.
    return f"{begin}://***@{rest.rpartition('@')[2]}"


def without_secrets(text: str, uri: str) -> str:
    """A message about a store, without the user name and password of its address."""
    begin, _, rest = uri.partition("://")
    if "@" not in rest or scheme(uri) == "sqlite":
        return text
    access = rest.rpartition("@")[0]
    user, _, password = access.partition(":")
    secrets = [f"{begin}://{access}", access, password, user]
    secrets += [urllib.parse.unquote(secret) for secret in secrets]
    for secret in sorted(filter(None, set(secrets)), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
    return text


def server_address(uri: str) -> str:
    """The address as others may have it: no user name, no password, no slash at the end."""
    parts = urllib.parse.urlsplit(uri)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")


def store_address(uri: str | None) -> str:
    """The address of the tracking store, the default one where none is given.

    Raises:
        RequestError: it is no address.
    """
    return absolute((uri or "").strip() or DEFAULT)
