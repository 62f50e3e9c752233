"""Checks `tables/contribution.csv`: differences, intervals and p-values again from the cells, with scipy."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.interface.cell import ABLATIONS
from bench.report.matrix import build
from bench.report.records import parse_payload

SLACK = 1e-9
_Key = tuple[str, str, float, str, str, str]
"""Workload, protocol, budget, method, recovery ("" for any) and ablation."""


def audit_contribution(path: Path, cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is wrong in the table, one sentence each."""
    import pandas as pd

    shown: Any = pd.read_csv(path, keep_default_na=False, na_values=[""])
    finals = _finals(cells)
    findings: list[str] = []
    block: list[dict[str, Any]] = []
    for row in [*shown.to_dict("records"), None]:
        if row is None or row["control"] != row["control"]:  # NaN: the method's own row begins a block
            findings += _audit_block(block, finals)
            block = []
        if row is not None:
            block.append(row)
    return findings


def unquoted(value: Any) -> Any:
    """CSV texts that a spreadsheet would run are written with an apostrophe in front."""
    return value[1:] if isinstance(value, str) and value[:1] == "'" and value[1:2] in ("=", "+", "-", "@") else value


def _finals(cells: Sequence[Mapping[str, Any]]) -> dict[_Key, dict[int, tuple[float, bool]]]:
    """Final metric, and whether the budget was met, by entry and seed."""
    made = build([parse_payload(cell) for cell in cells], suite="audit")
    found: dict[_Key, dict[int, tuple[float, bool]]] = defaultdict(dict)
    for cell in cells:
        key, config = made.keys[cell["cell_id"]], cell["cell"]
        value = cell["final_metrics"].get(cell["metric_name"])
        if cell["status"] != "finished" or value is None or config.get("transfer"):
            continue
        met = abs(kept_share(cell) - config["budget"]) <= config["tolerance"] + 1e-9
        for recovery in ("", key.recovery):
            place = (key.workload, key.protocol, key.budget, key.method, recovery, key.ablation)
            found[place][config["seed"]] = (value, met)
    return found


def _audit_block(
    block: Sequence[Mapping[str, Any]], finals: Mapping[_Key, Mapping[int, tuple[float, bool]]]
) -> list[str]:
    if not block:
        return []
    own_row, *rows = block
    place = (unquoted(own_row["workload"]), own_row["protocol"], own_row["budget"])
    method = unquoted(own_row["method"])
    ablation = own_row["ablation"]
    own = finals.get((*place, method, own_row["recovery"], "" if ablation != ablation else ablation), {})  # NaN: none
    findings, tested = [], []
    for row in rows:
        name = unquoted(row["control"])
        key = (*place, method, "", name) if name in ABLATIONS else (*place, name, "", "")
        expected = _difference(own, finals.get(key, {}))
        where = f"contribution.csv, {row['workload']}, {row['method']} against {name} at {row['budget']:g}"
        findings += [
            f"{where}: {column} is {row[column]}, the cells give {value}"
            for column, value in expected.items()
            if not _same(value, row[column])
        ]
        if not math.isnan(expected["p"]):
            tested.append((expected["p"], row["p_holm"], where))
    smallest_first = sorted(tested)
    least = 0.0
    for rank, (p, stated, where) in enumerate(smallest_first):
        least = max(least, min(1.0, p * (len(smallest_first) - rank)))
        if not _same(least, stated):
            findings.append(f"{where}: p_holm is {stated}, the cells give {least}")
    return findings


def _difference(own: Mapping[int, tuple[float, bool]], control: Mapping[int, tuple[float, bool]]) -> dict[str, float]:
    import numpy as np
    from scipy import stats

    gaps = np.array([own[seed][0] - control[seed][0] for seed in sorted(own.keys() & control.keys())])
    mean = gaps.mean() if len(gaps) else math.nan
    spread = gaps.std(ddof=1) if len(gaps) > 1 else 0.0
    found = {"difference_mean": mean, "difference_low": math.nan, "difference_high": math.nan, "p": math.nan}
    if spread > 1e-12 * max(1.0, abs(mean)):
        half = stats.t.ppf(0.975, len(gaps) - 1) * spread / math.sqrt(len(gaps))
        found |= {"difference_low": mean - half, "difference_high": mean + half}
        if all(met for _, met in (*own.values(), *control.values())):
            found["p"] = float(stats.ttest_1samp(gaps, 0.0).pvalue)  # type: ignore[union-attr]
    return found


def _same(expected: float, shown: Any) -> bool:
    value = float(shown)
    if math.isnan(expected) or math.isnan(value):
        return math.isnan(expected) and math.isnan(value)
    return math.isclose(expected, value, rel_tol=SLACK, abs_tol=1e-9)


def unit_of(config: Mapping[str, Any]) -> str:
    """What a cell's budget counts: `macs` or `params`."""
    return config.get("budget_kind") or "macs"


def kept_share(cell: Mapping[str, Any]) -> float:
    """Of what a cell's budget counts, the share of the dense network's that its pruned network has."""
    unit = unit_of(cell["cell"])
    return cell[f"{unit}_pruned"] / cell[f"{unit}_dense"]
