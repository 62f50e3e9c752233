"""Addresses of tracking stores."""

from __future__ import annotations

import urllib.parse
from pathlib import Path


def sqlite_path(uri: str) -> Path:
    """`sqlite:///mlflow.db` (relative) or `sqlite:////data/mlflow.db` (absolute) as a path."""
    return Path(urllib.parse.unquote(urllib.parse.urlsplit(uri).path.removeprefix("/")))


def absolute(uri: str) -> str:
    """The same store whatever folder a process works in: relative SQLite files are made absolute."""
    if urllib.parse.urlsplit(uri).scheme != "sqlite":
        return uri
    return f"sqlite:///{urllib.parse.quote(str(sqlite_path(uri).resolve()))}"


def redacted(uri: str) -> str:
    """The address without a user name and password."""
    parts = urllib.parse.urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urllib.parse.urlunsplit(parts._replace(netloc="***@" + parts.netloc.rpartition("@")[2]))


def server_address(uri: str) -> str:
    """The address as others may have it: no user name, no password, no slash at the end."""
    parts = urllib.parse.urlsplit(uri)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")
