"""A cell that another suite of the same store has recorded: its record and artifacts are taken from there."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from bench.interface.cell import BUDGET_WORDS
from bench.interface.record import Record, RecordError
from bench.interface.source import source_hash
from bench.runs.shared import found_elsewhere, taken_from, taken_summary
from bench.runs.tracked import ActiveJob, Result


def taken_cell(active: ActiveJob, fingerprint: str) -> Result | None:
    """The result of another suite for this cell, stored with this run; None where there is none.

    A result of other data, or of other code of the method, does not count.

    Args:
        fingerprint: of the data here.
    """
    cell = active.job.cell
    assert cell is not None
    code = source_hash(cell.adapter)
    for tracker, state in found_elsewhere(active, fingerprint, code) if code else ():
        try:
            record = tracker.record(state)
        except RecordError:
            continue
        own = {"suite": active.settings.suite, "run_id": active.run.run_id, "cell": cell.model_dump(mode="json")}
        own |= {"notes": [*record.notes, taken_from(tracker, state)]}
        mine = record.model_copy(update=own)
        with tracker.artifact(state.run_id, "") as folder, tempfile.TemporaryDirectory() as out:
            for name in _artifacts(record, folder):
                there, here = folder / name, Path(out, name)
                shutil.copytree(there, here) if there.is_dir() else shutil.copy(there, here)
            active.run.folder(Path(out))
        active.run.rows([row for row in mine.trajectory if row["phase"] != "dense"])
        active.run.final(figures_of(mine))
        return Result(summary=taken_summary(summary_of(mine), tracker), record=mine.model_dump_json())
    return None


def _artifacts(record: Record, folder: Path) -> list[str]:
    """Names of the files and folders that belong to the result of a cell."""
    wanted = {"model", "widths.png", *(picture.partition("/")[0] for picture in record.pictures)}
    return [name for name in sorted(wanted) if (folder / name).exists()]


def figures_of(record: Record) -> dict[str, int | float]:
    """The figures that a cell ends with, as its MLflow run has them."""
    return {k: v for k, v in record.row().items() if isinstance(v, int | float) and not isinstance(v, bool)}


def summary_of(record: Record) -> str:
    """What came of a cell, in a line."""
    metric = f"{record.metric_name} {record.final_metrics[record.metric_name]:.2f}{record.metric_unit}"
    kind = record.config.kind
    kept, whole = (
        (record.macs_pruned, record.macs_dense) if kind == "macs" else (record.params_pruned, record.params_dense)
    )
    return f"{metric} at {kept / whole:.4f} of the {BUDGET_WORDS[kind]}"
