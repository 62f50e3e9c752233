"""`prunebench.run` and what it gives: the command line's `run` for programs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import RequestError
from bench.interface.cell import Cell
from bench.interface.record import Record
from bench.report import read_records, suite_of
from bench.runs.agenda import make_agenda
from bench.runs.display import Busy
from bench.runs.folders import report_folder
from bench.runs.invocation import carry_out
from bench.runs.job import Settings
from bench.runs.recorded import checked_states, without_record
from bench.runs.reporting import Reported, write_suite_report
from bench.runs.suite import Suite, load_suite, select
from bench.tracking.address import store_address

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, kw_only=True)
class Result:
    """What is recorded of some cells."""

    suite: str
    records: Sequence[Record]
    """Of cells that finished or failed."""
    missing: Sequence[Cell] = ()
    """Cells without a record."""
    report: Path | None = None
    """The README of the report that was written."""

    @property
    def failed(self) -> list[Record]:
        """The records of cells that failed, each with its `error` and `traceback`."""
        return [record for record in self.records if record.status == "failed"]

    def table(self) -> str:
        """The main comparison, as the report has it, in Markdown; a sentence where no cell has finished."""
        from bench.report.formats.markdown import to_markdown
        from bench.report.matrix import build
        from bench.report.tables.main import main_table

        found = main_table(build(self.records, self.missing, suite=self.suite))
        if found is None:
            return f"{self.suite}: no cell has finished ({len(self.failed)} failed, {len(self.missing)} missing)\n"
        return to_markdown(found)

    def frame(self) -> DataFrame:
        """One row a recorded cell, with the columns of a report's `results.csv`."""
        import pandas as pd

        return pd.DataFrame([record.row() for record in self.records])


def read(path: Path | str) -> Result:
    """The records of a report's folder, or of a `cells.jsonl`.

    Raises:
        ReportError: there is no such file, or it holds what is no record.
    """
    records = read_records(path)
    return Result(suite=suite_of(records), records=records)


def run(
    suite: Path | str,
    *,
    only: str | Sequence[str] = (),
    set: str | Sequence[str] = (),
    seeds: int | None = None,
    jobs: int = 1,
    executor: str = "local",
    device: str = "auto",
    resource: str | Sequence[str] = (),
    data: Path | str | None = None,
    tracking_uri: str | None = None,
    out: Path | str | None = None,
    retry_failed: bool = False,
    workers: int | None = None,
    download: bool = False,
    wait: bool = False,
    quiet: bool = False,
    checkpoint_every: float = Settings.checkpoint_every,
) -> Result:
    """Run every cell of a suite that is not yet recorded, write the report, and give the records of the chosen cells.

    Where `jobs` is more than 1, a script calls this below `if __name__ == "__main__":`, since each worker process
    imports it.

    Args:
        suite: a shipped suite's name, or a TOML file.
        only: `KEY=VALUE`, e.g. "method=l1,tas": which cells.
        set: `KEY=VALUE`, e.g. "seeds=0": fields of the suite to change.
        seeds: use seeds 0 … n − 1.
        jobs: cells to run at a time.
        executor: `local`, `ray` or `slurm`.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        resource: `KEY=VALUE`, e.g. "devices_per_cell=2": what each cell is computed on, in place of the suite's.
        data: folder of data sets; by default PRUNEBENCH_DATA of the environment.
        tracking_uri: MLflow store; by default MLFLOW_TRACKING_URI, else `mlflow.db` in the working folder.
        out: folder of the report; by default `reports/SUITE`, with what `set` changed added to the name.
        retry_failed: run failed cells again.
        workers: processes that read streamed data for each job; by default as many as it has threads, eight at most.
        download: let missing data sets be fetched.
        wait: wait for cells that other processes run.
        quiet: show no progress on stderr.
        checkpoint_every: minutes between two uploads of an unfinished job's checkpoint to the store; 0: each epoch.

    Raises:
        RequestError: the request itself is wrong; nothing has been trained then. A cell that fails raises nothing and
            is recorded: see `Result.failed`.
    """
    changed, picked = _several(set), _several(only)
    loaded = load_suite(str(suite), changed, seeds)
    chosen = select(loaded.cells, picked)
    folder = report_folder(Path(out) if out else None, loaded, changed, seeds)
    own = {"resources": loaded.resources.changed(_several(resource)), "workers": workers, "download": download}
    settings = _settings(loaded, data, tracking_uri, device=device, checkpoint_every=checkpoint_every, **own)
    with Busy(f"{loaded.name}: reading what is recorded", quiet=quiet) as busy:
        states = checked_states(settings.tracking_uri, loaded.name, chosen)
        agenda = make_agenda(chosen, states, retry_failed=retry_failed)
        carry_out(agenda, settings, busy, executor=executor, workers=jobs, quiet=quiet, wait=wait)
    reported = write_suite_report(loaded, settings.tracking_uri, folder, quiet=quiet)
    return _result(loaded.name, reported, chosen)


def _settings(loaded: Suite, data: Path | str | None, tracking_uri: str | None, **own: Any) -> Settings:
    """The settings of a run, with what the environment says where nothing is given."""
    place = data or os.environ.get("PRUNEBENCH_DATA")
    uri = store_address(tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"))
    return Settings(suite=loaded.name, tracking_uri=uri, data_root=Path(place) if place else None, **own)


def _result(suite: str, reported: Reported, chosen: Sequence[Cell]) -> Result:
    """The records of the chosen cells, and what is missing of them."""
    wanted = {cell.id for cell in chosen}
    records = [record for record in reported.records if record.cell_id in wanted]
    return Result(suite=suite, records=records, missing=without_record(chosen, records), report=reported.readme)


def _several(given: str | Sequence[str]) -> list[str]:
    if isinstance(given, str):
        return [given]
    if not all(isinstance(item, str) for item in given):
        raise RequestError(f"{given!r} is not allowed; use KEY=VALUE in quotes, or a list of such")
    return list(given)
