"""Checks a report against its own records: every Δ, %, rank and bold is computed again from `cells.jsonl`.

Nothing of the report's own arithmetic is used: the records are read as plain JSON, and the statistics are pandas' and
scipy's. Only the labels of workloads, methods and protocols are the report's. What is checked:

* the records: they have one protocol version; no cell is there twice; an identity is the hash of its configuration;
  budgets and ratios follow from the counted MACs or parameters; cells of one workload read the same data; methods that
  started from one dense network state it alike; the final metric is that of the test samples' outcomes; the epochs of a
  cell's phases are those of its ledger;
* `results.csv`: every number is the record's;
* `tables/main.csv`: n, means, standard deviations, Δ, percentages, speedup, rank and bold;
* `tables/latency.csv`: n, latencies and speedups at every batch size and number of threads;
* `tables/contribution.csv`: each difference, its interval and its p, corrected and not.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.interface.cell import BUDGET_WORDS
from bench.interface.outcomes import metric, unpacked
from bench.interface.record import Outcomes, Record, require_known_version
from bench.interface.registry import unpruned_names
from bench.report.audit_contribution import audit_contribution, kept_share, unit_of, unquoted
from bench.report.audit_latency import audit_latency, steady_machines, timings
from bench.report.health import EXPLODED, NOT_FINITE, OF_ANOTHER
from bench.report.matrix import build
from bench.report.records import parse_payload

TOLERANCE = 1e-9
"""Relative slack for sums in another order."""
METRIC_TOLERANCE = 1e-4
"""Relative slack for a metric of float32 outcomes."""


def audit(folder: Path | str) -> list[str]:
    """Everything that is wrong in a report folder, one sentence each; empty where nothing is.

    Raises:
        LaterRecordError: a later release has written it.
    """
    folder = Path(folder)
    cells: list[dict[str, Any]] = []
    with (folder / "cells.jsonl").open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                cells.append(json.loads(line))
            except json.JSONDecodeError as error:
                return [f"cells.jsonl, line {number}: not JSON ({error.msg})"]
            if not isinstance(cells[-1], dict):
                return [f"cells.jsonl, line {number}: no record"]
            require_known_version(cells[-1], f"{folder / 'cells.jsonl'}, line {number}")
    findings = audit_cells(cells)
    if len({cell["cell_id"] for cell in cells}) < len(cells) or len({cell["protocol_version"] for cell in cells}) > 1:
        return findings  # No table can be made of these.
    findings += _audit_results(folder / "results.csv", cells)
    if (folder / "tables" / "main.csv").is_file():
        findings += _audit_main(folder / "tables" / "main.csv", cells)
    if (folder / "tables" / "contribution.csv").is_file():
        findings += audit_contribution(folder / "tables" / "contribution.csv", cells)
    if (folder / "tables" / "latency.csv").is_file():
        findings += audit_latency(folder / "tables" / "latency.csv", cells)
    return findings


def contradictions(records: Sequence[Record]) -> list[str]:
    """What `audit_cells` finds in records that are not written yet."""
    fields = {"protocol_version", "cell_id", "status", "cell", "metric_name", "dense_metrics", "final_metrics"}
    fields |= {
        "macs_dense",
        "macs_pruned",
        "params_dense",
        "params_pruned",
        "audit",
        "groups",
        "outcomes",
        "ledger",
        "data_fingerprint",
    }
    return audit_cells(record.model_dump(mode="json", include=fields) for record in records)


def audit_cells(cells: Iterable[Mapping[str, Any]]) -> list[str]:
    """What is wrong in the records themselves."""
    findings: list[str] = []
    versions: set[int] = set()
    seen: set[str] = set()
    dense: dict[str, list[tuple[str, str]]] = defaultdict(list)
    data: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for cell in cells:
        name = cell["cell_id"]
        versions.add(cell["protocol_version"])
        if name in seen:
            findings.append(f"cell {name} is there twice")
        seen.add(name)
        if (expected := _identity(cell)) != name:
            findings.append(f"cell {name}: its configuration is that of cell {expected}")
        if cell["status"] != "finished":
            continue
        findings += _audit_cell(cell)
        network, seed = _dense_key(cell)
        for field in ("macs_dense", "params_dense"):
            dense[f"{field} {network}"].append((name, f"{field} {cell[field]}"))
        data[network].append((name, cell.get("data_fingerprint") or "unknown"))
        if cell["cell"].get("needs_dense", True):
            stated = ", ".join(f"{key} {value!r}" for key, value in sorted(cell["dense_metrics"].items()))
            dense[f"{network} {seed}"].append((name, f"dense network's {stated}"))
    if len(versions) > 1:
        findings.insert(0, f"records of protocol versions {', '.join(map(str, sorted(versions)))} are mixed")
    for made in data.values():
        usual, count = Counter(fingerprint for _, fingerprint in made).most_common(1)[0]
        findings += [
            f"cell {name}: made with data {fingerprint}; {count} cells of the same workload were made with {usual}"
            for name, fingerprint in made
            if fingerprint != usual
        ]
    for statements in dense.values():
        counts = Counter(text for _, text in statements)
        usual, _ = counts.most_common(1)[0]
        for name, text in statements:
            if text != usual:
                findings.append(f"cell {name}: {text}; {counts[usual]} cells with the same dense network say {usual}")
    return findings


def _audit_cell(cell: Mapping[str, Any]) -> list[str]:
    found = []
    name, audit_, config = cell["cell_id"], cell.get("audit"), cell["cell"]
    value = cell["final_metrics"].get(cell["metric_name"])
    if value is None or not math.isfinite(value):
        found.append(f"cell {name}: finished, but without a finite {cell['metric_name'] or 'metric'}")
    if audit_ and cell["macs_dense"]:
        found += _audit_ratios(cell, audit_)
        unit, measured = unit_of(config), kept_share(cell)
        if audit_.get("kind", "macs") != unit:
            found.append(f"cell {name}: the audit's budget counts {audit_['kind']}, the cell's {unit}")
        if audit_["requested"] != config["budget"]:
            found.append(f"cell {name}: the audit's budget {audit_['requested']} is not the cell's {config['budget']}")
        if audit_["within"] != (abs(measured - config["budget"]) <= config["tolerance"] + 1e-9):
            found.append(f"cell {name}: recorded as {'within' if audit_['within'] else 'off'} budget at {measured:.6f}")
    found += _audit_outcomes(cell) + _audit_phases(cell)
    for group in cell.get("groups", []):
        if not 0 <= group["width"] <= group["size"]:
            found.append(f"cell {name}: group {group['name']} keeps {group['width']} of {group['size']} channels")
    return found


def _audit_ratios(cell: Mapping[str, Any], audit_: Mapping[str, Any]) -> list[str]:
    """Whether the ratios that are recorded are those of the counts."""
    found = []
    for unit, words in BUDGET_WORDS.items():
        stated = audit_.get(f"{unit}_ratio")
        if stated is None or not cell[f"{unit}_dense"]:
            continue
        pruned, dense = cell[f"{unit}_pruned"], cell[f"{unit}_dense"]
        if abs(pruned / dense - stated) > 1e-6:
            found.append(
                f"cell {cell['cell_id']}: {words} {pruned} of {dense} are {pruned / dense:.6f} of the dense network's, "
                f"recorded is {stated:.6f}"
            )
    return found


def _audit_outcomes(cell: Mapping[str, Any]) -> list[str]:
    """Whether the final metric is what the outcomes of the test samples give."""
    if not cell.get("outcomes"):
        return []
    name, value = cell["cell_id"], cell["final_metrics"].get(cell["metric_name"])
    try:
        outcomes = Outcomes.model_validate(cell["outcomes"])
        computed = float(metric(outcomes.kind, unpacked(outcomes)))
    except ValueError as error:
        return [f"cell {name}: {error}"]
    if value is None or math.isclose(computed, value, rel_tol=METRIC_TOLERANCE):
        return []
    return [f"cell {name}: {cell['metric_name']} is {value:.6g}, its test samples' outcomes give {computed:.6g}"]


def _audit_phases(cell: Mapping[str, Any]) -> list[str]:
    """Whether the ledger's epochs and seconds are those of its phases."""
    ledger = cell.get("ledger") or {}
    phases = ledger.get("phases") or []
    found = []
    for stage in ("dense", "search", "recovery") if phases else ():
        for field, slack in (("epochs", 0.0), ("seconds", TOLERANCE)):
            total = math.fsum(phase[field] for phase in phases if phase["name"] == stage)
            stated = ledger[f"{stage}_{field}"]
            if field == "seconds" and not total:
                continue  # a phase of no epochs is left out, whatever time the method took
            if not math.isclose(total, stated, rel_tol=slack):
                found.append(
                    f"cell {cell['cell_id']}: {stage} {field} are {stated:g} in the ledger, {total:g} by its phases"
                )
    return found


def _identity(cell: Mapping[str, Any]) -> str:
    config = dict(cell["cell"])
    workload = _set({key: value for key, value in config.pop("workload").items() if key != "name"})
    config.pop("tuning", None)
    adapter = config.pop("base", None) or config["method"]  # A variant's label is not part of its identity.
    own = _set(config) | {"method": adapter}
    return _digest({"protocol_version": cell["protocol_version"], "workload": workload, **own})


def _set(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What counts of fields, and of a workload's options: those that are None do not; of a file, what it holds."""
    given = {key: value for key, value in fields.items() if value is not None}
    given |= {key: given[key]["sha256"] for key in ("code", "weights") if isinstance(given.get(key), Mapping)}
    return given | ({"options": _set(given["options"])} if "options" in given else {})


def _digest(payload: Any) -> str:
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _dense_key(cell: Mapping[str, Any]) -> tuple[str, int]:
    workload = _set({k: v for k, v in cell["cell"]["workload"].items() if k not in ("name", "finetune", "protect")})
    workload["epochs"] = workload["epochs"]["dense"]
    return json.dumps(workload, sort_keys=True), cell["cell"]["seed"]


def _frame(cells: Sequence[Mapping[str, Any]]) -> Any:
    import pandas as pd

    rows = []
    for cell in cells:
        config, ledger, audit_ = cell["cell"], cell.get("ledger") or {}, cell.get("audit") or {}
        metric = cell["metric_name"]
        latency_dense, latency_pruned = cell.get("latency_dense") or {}, cell.get("latency_pruned") or {}
        rows.append(
            {
                "cell_id": cell["cell_id"],
                "status": cell["status"],
                "method": config["method"],
                "adapter": config.get("base") or config["method"],
                "recovery": config["recovery"],
                "protocol": config["protocol"],
                "budget": config["budget"],
                "budget_kind": unit_of(config),
                "tolerance": config["tolerance"],
                "seed": config["seed"],
                "higher": cell["higher_is_better"],
                "idle": _idle(cell),
                "dense_metric": cell["dense_metrics"].get(metric),
                "pruned_metric": cell["pruned_metrics"].get(metric),
                "final_metric": cell["final_metrics"].get(metric),
                "macs_dense": cell["macs_dense"] or None,
                "macs_pruned": cell["macs_pruned"] or None,
                "params_dense": cell["params_dense"] or None,
                "params_pruned": cell["params_pruned"] or None,
                "peak_memory_dense": cell.get("peak_memory_dense") or None,
                "peak_memory_pruned": cell.get("peak_memory_pruned") or None,
                "macs_ratio": audit_.get("macs_ratio"),
                "latency_dense_ms": latency_dense.get("median_ms"),
                "latency_pruned_ms": latency_pruned.get("median_ms"),
                "search_seconds": ledger.get("search_seconds"),
                "recovery_seconds": ledger.get("recovery_seconds"),
                "dense_seconds": ledger.get("dense_seconds"),
                "machine": timed[0][0] if (timed := timings(cell)) else "",
                "needs_dense": config.get("needs_dense", True),
                "dense_key": hash(_dense_key(cell)[0]),
            }
        )
    return pd.DataFrame(rows)


def _idle(cell: Mapping[str, Any]) -> bool:
    """Whether the cell's final network is no better than the majority class, or diverged."""
    metric, sign = cell["metric_name"], 1 if cell["higher_is_better"] else -1
    if cell["status"] != "finished":
        told = cell.get("error") or ""
        return not told.startswith(OF_ANOTHER) and any(words in told for words in NOT_FINITE)
    value = cell["final_metrics"].get(metric)
    bar = (cell.get("reference_metrics") or {}).get("majority class", {}).get(metric)
    if value is not None and bar is not None and sign * (value - bar) <= 1e-9:
        return True
    rows = [r for r in cell.get("trajectory") or [] if r["phase"] != "search" and r.get("loss") is not None]
    if not rows or rows[-1]["phase"] != "recovery" or len(rows) < 2 or "distil" in cell["cell"]["recovery"]:
        return False
    return 0 < EXPLODED * rows[0]["loss"] < rows[-1]["loss"]


def _audit_results(path: Path, cells: Sequence[Mapping[str, Any]]) -> list[str]:
    import pandas as pd

    if not path.is_file():
        return ["results.csv is missing"]
    if not cells:
        return []
    shown = pd.read_csv(path, keep_default_na=False, na_values=[""]).set_index("cell_id")
    if not shown.index.is_unique or len(shown) != len(cells):
        return [f"results.csv has {len(shown)} rows for {len(cells)} cells"]
    frame = _frame(cells).set_index("cell_id")
    findings = []
    for column in frame.columns.intersection(shown.columns):
        if frame[column].dtype == object or frame[column].dtype == bool:
            continue
        for cell_id, value in frame[column].items():
            there = shown[column].get(cell_id)
            if not _same(value, there):
                findings.append(f"results.csv, cell {cell_id}: {column} is {there}, in the record {value}")
    return findings


def _same(expected: Any, shown: Any) -> bool:
    missing = [value is None or (isinstance(value, float) and math.isnan(value)) for value in (expected, shown)]
    if any(missing):
        return all(missing)
    try:
        return math.isclose(float(expected), float(shown), rel_tol=TOLERANCE, abs_tol=1e-9)
    except (TypeError, ValueError):
        return str(expected) == str(shown)


def _audit_main(path: Path, cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Match each row to its cells by its labels, protocol, budget and recovery, and compute the row again."""
    import pandas as pd

    shown: Any = pd.read_csv(path, keep_default_na=False, na_values=[""])
    made = build([parse_payload(cell) for cell in cells], suite="audit")
    labels = made.labels
    frame = _frame(cells)
    frame["workload_label"] = [labels[cell["cell_id"]][0] for cell in cells]
    frame["method_label"] = [labels[cell["cell_id"]][1] for cell in cells]
    frame["protocol"] = [made.keys[cell["cell_id"]].protocol for cell in cells]
    taken = [cell["cell"].get("transfer") or cell["cell"].get("ablation") for cell in cells]
    frame["own"] = [name is None for name in taken]
    steady = steady_machines(cells, labels)
    frame["steady"] = [place in steady for place in zip(frame.workload_label, frame.machine, strict=True)]
    good = frame[(frame.status == "finished") & frame.final_metric.notna()].copy()
    started = good[good.needs_dense & good.dense_metric.notna()].drop_duplicates(["workload_label", "seed"])
    other = good[good.dense_metric.notna()].drop_duplicates(["workload_label", "seed"])
    dense = {(r.workload_label, r.seed): r.dense_metric for r in other.itertuples()}
    dense |= {(r.workload_label, r.seed): r.dense_metric for r in started.itertuples()}
    good["dense_of_seed"] = [
        own if own is not None and own == own else dense.get((workload, seed))
        for own, workload, seed in zip(good.dense_metric, good.workload_label, good.seed, strict=True)
    ]
    groups = {
        key: group.sort_values("seed")
        for key, group in good[good.own].groupby(["workload_label", "protocol", "budget", "method_label", "recovery"])
    }
    by_entry = frame[frame.own].groupby(["workload_label", "protocol", "budget", "method_label", "recovery"])
    idle = {key for key, flags in by_entry.idle if flags.any()}
    findings: list[str] = []
    absent: set[str] = set()
    for row in shown.to_dict("records"):
        where = f"main.csv, {row['workload']}, {row['method']} at {row['budget']:g}"
        key = tuple(unquoted(row[name]) for name in ("workload", "protocol", "budget", "method", "recovery"))
        group = groups.get(key)
        if group is None:
            if row["n"]:
                findings.append(f"{where}: no finished cell stands behind it")
            continue
        for name, value in _expected(group).items():
            if name not in row:
                absent.add(name)
            elif not _same(value, row[name]):
                findings.append(f"{where}: {name} is {row[name]}, the cells give {value}")
    findings += [f"main.csv has no column {name}" for name in sorted(absent)]
    return findings + _audit_ranks(shown, groups, idle)


def _expected(group: Any) -> dict[str, Any]:
    delta = (group.final_metric - group.dense_of_seed.astype(float)).dropna()
    believed = group[group.steady]
    speedup = (believed.latency_dense_ms.astype(float) / believed.latency_pruned_ms.astype(float)).dropna()
    ratio = group.macs_pruned.astype(float) / group.macs_dense.astype(float)
    unit = group.budget_kind.iloc[0]
    kept = group[f"{unit}_pruned"].astype(float) / group[f"{unit}_dense"].astype(float)
    off = (kept - group.budget).abs() > group.tolerance + 1e-9
    return {
        "n": len(group),
        "final_mean": group.final_metric.mean(),
        "final_std": group.final_metric.std(ddof=1),
        "pruned_mean": group.pruned_metric.astype(float).mean(),
        "dense_mean": group.dense_of_seed.astype(float).mean(),
        "delta_mean": delta.mean(),
        "delta_std": delta.std(ddof=1),
        "macs_drop_percent": (100 * (1 - ratio)).mean(),
        "params_drop_percent": (
            100 * (1 - group.params_pruned.astype(float) / group.params_dense.astype(float))
        ).mean(),
        "peak_memory_drop_percent": (
            100 * (1 - group.peak_memory_pruned.astype(float) / group.peak_memory_dense.astype(float))
        ).mean(),
        "speedup_mean": speedup.mean(),
        "total_seconds_mean": (group.dense_seconds + group.search_seconds + group.recovery_seconds)
        .astype(float)
        .mean(),
        "budget_misses": int(off.sum()) if _pruned(group) else 0,
    }


def _pruned(group: Any) -> bool:
    """Whether these cells' adapter prunes at all: what does not is no contestant."""
    return group.adapter.iloc[0] not in unpruned_names()


def _audit_ranks(shown: Any, groups: Mapping[Any, Any], idle: Collection[Any]) -> list[str]:
    from scipy import stats

    findings: list[str] = []
    for (workload, protocol, budget), rows in shown.groupby(["workload", "protocol", "budget"]):
        where = f"main.csv, {workload} at {budget:g}"
        contest = {}
        for row in rows.to_dict("records"):
            key = tuple(unquoted(v) for v in (workload, protocol, budget, row["method"], row["recovery"]))
            group = groups.get(key)
            eligible = group is not None and _expected(group)["budget_misses"] == 0 and key not in idle
            if group is not None and eligible and _pruned(group):
                contest[row["method"]] = group
            elif not _same(None, row["rank"]) or row["bold"]:
                findings.append(f"{where}: {row['method']} is ranked or bold, and must not be")
        if not contest:
            continue
        names = list(contest)
        higher = bool(contest[names[0]].higher.iloc[0])
        means = [round(contest[name].final_metric.mean(), 12) for name in names]
        places = stats.rankdata([-m if higher else m for m in means], method="average")
        by_name = {row["method"]: row for row in rows.to_dict("records")}
        for name, place in zip(names, places, strict=True):
            if not _same(place, by_name[name]["rank"]):
                findings.append(f"{where}: {name} has rank {by_name[name]['rank']}, its mean has place {place:g}")
        winner = _clear_winner(contest, dict(zip(names, places, strict=True)))
        for name in names:
            if bool(by_name[name]["bold"]) != (name == winner):
                verb = "is bold and is not better beyond the interval" if by_name[name]["bold"] else "should be bold"
                findings.append(f"{where}: {name} {verb}")
    return findings


def _clear_winner(contest: Mapping[str, Any], places: Mapping[str, float]) -> str | None:
    """The method that beats every other in a paired t-test, Holm-corrected at 5 %."""
    from scipy import stats

    best = min(contest, key=lambda name: (places[name], name))
    if len(contest) < 2:
        return None
    p_values = []
    for name, group in contest.items():
        if name == best:
            continue
        pair = (
            contest[best]
            .set_index("seed")
            .final_metric.to_frame("a")
            .join(group.set_index("seed").final_metric.rename("b"), how="inner")
        )
        gaps = pair.a - pair.b
        if len(pair) < 2 or gaps.std(ddof=1) <= 1e-12 * max(1.0, abs(gaps.mean())):
            return None
        p_values.append(float(stats.ttest_rel(pair.a, pair.b).pvalue))
    for step, p in enumerate(sorted(p_values)):
        if p * (len(p_values) - step) >= 0.05:
            return None
    return best
