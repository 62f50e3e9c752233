"""One cell of any suite, found in the tracking store by the beginning of its id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.errors import RequestError
from bench.tracking.address import scheme, sqlite_path
from bench.tracking.states import TAG, RunState, best_of

if TYPE_CHECKING:
    from bench.interface.record import Record
    from bench.tracking.mlflow_store import Tracker


def find_cell(prefix: str, uri: str) -> tuple[Tracker, RunState]:
    """The run of a cell on any suite of the store, by its id or the beginning of it.

    Raises:
        RequestError: no cell, or several, begin like that.
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
        states = best_of(s for s in tracker.states(f"tags.`{TAG}cell_id` LIKE '{prefix}%'") if s.kind == "cell")
        found |= {identity: (tracker, state) for identity, state in states.items()}
    if len(found) != 1:
        what = "no recorded cell begins" if not found else f"{len(found)} cells begin ({', '.join(sorted(found)[:5])})"
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


def lost(state: RunState, reason: str) -> RequestError:
    """What to tell of a cell that has ended and whose files are gone."""
    return RequestError(f"cell {state.cell_id} is lost: {reason}; prunebench run SUITE runs it again")
