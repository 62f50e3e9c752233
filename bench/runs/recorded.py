"""The records of a suite's cells, as they are stored, under the names that the suite gives them today."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bench.interface.cell import Cell
from bench.interface.record import Record
from bench.report import relabelled

if TYPE_CHECKING:
    from bench.tracking.mlflow_store import Tracker


def recorded(tracker: Tracker, cells: Sequence[Cell]) -> list[Record]:
    """What is recorded of these cells, finished or failed."""
    states = tracker.best()
    ended = [states[c.id] for c in cells if c.id in states and states[c.id].status != "running"]
    return relabelled(tracker.records(ended), cells)


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
        except OSError:
            return None

    return read
