"""Which cells a tracking store knows, read without importing MLflow (which takes seconds): for `plan`.

A SQLite store is read directly, a server through MLflow's REST interface.
"""

from __future__ import annotations

import sqlite3
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.errors import RequestError
from bench.tracking.address import sqlite_path
from bench.tracking.rest import ask_server
from bench.tracking.states import FINAL, TAG, RunState, best_of, run_state


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
        from bench.tracking.mlflow_store import Tracker

        states = Tracker(uri, experiment).states()
    return best_of(s for s in states if s.kind in ("cell", "dense"))


def _from_sqlite(path: Path, experiment: str) -> list[RunState]:
    if not path.exists():
        return []
    query = """
        SELECT r.run_uuid, r.status, r.start_time, m.value, t.key, t.value
        FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id
        JOIN tags t ON t.run_uuid = r.run_uuid
        LEFT JOIN latest_metrics m ON m.run_uuid = r.run_uuid AND m.key = ? AND NOT m.is_nan
        WHERE e.name = ? AND r.lifecycle_stage = 'active' AND t.key LIKE ?
    """
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)
        try:
            rows = connection.execute(query, (FINAL, experiment, TAG + "%")).fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise RequestError(f"tracking store {path} cannot be read as an MLflow database: {error}") from None
    runs: dict[str, tuple[str, int, dict[str, str], float | None]] = {}
    for run_id, status, started, final, key, value in rows:
        runs.setdefault(run_id, (status, started or 0, {}, final))[2][key] = value
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
            final = next((m["value"] for m in run["data"].get("metrics", []) if m["key"] == FINAL), None)
            state = run_state(info["run_id"], info["status"], int(info.get("start_time", 0)), tags, final)
            if state is not None:
                yield state
        page = found.get("next_page_token", "")
        if not page:
            return
