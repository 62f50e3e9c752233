"""The records of a suite's cells, as they are stored, under the names that the suite gives them today."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.errors import RequestError
from bench.interface.cell import Cell
from bench.interface.record import Record, RecordError
from bench.interface.stages import search_id
from bench.report.records import relabelled
from bench.tracking.address import SERVERS, scheme
from bench.tracking.quick_read import read_states
from bench.tracking.states import RunState

if TYPE_CHECKING:
    from bench.tracking.mlflow_store import Tracker


@dataclass(frozen=True)
class Recorded:
    """What is recorded of some cells."""

    records: Sequence[Record]
    """Of cells that finished or failed."""
    lost: Mapping[str, str]
    """Cells that have ended and whose record is gone or damaged, by id, each with the reason."""


def read_recorded(tracker: Tracker, cells: Sequence[Cell]) -> Recorded:
    """What is recorded of these cells, read once.

    Raises:
        RequestError: a later release has made one of the records, or the store cannot be read.
    """
    states = read_states(tracker.uri, tracker.suite)
    ended = [states[c.id] for c in cells if c.id in states and states[c.id].status != "running"]
    found = dict(zip((state.cell_id for state in ended), tracker.records(ended), strict=True))
    records = [record for record in found.values() if isinstance(record, Record)]
    return Recorded(
        records=relabelled(records, cells),
        lost={identity: str(reason) for identity, reason in found.items() if isinstance(reason, RecordError)},
    )


def recorded(tracker: Tracker, cells: Sequence[Cell]) -> list[Record]:
    """What is recorded of these cells, finished or failed."""
    return list(read_recorded(tracker, cells).records)


def checked_states(uri: str, suite: str, cells: Sequence[Cell]) -> dict[str, RunState]:
    """What the store knows, by id, after a look at whether the files of these cells' runs are there.

    Raises:
        RequestError: the store cannot be read.
    """
    states = read_states(uri, suite)
    stages = {identity for c in cells for identity in (c.id, c.dense_id, search_id(c))}
    wanted = {identity: state for identity, state in states.items() if identity in stages}
    if scheme(uri) not in SERVERS or not wanted:
        return states
    from bench.tracking.mlflow_store import Tracker  # loads mlflow

    Tracker(uri, suite).mark_lost(wanted.values())
    return read_states(uri, suite)


def without_record(cells: Sequence[Cell], records: Sequence[Record]) -> list[Cell]:
    """The cells that none of the records is of."""
    known = {record.cell_id for record in records}
    return [cell for cell in cells if cell.id not in known]


def stored_pictures(tracker: Tracker) -> Callable[[Record, str], bytes | None]:
    """Reads a picture of a record from its MLflow run; None where the store has none."""

    def read(record: Record, name: str) -> bytes | None:
        try:
            with tracker.artifact(record.run_id, name) as path:
                return path.read_bytes()
        except (OSError, RequestError):
            return None

    return read
