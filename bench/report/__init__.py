"""Reports: tables, figures and a page from records. Reads records, never trains.

Importing this loads neither torch nor pandas, matplotlib or mlflow; writing a report loads what it draws with.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from bench.interface.cell import Cell
from bench.interface.record import Record
from bench.report.records import ReportError, merge_records, read_records, relabelled

__all__ = ["ReportError", "merge_records", "read_records", "relabelled", "write_report"]

PictureSource = Callable[[Record, str], "Path | bytes | None"] | Path


def write_report(
    records: Sequence[Record],
    out: Path,
    *,
    suite: str,
    missing: Sequence[Cell] = (),
    now: str | None = None,
    runs: str = "",
    controls: Collection[str] | None = None,
    pictures: PictureSource | None = None,
) -> Path:
    """Write the report of `records` into `out`, and return the path of its README.

    The same records give the same bytes: nothing is dated but by `now`, or else by the latest record.

    Args:
        suite: title of the report.
        missing: cells of the suite that have no record yet; named as missing.
        runs: http address of the MLflow runs' pages, up to a run's id (`Tracker.runs_page`); without one, run ids are
            shown and not linked.
        controls: names of the adapters that are baselines; by default those of the catalogue.
        pictures: where `Record.pictures` are: a folder, holding them by run id or directly, or a function from
            record and path to a file or its bytes.

    Raises:
        ReportError: records of several protocol versions, a cell twice, a configuration that cannot be read.
    """
    from bench.report.write import write

    return write(
        records,
        out,
        suite=suite,
        missing=missing,
        now=now,
        runs=runs,
        controls=controls,
        pictures=pictures,
    )
