"""Which cells a tracking store knows, read without importing MLflow (which takes seconds): for `plan`.

A SQLite store is read directly, a server through MLflow's REST interface.
"""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import RequestError

TAG = "prunebench."
"""Prefix of the tags that the suite sets on its runs."""


@dataclass(frozen=True)
class RunState:
    """One tracked run of a cell or of a dense network."""

    run_id: str
    cell_id: str
    kind: str
    """`cell`, `dense` or `invocation`."""
    status: str
    """`finished`, `failed` or `running`."""
    started: int = 0
    """Milliseconds since 1970."""
    tags: Mapping[str, str] = field(default_factory=dict)


_STATUS = {"FINISHED": "finished", "FAILED": "failed", "RUNNING": "running", "KILLED": "failed"}


def run_state(run_id: str, status: str, started: int, tags: Mapping[str, str]) -> RunState | None:
    """The state of a tracked run; None for a run that is not the suite's."""
    if TAG + "kind" not in tags:
        return None
    return RunState(
        run_id, tags.get(TAG + "cell_id", ""), tags[TAG + "kind"], _STATUS.get(status, "running"), started, dict(tags)
    )


def best_of(states: Iterable[RunState]) -> dict[str, RunState]:
    """One run for each cell: the first that finished, else one that runs, else the last that failed."""
    order = {"finished": 0, "running": 1, "failed": 2}
    best: dict[str, RunState] = {}
    for state in sorted(states, key=lambda s: (s.started, s.run_id)):
        known = best.get(state.cell_id)
        newer_failure = known is not None and known.status == state.status == "failed"
        if known is None or newer_failure or order[state.status] < order[known.status]:
            best[state.cell_id] = state
    return best


def read_states(uri: str, experiment: str) -> dict[str, RunState]:
    """Cells and dense networks of an experiment by id; nothing is created where there is no store yet.

    Raises:
        RequestError: the store cannot be read.
    """
    scheme = urllib.parse.urlsplit(uri).scheme
    if scheme == "sqlite":
        states: Iterable[RunState] = _from_sqlite(sqlite_path(uri), experiment)
    elif scheme in ("http", "https"):
        states = _from_server(uri, experiment)
    else:
        from bench.tracking import Tracker

        states = Tracker(uri, experiment).states()
    return best_of(s for s in states if s.kind in ("cell", "dense"))


def sqlite_path(uri: str) -> Path:
    """`sqlite:///mlflow.db` (relative) or `sqlite:////data/mlflow.db` (absolute) as a path."""
    return Path(urllib.parse.unquote(urllib.parse.urlsplit(uri).path.removeprefix("/")))


def _from_sqlite(path: Path, experiment: str) -> list[RunState]:
    if not path.exists():
        return []
    query = """
        SELECT r.run_uuid, r.status, r.start_time, t.key, t.value
        FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id
        JOIN tags t ON t.run_uuid = r.run_uuid
        WHERE e.name = ? AND r.lifecycle_stage = 'active' AND t.key LIKE ?
    """
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)
        try:
            rows = connection.execute(query, (experiment, TAG + "%")).fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise RequestError(f"tracking store {path} cannot be read as an MLflow database: {error}") from None
    runs: dict[str, tuple[str, int, dict[str, str]]] = {}
    for run_id, status, started, key, value in rows:
        runs.setdefault(run_id, (status, started or 0, {}))[2][key] = value
    found = (run_state(run_id, *facts) for run_id, facts in runs.items())
    return [state for state in found if state is not None]


def _from_server(uri: str, experiment: str) -> Iterator[RunState]:
    name = urllib.parse.quote(experiment)
    try:
        answer = ask_server(uri, f"experiments/get-by-name?experiment_name={name}")
    except FileNotFoundError:
        return
    page = ""
    while True:
        body = {"experiment_ids": [answer["experiment"]["experiment_id"]], "max_results": 1000, "page_token": page}
        found = ask_server(uri, "runs/search", body)
        for run in found.get("runs", []):
            tags = {t["key"]: t["value"] for t in run["data"].get("tags", [])}
            info = run["info"]
            state = run_state(info["run_id"], info["status"], int(info.get("start_time", 0)), tags)
            if state is not None:
                yield state
        page = found.get("next_page_token", "")
        if not page:
            return


def ask_server(uri: str, call: str, body: Any = None, timeout: float = 10.0) -> Any:
    """One call of MLflow's REST interface.

    Raises:
        FileNotFoundError: the server says that there is no such thing.
        RequestError: the server cannot be reached, or does not speak MLflow.
    """
    request = urllib.request.Request(
        f"{server_address(uri)}/api/2.0/mlflow/{call}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", **_authorization(urllib.parse.urlsplit(uri))},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        try:
            code = json.load(error).get("error_code", "")
        except (ValueError, AttributeError):
            code = ""
        if code == "RESOURCE_DOES_NOT_EXIST":
            raise FileNotFoundError(call) from None
        reason = code or f"HTTP status {error.code}"
    except (urllib.error.URLError, OSError) as error:
        reason = str(getattr(error, "reason", error))
    except ValueError:
        reason = "its answer is no JSON"
    raise RequestError(
        f"tracking server {redacted(uri)} cannot be used ({reason}); give a running MLflow server or a sqlite:/// file "
        "with --tracking-uri"
    )


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


def _authorization(uri: urllib.parse.SplitResult) -> dict[str, str]:
    """The header that MLflow's own client would send: a user name and password of the address or of the environment,
    or the environment's token."""
    user = urllib.parse.unquote(uri.username or "") or os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    password = urllib.parse.unquote(uri.password or "") or os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN", "")
    if user and password:
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    return {"Authorization": f"Bearer {token}"} if token else {}
