"""Addresses of stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import RequestError
from bench.tracking.address import absolute, redacted, sqlite_address, sqlite_path, without_secrets

AWKWARD = ["a b", "a#b", "a?b", "a%b", "a%20b", "Jörg", "it's", "q?x=1", "[x]", "100%"]


def test_addresses() -> None:
    assert sqlite_path("sqlite:///mlflow.db") == Path("mlflow.db")
    assert sqlite_path("sqlite:////a/b%20c.db") == Path("/a/b c.db")
    assert redacted("http://u:p@h:1/x") == "http://***@h:1/x"
    assert redacted("http://h:1/x") == "http://h:1/x"


@pytest.mark.parametrize("name", AWKWARD)
def test_every_folder_has_an_address(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / name
    folder.mkdir()
    file = folder / "mlflow.db"
    assert sqlite_path(sqlite_address(file)) == file
    monkeypatch.chdir(folder)
    uri = absolute("sqlite:///mlflow.db")
    assert sqlite_path(uri) == file and absolute(uri) == uri and redacted(uri) == f"sqlite:///{file}"
    if "=" not in name:  # as people type it
        assert sqlite_path(absolute(f"sqlite:///{file}")) == file
        monkeypatch.chdir(tmp_path)
        assert sqlite_path(absolute(f"sqlite:///{name}/mlflow.db")) == file


def test_a_folder_whose_name_is_no_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(RequestError, match=r"caf\\udce9/m.db' has a name in its path that is not UTF-8; rename it, or"):
        absolute("sqlite:///m.db")


def test_home_white_space_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "Jörg"))
    assert sqlite_path("sqlite:///~/m.db") == tmp_path / "Jörg" / "m.db"
    assert absolute(" http://h:5000\n") == "http://h:5000"
    monkeypatch.chdir(tmp_path)
    assert absolute("./mlruns") == str(tmp_path / "mlruns")


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:m.db",
        "sqlite:///m.db?timeout=3",
        "http://",
        "http://[::1",
    ],
)
def test_what_is_no_address_of_a_store_is_refused(uri: str) -> None:
    with pytest.raises(RequestError, match=r"; use (sqlite:///FILE|http://HOST:PORT)"):
        absolute(uri)


def test_no_user_name_and_no_password_is_shown() -> None:
    uri = "postgresql://bob:p/w?@h/db"  # a slash that was not written as %2F
    assert redacted(uri) == "postgresql://***@h/db"
    shown = without_secrets('FATAL: password "p/w?" of user "bob" is wrong: postgresql://bob:p/w?@h/db', uri)
    assert shown == 'FATAL: password "***" of user "***" is wrong: ***@h/db'
