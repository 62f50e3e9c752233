"""The report of a suite from what the tracking store has of it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.interface.record import Record
from bench.processes import importing
from bench.report import write_report
from bench.runs.display import Busy
from bench.runs.recorded import read_recorded, stored_pictures, without_record
from bench.runs.suite import Suite
from bench.tracking.lock import locked


@dataclass(frozen=True, kw_only=True)
class Reported:
    """A report that was written."""

    readme: Path
    records: Sequence[Record]
    lost: Mapping[str, str]
    """Cells that have ended and whose record is gone or damaged, by id, each with the reason."""


def write_suite_report(suite: Suite, uri: str, folder: Path, *, quiet: bool = False) -> Reported:
    """Write the report of what the tracking store has of a suite, and say meanwhile that this is done.

    Args:
        quiet: say nothing.

    Raises:
        RequestError: a later release has made one of the records, or the store cannot be used.
    """
    with Busy(f"{suite.name}: writing the report", quiet=quiet):
        return _written(suite, uri, folder)


def _written(suite: Suite, uri: str, folder: Path) -> Reported:
    from bench.tracking.mlflow_store import Tracker  # loads mlflow

    tracker = Tracker(uri, suite.name)
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # Of two invocations that end together, the last to write has read what both have recorded.
        with locked(folder / "report"):
            with importing():
                found = read_recorded(tracker, suite.cells)
            readme = write_report(
                found.records,
                folder,
                suite=suite.name,
                missing=without_record(suite.cells, found.records),
                runs=tracker.runs_page,
                pictures=stored_pictures(tracker),
            )
    finally:
        with contextlib.suppress(OSError):
            for place in made:
                place.rmdir()  # nothing was written where it is empty
    return Reported(readme=readme, records=found.records, lost=found.lost)
