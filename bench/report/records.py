"""Records in and out of files: `cells.jsonl` read, written and joined; records that share no report are refused."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.errors import RequestError
from bench.interface.cell import Cell
from bench.interface.record import LaterRecordError, Record, RecordError, read_record

CELLS = "cells.jsonl"
# When and for which suite a result was obtained; two records that differ in nothing else hold the same result.
BOOKKEEPING = frozenset({"suite", "run_id", "started_at", "finished_at"})


class ReportError(RequestError):
    """Why no report can be made of some records, in one sentence."""


def read_records(path: Path | str) -> list[Record]:
    """The records of a `cells.jsonl`, or of a report folder that holds one."""
    path = Path(path)
    if path.is_dir():
        path = path / CELLS
    if not path.is_file():
        raise ReportError(f"{path}: no such file; expected a {CELLS} or a report folder that holds one")
    records: list[Record] = []
    with path.open(encoding="utf-8", errors="strict") as lines:
        number = 0
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    records.append(_parse(line, f"{path}, line {number}"))
        except UnicodeDecodeError as error:
            raise ReportError(f"{path}, after line {number}: not UTF-8 text ({error.reason})") from None
    return records


def _parse(line: str, where: str) -> Record:
    try:
        return read_record(line, where)
    except (RecordError, LaterRecordError) as error:
        raise ReportError(str(error)) from None


def payload(record: Record) -> dict[str, Any]:
    """The record as JSON values; metrics that are not finite are left out."""
    plain = record.model_dump(mode="json")
    for key in ("dense_metrics", "pruned_metrics", "final_metrics"):
        plain[key] = {name: value for name, value in getattr(record, key).items() if math.isfinite(value)}
    plain["reference_metrics"] = {
        name: {key: value for key, value in metrics.items() if math.isfinite(value)}
        for name, metrics in record.reference_metrics.items()
    }
    return plain


def dump_line(record: Record) -> str:
    """One line of `cells.jsonl`; a number that is not finite becomes null."""
    every = (record.dense_metrics, record.pruned_metrics, record.final_metrics, *record.reference_metrics.values())
    if all(math.isfinite(value) for metrics in every for value in metrics.values()):
        with contextlib.suppress(ValueError):  # half of a character, which only Python's own JSON writes
            return record.model_dump_json()
    return json.dumps(_finite(payload(record)), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value


def parse_payload(plain: Mapping[str, Any]) -> Record:
    """A record from the JSON values of its line."""
    return Record.model_validate(dict(plain))


def suite_of(records: Iterable[Record]) -> str:
    """The name of the suite that these records are of, or the names of all."""
    return " + ".join(sorted({record.suite for record in records}))


def sort_key(record: Record) -> tuple[Any, ...]:
    """An order that does not depend on the order in which cells ran."""
    cell = record.cell
    workload = cell.get("workload", {})
    return (
        str(workload.get("task", "")),
        str(workload.get("name", "")),
        str(cell.get("protocol", "")),
        -float(cell.get("budget", 0.0)),
        str(cell.get("method", "")),
        str(cell.get("ablation") or ""),
        str(cell.get("recovery", "")),
        int(cell.get("seed", 0)),
        record.cell_id,
    )


def record_label(record: Record) -> str:
    """A record in a sentence: `demo l1 0.5 seed 0 (0123456789ab)`."""
    try:
        return f"{record.config.label} ({record.cell_id})"
    except ValidationError:
        return record.cell_id


def relabelled(records: Iterable[Record], cells: Iterable[Cell]) -> list[Record]:
    """The records with the names that `cells` give their workloads and methods.

    These names are no part of a cell's identity, so that a suite may change them after its cells ran. A record of
    another cell keeps its own. The records that are handed in stay as they are.
    """
    by_id = {cell.id: cell for cell in cells}
    workloads: dict[str, dict[str, Any]] = {}
    return [
        _relabelled(record, by_id[record.cell_id], workloads) if record.cell_id in by_id else record
        for record in records
    ]


def _relabelled(record: Record, cell: Cell, workloads: dict[str, dict[str, Any]]) -> Record:
    """The record with its cell's labels; equal workloads are one object, which saves memory."""
    labels: dict[str, Any] = {"method": cell.method}
    if cell.base is not None or "base" in record.cell:
        labels["base"] = cell.base
    if cell.tuning is not None or "tuning" in record.cell:
        labels["tuning"] = cell.tuning.model_dump(mode="json") if cell.tuning is not None else None
    workload = {**record.cell["workload"], "name": cell.workload.name}
    workload = workloads.setdefault(json.dumps(workload), workload)
    return record.model_copy(update={"cell": {**record.cell, **labels, "workload": workload}})


def require_one_table(records: Sequence[Record]) -> dict[str, Cell]:
    """Refuse what must not share a table: mixed protocol versions or data, doubled cells, unreadable configurations.

    Returns:
        The configuration of every cell, by its id.
    """
    versions = sorted({record.protocol_version for record in records})
    if len(versions) > 1:
        counts = ", ".join(f"{sum(r.protocol_version == v for r in records)} of version {v}" for v in versions)
        raise ReportError(f"records of different protocol versions cannot share a table: {counts}")
    seen: dict[str, Record] = {}
    configs: dict[str, Cell] = {}
    for record in records:
        try:
            configs[record.cell_id] = record.config
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            raise ReportError(f"cell {record.cell_id}: configuration field {field}: {first['msg']}") from None
        if record.cell_id in seen:
            raise ReportError(
                f"cell {record_label(record)} is recorded twice, "
                f"in runs {seen[record.cell_id].run_id} and {record.run_id}"
            )
        seen[record.cell_id] = record
    _require_one_scale(configs.values())
    _require_one_data_set(records, configs)
    return configs


def _require_one_data_set(records: Iterable[Record], configs: Mapping[str, Cell]) -> None:
    """Refuse results of one workload that were made with different data."""
    made: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        if record.status == "finished":
            by_data = made.setdefault(configs[record.cell_id].workload.name, {})
            by_data.setdefault(record.data_fingerprint, []).append(record)
    for name, by_data in made.items():
        if len(by_data) > 1:
            several = "; ".join(
                f"{len(found)} of fingerprint {data or 'unknown'}, {record_label(found[0])} among them"
                for data, found in sorted(by_data.items())
            )
            raise ReportError(f"records of {name} were made with different data and cannot share a table: {several}")


def _require_one_scale(cells: Iterable[Cell]) -> None:
    """Refuse networks of one workload whose published epochs were shortened by different factors."""
    scales: dict[str, set[float]] = {}
    for cell in cells:
        if cell.plan is not None:
            scales.setdefault(cell.workload.name, set()).add(cell.plan.scale)
    for name, found in scales.items():
        if len(found) > 1:
            several = ", ".join(f"{scale:g}" for scale in sorted(found))
            raise ReportError(f"records of {name} with paper_scale {several} cannot share a table")


def merge_records(a: Iterable[Record], b: Iterable[Record]) -> list[Record]:
    """Both sets of records as one.

    The same cell with the same content counts once; a finished record takes the place of a failed one, since a
    failure is no result; two results that differ are refused.
    """
    merged: dict[str, Record] = {}
    for record in (*a, *b):
        known = merged.get(record.cell_id)
        if known is None or (known.status == "failed" and record.status == "finished"):
            merged[record.cell_id] = record
        elif known.status == record.status == "finished" and (fields := _differences(known, record)):
            raise ReportError(
                f"cell {record_label(record)} has two different results, in runs {known.run_id} and {record.run_id}: "
                f"they differ in {', '.join(fields)}; leave one of them out"
            )
    records = sorted(merged.values(), key=sort_key)
    require_one_table(records)
    return records


def _differences(one: Record, other: Record) -> list[str]:
    left, right = payload(one), payload(other)
    for side in (left, right):
        # The workload's name is a label, and what tuning cost is a fact beside the cell; two suites may differ in them.
        workload = {**side["cell"].get("workload", {}), "name": ""}
        side["cell"] = {k: v for k, v in side["cell"].items() if k != "tuning"} | {"workload": workload}
    return sorted(key for key in left if key not in BOOKKEEPING and left[key] != right[key])


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    write_bytes(path, text.encode("utf-8", errors="replace"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a file line by line, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
            for line in lines:
                file.write(line + "\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def missing_label(cell: Cell) -> str:
    """A cell that has not run, in words."""
    extra = [cell.protocol, cell.recovery] + ([f"transfer of {cell.transfer}"] if cell.transfer else [])
    return f"{cell.label} ({', '.join(extra)})"
