"""One cell, dense network or search of any suite, found in the tracking store by the beginning of its id."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bench.errors import RequestError, reason_of
from bench.tracking.address import scheme, sqlite_path
from bench.tracking.places import RECORD
from bench.tracking.states import TAG, WORKLOAD, RunState, best_of

if TYPE_CHECKING:
    from bench.interface.record import Record
    from bench.tracking.mlflow_store import Tracker


def find_cell(prefix: str, uri: str) -> tuple[Tracker, RunState]:
    """The run of a cell on any suite of the store, by its id or the beginning of it.

    Raises:
        RequestError: no cell, or several, begin like that; the id is one of a dense network or a search.
    """
    tracker, state = find_run(prefix, uri)
    if state.kind != "cell":
        raise RequestError(f"{state.cell_id} is a {words_of(state)} and no cell; prunebench plan SUITE lists the cells")
    return tracker, state


def find_run(prefix: str, uri: str) -> tuple[Tracker, RunState]:
    """The run of a cell, dense network or search on any suite of the store, by its id or the beginning of it.

    Raises:
        RequestError: none, or several, begin like that.
    """
    from bench.tracking.mlflow_store import Tracker  # loads mlflow

    if not prefix or any(c not in "0123456789abcdef" for c in prefix):
        raise RequestError(
            f"{prefix!r} is no cell id: ids are up to 12 hexadecimal digits, as `prunebench plan` lists them"
        )
    if scheme(uri) == "sqlite" and not sqlite_path(uri).exists():
        raise RequestError(f"there is no tracking store {sqlite_path(uri)}; give one with --tracking-uri")
    found: dict[str, tuple[Tracker, RunState]] = {}
    for suite in Tracker.suites(uri):
        tracker = Tracker(uri, suite)
        states = best_of(tracker.states(f"tags.`{TAG}cell_id` LIKE '{prefix}%'"))
        found |= {identity: (tracker, state) for identity, state in states.items()}
    if len(found) != 1:
        what = "nothing recorded begins" if not found else f"{len(found)} ids begin ({', '.join(sorted(found)[:5])})"
        raise RequestError(f"{what} with {prefix!r}; prunebench plan SUITE lists the ids")
    return next(iter(found.values()))


def record_of(tracker: Tracker, state: RunState) -> Record:
    """What the cell recorded.

    Raises:
        RequestError: the record is gone or damaged, or made by a later release.
    """
    from bench.interface.record import RecordError

    try:
        return tracker.record(state)
    except RecordError as error:
        raise lost(state, str(error)) from None


def same_workload(tracker: Tracker, record: Record) -> list[Record]:
    """The records of all cells of a record's workload that have finished; those that are lost are left out."""
    from bench.interface.record import Record

    states = tracker.states(f"tags.`{TAG}{WORKLOAD}` = '{record.config.workload.id}'")
    cells = [state for state in best_of(states).values() if (state.kind, state.status) == ("cell", "finished")]
    return [found for found in tracker.records(cells) if isinstance(found, Record)]


def stage_facts(tracker: Tracker, state: RunState) -> dict[str, Any]:
    """What a dense network or a search recorded: its figures, or its `error` and `traceback`.

    Raises:
        RequestError: that is gone or damaged.
    """
    if state.problem:
        raise lost(state, state.problem)
    try:
        facts = json.loads(tracker.read_text(state.run_id, RECORD))
    except (OSError, ValueError) as error:
        raise lost(state, f"{RECORD} of run {state.run_id}: {reason_of(error)}") from None
    return facts


def words_of(state: RunState) -> str:
    """What a run is of."""
    return {"dense": "dense network"}.get(state.kind, state.kind)


def lost(state: RunState, reason: str) -> RequestError:
    """What to tell of a cell that has ended and whose files are gone."""
    return RequestError(f"{words_of(state)} {state.cell_id} is lost: {reason}; prunebench run SUITE runs it again")
