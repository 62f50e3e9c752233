"""The part of the audit that computes latencies and speedups again, from the records as plain JSON."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.report.audit_contribution import unquoted
from bench.report.latency import LARGEST_RANGE
from bench.report.matrix import build
from bench.report.records import parse_payload

Timing = tuple[str, int, int, float, float, float]
"""Machine, batch, threads, and in milliseconds the dense network's median and range and the pruned one's median."""


def timings(cell: Mapping[str, Any]) -> list[Timing]:
    """What was measured of a cell's networks, the first combination first."""
    if not cell.get("latency_dense") or not cell.get("latency_pruned"):
        return []
    further = [(pair["dense"], pair["pruned"]) for pair in cell.get("further_latencies") or []]
    device = cell["environment"].get("device") or "cpu"
    found = []
    for dense, pruned in [(cell["latency_dense"], cell["latency_pruned"]), *further]:
        threads = dense["threads"] if device == "cpu" else 0
        known = cell["environment"].get("processor") if device == "cpu" else device
        machine = f"{known or dense['device']} {dense['batch_size']}/{threads}"
        found.append((machine, dense["batch_size"], threads, dense["median_ms"], dense["iqr_ms"], pruned["median_ms"]))
    return found


def steady_machines(cells: Sequence[Mapping[str, Any]], labels: Mapping[str, tuple[str, str]]) -> set[tuple[str, str]]:
    """Workloads and machines on which the dense network's latencies are close enough for speedups to be stated."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for cell in cells:
        if cell["status"] == "finished":
            for machine, _, _, dense, wide, _ in timings(cell):
                found[labels[cell["cell_id"]][0], machine].append((dense, wide))
    return {place for place, values in found.items() if _steady(values)}


def _steady(values: Sequence[tuple[float, float]]) -> bool:
    medians = [dense for dense, _ in values]
    if len(medians) == 1:
        return values[0][1] <= LARGEST_RANGE * medians[0]
    low, middle, high = statistics.quantiles(medians, n=4, method="inclusive")
    return high - low <= LARGEST_RANGE * middle


def audit_latency(path: Path, cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is wrong in `tables/latency.csv`."""
    import pandas as pd

    made = build([parse_payload(cell) for cell in cells], suite="audit")
    steady = steady_machines(cells, made.labels)
    rows: dict[tuple[Any, ...], list[tuple[float, float | None]]] = defaultdict(list)
    for cell in cells:
        key, config = made.keys[cell["cell_id"]], cell["cell"]
        value = cell["final_metrics"].get(cell["metric_name"])
        if cell["status"] != "finished" or value is None or config.get("transfer") or config.get("ablation"):
            continue
        for machine, batch, threads, dense, _, pruned in timings(cell):
            place = (key.workload, key.protocol, key.budget, key.method, key.recovery, batch, threads)
            believed = (key.workload, machine) in steady and pruned > 0
            rows[place].append((pruned, dense / pruned if believed else None))
    shown: Any = pd.read_csv(path, keep_default_na=False, na_values=[""])
    return list(_differences(shown.to_dict("records"), rows))


def _differences(
    shown: Sequence[Mapping[str, Any]], rows: Mapping[tuple[Any, ...], Collection[tuple[float, float | None]]]
) -> Iterator[str]:
    for row in shown:
        threads = 0 if _absent(row["threads"]) else int(row["threads"])
        labels = (unquoted(row[name]) for name in ("workload", "protocol", "budget", "method", "recovery"))
        found = rows.get((*labels, row["batch"], threads), ())
        where = f"latency.csv, {row['workload']}, {row['method']} at {row['budget']:g}, batch {row['batch']}"
        speedups = [speedup for _, speedup in found if speedup is not None]
        expected = {
            "n": len(found),
            "latency_ms_mean": _mean([pruned for pruned, _ in found]),
            "speedup_mean": _mean(speedups),
        }
        for name, value in expected.items():
            same = _absent(row[name]) if value is None else math.isclose(value, row[name], rel_tol=1e-9)
            if not same:
                yield f"{where}: {name} is {row[name]}, the cells give {value}"


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
