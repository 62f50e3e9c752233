"""Which cells a tracking store knows, read without importing MLflow (which takes seconds): for `plan`.

A SQLite store is read directly, a server through MLflow's REST interface.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bench.tracking.address import SERVERS, scheme, sqlite_path
from bench.tracking.places import artifact_root, current_folder
from bench.tracking.rest import ask_server
from bench.tracking.sqlite_file import connected, require_database
from bench.tracking.states import FINAL, STAGES, TAG, RunState, best_of, run_state


def read_states(uri: str, experiment: str) -> dict[str, RunState]:
    """Cells, dense networks and searches of an experiment by id; nothing is created where there is no store yet.

    Raises:
        RequestError: the store cannot be read.
    """
    kind = scheme(uri)
    if kind == "sqlite":
        states: Iterable[RunState] = _from_sqlite(sqlite_path(uri), experiment)
    elif kind in SERVERS:
        states = _from_server(uri, experiment)
    else:
        from bench.tracking.mlflow_store import Tracker

        states = Tracker(uri, experiment).states()
    return best_of(s for s in states if s.kind in STAGES)


def read_others(uri: str, experiment: str) -> dict[str, str]:
    """What other experiments of the store have recorded as finished: the name of one of them, by id.

    Raises:
        RequestError: the store cannot be read.
    """
    kind = scheme(uri)
    if kind == "sqlite":
        return _others_from_sqlite(sqlite_path(uri), experiment)
    if kind in SERVERS:
        return _others_from_server(uri, experiment)
    from bench.tracking.elsewhere import finished_elsewhere
    from bench.tracking.mlflow_store import Tracker

    tracker = Tracker(uri, experiment)
    return {identity: suites[0] for identity, suites in finished_elsewhere(tracker.client, tracker.experiment).items()}


def _others_from_sqlite(path: Path, experiment: str) -> dict[str, str]:
    if not path.exists():
        return {}
    query = """
        SELECT t.value, e.name FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id
        JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = ?
        WHERE e.name != ? AND e.lifecycle_stage = 'active' AND r.lifecycle_stage = 'active' AND r.status = 'FINISHED'
        AND t.value != '' ORDER BY r.start_time DESC
    """
    require_database(path)
    with connected(path) as database:
        return dict(database.execute(query, (TAG + "cell_id", experiment)).fetchall())


def _others_from_server(uri: str, experiment: str) -> dict[str, str]:
    names: dict[str, str] = {}
    for found in _pages(uri, "experiments/search", {"max_results": 1000}):
        names |= {e["experiment_id"]: e["name"] for e in found.get("experiments", []) if e["name"] != experiment}
    if not names:
        return {}
    body = {
        "experiment_ids": list(names),
        "filter": "attributes.status = 'FINISHED'",
        "order_by": ["attributes.start_time DESC"],
        "max_results": 1000,
    }
    ids: dict[str, str] = {}
    for found in _pages(uri, "runs/search", body):
        for run in found.get("runs", []):
            tags = {t["key"]: t["value"] for t in run["data"].get("tags", [])}
            if identity := tags.get(TAG + "cell_id"):
                ids[identity] = names[run["info"]["experiment_id"]]
    return ids


def _pages(uri: str, call: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All pages of what a server answers."""
    page = ""
    while True:
        found = ask_server(uri, call, {**body, "page_token": page})
        yield found
        page = found.get("next_page_token", "")
        if not page:
            return


def _from_sqlite(path: Path, experiment: str) -> list[RunState]:
    if not path.exists():
        return []
    query = """
        SELECT r.run_uuid, r.status, r.start_time, r.end_time, r.artifact_uri, m.value, t.key, t.value
        FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id
        JOIN tags t ON t.run_uuid = r.run_uuid
        LEFT JOIN latest_metrics m ON m.run_uuid = r.run_uuid AND m.key = ? AND NOT m.is_nan
        WHERE e.name = ? AND r.lifecycle_stage = 'active' AND substr(t.key, 1, ?) = ?
    """
    require_database(path)
    with connected(path) as database:
        rows = database.execute(query, (FINAL, experiment, len(TAG), TAG)).fetchall()
    facts: dict[str, tuple[str, tuple[int | None, int | None], str, float | None]] = {}
    tags: dict[str, dict[str, str]] = {}
    for run_id, status, started, ended, artifacts, final, key, value in rows:
        facts[run_id] = status, (started, ended), artifacts or "", final
        tags.setdefault(run_id, {})[key] = value
    root = artifact_root(path, experiment)
    found = (
        run_state(run_id, status, times, tags[run_id], current_folder(artifacts, run_id, root), final)
        for run_id, (status, times, artifacts, final) in facts.items()
    )
    return [state for state in found if state is not None]


def _from_server(uri: str, experiment: str) -> Iterator[RunState]:
    name = urllib.parse.quote(experiment)
    try:
        answer = ask_server(uri, f"experiments/get-by-name?experiment_name={name}")
    except FileNotFoundError:
        return
    body = {"experiment_ids": [answer["experiment"]["experiment_id"]], "max_results": 1000}
    for found in _pages(uri, "runs/search", body):
        for run in found.get("runs", []):
            tags = {t["key"]: t["value"] for t in run["data"].get("tags", [])}
            info = run["info"]
            final = next((m["value"] for m in run["data"].get("metrics", []) if m["key"] == FINAL), None)
            times = int(info.get("start_time", 0)), int(info.get("end_time", 0))
            state = run_state(info["run_id"], info["status"], times, tags, final=final)
            if state is not None:
                yield state
