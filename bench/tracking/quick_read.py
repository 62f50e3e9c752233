"""Which cells a tracking store knows, read without importing MLflow (which takes seconds): for `plan`.

A SQLite store is read directly, a server through MLflow's REST interface.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from bench.tracking.address import SERVERS, scheme, sqlite_path
from bench.tracking.places import artifact_root, current_folder
from bench.tracking.rest import ask_server
from bench.tracking.sqlite_file import connected, require_database
from bench.tracking.states import FINAL, SECONDS, STAGES, TAG, RunState, best_of, run_state

T = TypeVar("T")


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


def has_states(uri: str, experiment: str) -> bool:
    """Whether `read_states` would give any: of a SQLite store this is known without its records.

    Raises:
        RequestError: the store cannot be read.
    """
    if scheme(uri) != "sqlite":
        return bool(read_states(uri, experiment))
    path = sqlite_path(uri)
    if not path.exists():
        return False
    require_database(path)
    with connected(path) as database:
        return database.execute(_ANY, (experiment, TAG + "kind", *STAGES)).fetchone() is not None


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
    require_database(path)
    with connected(path) as database:
        runs = database.execute(_RUNS, (experiment,)).fetchall()
        tags = _by_run(database.execute(_TAGS, (experiment, TAG, _AFTER_TAG)))
        metrics = _by_run(database.execute(_METRICS, (FINAL, *SECONDS, experiment)))
    root = artifact_root(path, experiment)
    found = (
        run_state(
            run_id,
            status,
            (started, ended),
            tags.get(run_id, {}),
            current_folder(artifacts or "", run_id, root),
            metrics.get(run_id, {}),
        )
        for run_id, status, started, ended, artifacts in runs
    )
    return [state for state in found if state is not None]


_AFTER_TAG = TAG[:-1] + chr(ord(TAG[-1]) + 1)
"""The first text that comes after all that begin with `TAG`."""
_OF_SUITE = """
    JOIN experiments e ON e.experiment_id = r.experiment_id WHERE e.name = ? AND r.lifecycle_stage = 'active'
"""
_RUNS = f"SELECT r.run_uuid, r.status, r.start_time, r.end_time, r.artifact_uri FROM runs r {_OF_SUITE}"
_TAGS = f"""
    SELECT t.run_uuid, t.key, t.value FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid {_OF_SUITE}
    AND t.key >= ? AND t.key < ?
"""
_METRICS = f"""
    SELECT m.run_uuid, m.key, m.value FROM runs r JOIN latest_metrics m ON m.run_uuid = r.run_uuid
    AND NOT m.is_nan AND m.key IN ({", ".join("?" * (1 + len(SECONDS)))}) {_OF_SUITE}
"""
"""Three questions for a suite of any number of runs; SQLite's indices are by key, and then by run."""
_ANY = f"""
    SELECT 1 FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid {_OF_SUITE}
    AND t.key = ? AND t.value IN ({", ".join("?" * len(STAGES))}) LIMIT 1
"""


def _by_run(rows: Iterable[tuple[str, str, T]]) -> dict[str, dict[str, T]]:
    found: dict[str, dict[str, T]] = {}
    for run_id, key, value in rows:
        found.setdefault(run_id, {})[key] = value
    return found


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
            metrics = {m["key"]: m["value"] for m in run["data"].get("metrics", [])}
            times = int(info.get("start_time", 0)), int(info.get("end_time", 0))
            state = run_state(info["run_id"], info["status"], times, tags, metrics=metrics)
            if state is not None:
                yield state
