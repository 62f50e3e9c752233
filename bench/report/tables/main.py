"""The main comparison: every method of a workload at every budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.interface.record import METHOD_SOURCE
from bench.report.entry import Entry
from bench.report.health import DIVERGED, MAJORITY
from bench.report.matrix import Matrix
from bench.report.tables.data import Num, Row, Section, Table, Text, numbers, words
from bench.report.tables.shared import (
    BUDGET,
    DELTA,
    MACS_DROP,
    MEMORY_DROP,
    METHOD,
    PARAMS_DROP,
    RECOVERY,
    N,
    Shown,
    budget_value,
    columns_of,
    count,
    entry_id,
    kinds_text,
    mean,
    method_text,
    metric_title,
    rank_text,
    recovery_text,
    section_title,
    seeds_value,
    spread,
    values_of,
)
from bench.report.workload import WorkloadSummary

AFTER_RECOVERY = numbers("After recovery")
EQUAL = {
    "samples": (
        "Under protocol matched the training samples seen are held equal (match = samples): dense training, search and "
        "recovery have as many epochs together for every method, and a network from fresh weights gets all of them."
    ),
    "steps": (
        "Under protocol matched (equal steps) the steps of the weights are held equal (match = steps): an epoch of a "
        "bi-level search, whose weights see half of the samples, counts as half of one."
    ),
}
"""What each `match` of a suite holds equal."""
MARKS = (
    "Mean ± sample standard deviation over n seeds; one seed has no ±. Δ is taken seed by seed against the dense "
    "network. **Bold**: better than every rival of the same budget (paired t-test over seeds, Holm-corrected, "
    "p < 0.05); “=” ties with the best by that test; “?” cannot be told (too few common seeds). *Italics*: a control. "
    "An entry with a cell off its budget, or with a network that is no better than the majority class or diverged, is "
    "not ranked. Memory is the peak of a forward pass of the example batch "
    "beyond the weights. The CSV has each entry's difference to its best rival with two 95 % intervals: over seeds "
    "(Student's t), and over test samples (paired bootstrap), which holds for these networks and not for new seeds."
)

OUTPUT = "output of the network"
"""Why the last layer is left whole, as the structural engine says it: that needs no note."""
SHOWN = 3
"""How many of the layers that were left whole are named below a table."""


def main_table(matrix: Matrix) -> Table | None:
    """The comparison: one section a workload and protocol."""
    if not any(entry.n for entry in matrix.main):
        return None
    sections, raw = [], []
    for (name, protocol), entries in matrix.groups().items():
        workload = matrix.workloads.get(name)
        if workload is None:
            continue
        # A network that is not pruned belongs beside the dense one, whatever budget it was filed under.
        ordered = sorted(entries, key=lambda e: e.prunes)
        sections.append(_section(section_title(name, protocol), ordered, workload))
        raw += [main_fields(entry, workload) | _rival_fields(matrix, entry) for entry in ordered]
    caption = f"Test-split figures at matched {kinds_text(matrix, short=True)} budgets. {held_equal(matrix)}{MARKS}"
    return Table("main", "Main comparison", caption, sections, raw)


def held_equal(matrix: Matrix) -> str:
    """What was held equal beside the MACs or parameters, in sentences; a space follows."""
    cells = [*matrix.configs.values(), *matrix.missing]
    matched = {cell.match for cell in cells if cell.protocol == "matched"}
    scales = {cell.plan.scale for cell in cells if cell.plan is not None}
    parts = [EQUAL[match] for match in ("samples", "steps") if match in matched]
    if any(cell.kind == "params" for cell in cells):
        parts.insert(
            0, "Where the protocol says equal parameters, budgets are fractions of the dense network's parameters."
        )
    if any(cell.protocol == "paper" for cell in cells):
        parts.append("Under protocol paper each method has its own recipe and epochs, and nothing else is held equal.")
    parts += [f"All published epochs are multiplied by {scale:g} (paper_scale)." for scale in sorted(scales - {1.0})]
    return "".join(f"{part} " for part in parts)


def _section(title: str, entries: Sequence[Entry], workload: WorkloadSummary) -> Section:
    shown = _columns(workload, several_recoveries=len({e.recovery for e in entries if e.records}) > 1)
    dense = {
        METHOD: Text("dense"),
        N: count(workload.dense.n),
        AFTER_RECOVERY: spread(workload.dense, workload.digits),
    }
    rows = [Row([dense.get(column, column.blank) for column, _ in shown], block="unpruned")]
    rows += [
        Row(values_of(shown, entry), entry_id(entry), entry.budget if entry.prunes else "unpruned") for entry in entries
    ]
    notes = [
        about(workload),
        *_latency_note(workload),
        *_settings_note(entries),
        *_code_notes(entries),
        *_whole_note(entries),
    ]
    return Section(title, columns_of(shown), rows, notes)


def _latency_note(workload: WorkloadSummary) -> list[str]:
    """At which of several combinations of batch size and threads speedups are stated."""
    if len(workload.conditions) < 2:
        return []
    first = " or ".join(dict.fromkeys(machine.conditions.words for machine in workload.first_timed))
    others = "; ".join(c.words for c in workload.conditions if c not in {m.conditions for m in workload.first_timed})
    return [f"Speedups here are those at {first}; the table by latency also has {others}."] if others else []


def _settings_note(entries: Sequence[Entry]) -> list[str]:
    """A sentence on hyper-parameters that are not at their defaults, where a swept method's name has not said them."""
    found = {e.label: e.settings for e in entries if not all(part in e.label for part in e.settings.split(", "))}
    said = "; ".join(f"{label}: {settings}" for label, settings in sorted(found.items()))
    return [f"Settings other than the defaults: {said}."] if said else []


def _code_notes(entries: Sequence[Entry]) -> list[str]:
    """A sentence for each method whose cells were made by different versions of its code."""
    versions: dict[str, set[str]] = {}
    for entry in entries:
        known = {record.environment.get(METHOD_SOURCE, "") for record in entry.records} - {""}
        versions.setdefault(entry.label, set()).update(known)
    return [
        f"Cells of {label} were made by {len(found)} versions of its code: {', '.join(sorted(found))}."
        for label, found in sorted(versions.items())
        if len(found) > 1
    ]


def _whole_note(entries: Sequence[Entry]) -> list[str]:
    """A sentence on the layers that no method could cut, or not in part, and why."""
    found = {name: why for entry in entries for record in entry.records for name, why in record.left_whole.items()}
    found = {name: why for name, why in found.items() if why != OUTPUT}
    if not found:
        return []
    first = "; ".join(f"{name} ({why})" for name, why in list(found.items())[:SHOWN])
    more = f"; and {len(found) - SHOWN} more, which `prunebench show CELL` names" if len(found) > SHOWN else ""
    return [f"Left whole, or in part, in every pruned network: {first}{more}."]


def _columns(workload: WorkloadSummary, *, several_recoveries: bool) -> list[Shown[Entry]]:
    digits = workload.digits
    return [
        (BUDGET, lambda e: budget_value(e) if e.prunes else BUDGET.blank),
        (METHOD, method_text),
        *([(RECOVERY, recovery_text)] if several_recoveries else []),
        (N, seeds_value),
        (numbers("After pruning"), lambda e: spread(e.pruned, digits) if e.prunes else Num(None)),
        (AFTER_RECOVERY, lambda e: spread(e.final, digits, bold=e.bold)),
        (DELTA, lambda e: spread(e.delta, digits, signed=True, bold=e.bold)),
        (MACS_DROP, lambda e: mean(e.macs_drop, 1)),
        (PARAMS_DROP, lambda e: mean(e.params_drop, 1)),
        (MEMORY_DROP, lambda e: mean(e.peak_memory_drop, 1)),
        (numbers("Speedup"), lambda e: mean(e.speedup, 2)),
        (numbers("Search s"), lambda e: mean(e.search_seconds, 0)),
        (numbers("Total s"), lambda e: mean(e.total_seconds, 0)),
        (words("Rank"), rank_text),
    ]


def about(workload: WorkloadSummary) -> str:
    """The line under a section: of what data, network and training its numbers are."""
    shape = "×".join(str(size) for size in workload.input_shape)
    notes = f", {', '.join(workload.data_notes)}" if workload.data_notes else ""
    weights = f" with the weights of {workload.weights}" if workload.weights else ""
    options = "".join(f", {key} {_plain(value)}" for key, value in workload.options.items() if _is_set(value))
    dense = [f"{workload.macs_dense / 1e6:,.2f} M MACs", f"{workload.params_dense / 1e6:,.3f} M parameters"]
    if workload.peak_memory_dense:
        dense.append(f"{workload.peak_memory_dense / 1e6:,.3f} MB peak memory")
    parts = [
        f"{workload.model}{weights} on {workload.dataset}{notes} ({workload.task}{options})",
        f"metric {metric_title(workload)}",
        f"dense network {', '.join(dense[:-1])} and {dense[-1]}" + (f" at input {shape}" if shape else ""),
    ]
    if workload.protect:
        parts.append(f"protected {', '.join(workload.protect)}")
    parts += [workload.latencies[machine].words for machine in sorted(workload.first_timed)]
    if workload.epochs:
        parts.append("epochs " + ", ".join(f"{key} {value}" for key, value in workload.epochs.items()))
    for name, value in sorted(workload.references.items()):
        parts.append(f"{name} {value:.{workload.digits}f}")
    if idle := workload.idle_seeds:
        seeds = f"seed{'s' * (len(idle) > 1)} {', '.join(map(str, idle))}"
        parts.append(f"the dense network of {seeds} is no better than the majority class")
    return "; ".join(parts) + "."


def _is_set(value: Any) -> bool:
    """Whether an option says anything: 0, "", false and (0, 0) stand for the default."""
    return any(value) if isinstance(value, list | tuple) else bool(value)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):  # each part on its own, such as normalise's mean and deviation
        parts = (f"{k} {', '.join(map(str, v)) if isinstance(v, list | tuple) else v}" for k, v in value.items())
        return f"({'; '.join(parts)})"
    return "×".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _rival_fields(matrix: Matrix, entry: Entry) -> dict[str, Any]:
    """The entry minus the best of the others of its budget."""
    comparison = matrix.against_rival.get(entry.key)
    seeds = comparison.over_seeds if comparison else None
    samples = comparison.over_samples if comparison else None
    return {
        "rival": comparison.other.method if comparison else "",
        "rival_difference_mean": comparison.gap.mean if comparison else None,
        "rival_difference_low": seeds[0] if seeds else None,
        "rival_difference_high": seeds[1] if seeds else None,
        "rival_over_samples_low": samples[0] if samples else None,
        "rival_over_samples_high": samples[1] if samples else None,
    }


def main_fields(entry: Entry, workload: WorkloadSummary) -> dict[str, Any]:
    """Everything of an entry, unrounded: a row of main.csv."""
    row: dict[str, Any] = {
        "workload": entry.workload,
        "task": entry.task,
        "dataset": entry.dataset,
        "model": entry.model,
        "protocol": entry.protocol,
        "budget": entry.budget,
        "budget_kind": entry.budget_kind,
        "method": entry.method,
        "control": entry.control,
        "settings": entry.settings,
        "recovery": entry.recovery,
        "n": entry.n,
        "failed": entry.failed,
        "missing": entry.missing,
        "metric": entry.metric,
        "higher_is_better": entry.higher_is_better,
    }
    for name, sample in (
        ("dense", entry.dense),
        ("pruned", entry.pruned),
        ("final", entry.final),
        ("delta", entry.delta),
    ):
        row |= {f"{name}_mean": sample.mean, f"{name}_std": sample.std}
    latency = workload.latency
    timed_first = {machine.conditions for machine in workload.first_timed}
    first = next(iter(timed_first)) if len(timed_first) == 1 else None
    return row | {
        "final_interval95": entry.final.interval,
        "delta_interval95": entry.delta.interval,
        "macs_dense": workload.macs_dense,
        "macs_pruned_mean": entry.macs.mean,
        "macs_drop_percent": entry.macs_drop.mean,
        "params_drop_percent": entry.params_drop.mean,
        "latency_batch": first.batch if first else None,
        "latency_threads": first.threads or None if first else None,
        "latency_ms_mean": entry.latency.mean,
        "latency_ms_std": entry.latency.std,
        "dense_latency_ms_median": latency.median if latency else None,
        "dense_latency_ms_iqr": latency.iqr if latency else None,
        "speedup_mean": entry.speedup.mean,
        "speedup_std": entry.speedup.std,
        "search_epochs_mean": entry.search_epochs.mean,
        "total_epochs_mean": entry.total_epochs.mean,
        "search_seconds_mean": entry.search_seconds.mean,
        "total_seconds_mean": entry.total_seconds.mean,
        "budget_misses": entry.budget_misses,
        "rank": entry.rank,
        "verdict": entry.verdict,
        "bold": entry.bold,
        "p_holm_against_best": entry.p_best,
        "at_majority_class": entry.ailments[MAJORITY],
        "diverged": entry.ailments[DIVERGED],
        "peak_memory_dense": workload.peak_memory_dense or None,
        "peak_memory_pruned_mean": entry.peak_memory.mean,
        "peak_memory_drop_percent": entry.peak_memory_drop.mean,
    }
