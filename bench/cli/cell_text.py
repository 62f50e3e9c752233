"""A cell's record in words, for `prunebench show`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bench.interface.cell import BUDGET_WORDS, Cell
from bench.interface.record import Audit, Ledger, Record
from bench.interface.settings import changed_options, changed_recipe, changed_settings, settings_text
from bench.report.health import sentence
from bench.report.latency import DenseLatency, Machine, timings
from bench.tracking.address import redacted
from bench.tracking.states import RunState


def cell_text(record: Record, *, suite: str, uri: str, latencies: Mapping[Machine, DenseLatency] = {}) -> str:
    """All that a reader wants to know of a cell, line by line.

    Args:
        suite: the MLflow experiment.
        uri: the tracking store.
        latencies: the dense network's, over all cells of the workload.
    """
    cell = record.config
    lines = [
        f"cell       {record.cell_id}  {cell.label}",
        f"status     {record.status}",
        f"MLflow     run {record.run_id} in experiment {suite!r} of {redacted(uri)}",
        f"dense      {cell.dense_id}",
    ]
    if record.ledger and record.ledger.search_id:
        lines.append(f"search     {record.ledger.search_id}, shared with all cells that start from it")
    if record.status == "finished" and record.audit and record.ledger:
        lines += _figures(record, record.audit, record.ledger, latencies)
    flag = sentence(record)
    lines += [f"flag       {flag}"] * bool(flag)
    lines += [f"note       {note}" for note in record.notes]
    lines += settings_lines(cell)
    lines.append("environment " + ", ".join(f"{k} {v}" for k, v in record.environment.items()))
    if record.error:
        lines += [f"error      {record.error}", record.traceback]
    return "\n".join(lines)


def settings_lines(cell: Cell) -> list[str]:
    """What a cell was made with, as far as it is not at its defaults, and how to see the rest."""
    w, protect = cell.workload, cell.workload.protect or ()
    options = changed_options(w) | ({"protect": list(protect)} if protect else {})
    options |= {"weights": w.weights.path} if w.weights else {}
    base = f" (of {cell.base})" if cell.base else ""
    held = [f"recovery {cell.recovery}", f"protocol {cell.protocol}"] + [f"equal {cell.match}"] * (cell.plan is None)
    held += [f"widths in steps of {cell.round_to}"] * (cell.round_to > 1)
    lines = [
        f"workload   {w.task} of {w.dataset} by {w.model}: {settings_text(options) or 'options at their defaults'}",
        f"method     {cell.title}{base}: "
        + (settings_text(changed_settings(cell.adapter, cell.hyper)) or "fields at their defaults"),
        f"held       {', '.join(held)}",
    ]
    if cell.plan:
        lines.append(f"recipes    the method's own, their epochs times {cell.plan.scale:g}")
    for place in ("train", *["finetune"] * (cell.recovery == "finetune")) if cell.plan is None else ():
        lines.append(f"{place:<10} {settings_text(changed_recipe(w, place)) or 'the defaults of the task'}")
    return [*lines, f"settings   all of them: prunebench show {cell.id} --config"]


def config_text(record: Record) -> str:
    """The whole configuration of a cell, as JSON."""
    return json.dumps(record.config.identity(), indent=2)


def stage_text(facts: Mapping[str, Any], state: RunState, *, suite: str, uri: str) -> str:
    """What a reader wants to know of a dense network or a search, line by line.

    Args:
        facts: what its run recorded.
        suite: the MLflow experiment.
        uri: the tracking store.
    """
    lines = [
        f"{state.kind:<10} {state.cell_id}  {facts.get('label') or state.tags.get('mlflow.runName', '')}".rstrip(),
        f"status     {state.status}",
        f"MLflow     run {state.run_id} in experiment {suite!r} of {redacted(uri)}",
    ]
    lines += [f"{name:<10} {value:.4g} on the test split" for name, value in facts.get("metrics", {}).items()]
    if state.kind == "search" and facts.get("summary"):
        lines.append(f"found      {facts['summary']}")
    rows = facts.get("trajectory", [])
    if rows:
        figures = ", ".join(f"{k} {v:.4g}" for k, v in rows[-1].items() if isinstance(v, float))
        lines.append(f"epochs     {len(rows)}; the last: {figures}")
    if facts.get("data_fingerprint"):
        lines.append(f"data       fingerprint {facts['data_fingerprint']}")
    lines += [f"note       {note}" for note in facts.get("notes", [])]
    if facts.get("error"):
        lines += [f"error      {facts['error']}", facts.get("traceback", "")]
    return "\n".join(lines).rstrip()


def _figures(record: Record, audit: Audit, ledger: Ledger, latencies: Mapping[Machine, DenseLatency]) -> list[str]:
    """What was measured of a cell that finished."""
    name, unit = record.metric_name, record.metric_unit
    pruned = record.pruned_metrics.get(name)
    before = f"after pruning {pruned:.2f}{unit}, " if pruned is not None else ""
    lines = [
        f"{name:<10} dense {record.dense_metrics[name]:.2f}{unit}, {before}after recovery "
        f"{record.final_metrics[name]:.2f}{unit}",
        f"budget     requested {audit.requested:g} ± {audit.tolerance:g} of the {BUDGET_WORDS[audit.kind]}, "
        f"method's own {audit.native_ratio:.4f}, {audit.fitted_channels} channels fitted, measured {audit.ratio:.4f}"
        f"{'' if audit.within else ' (MISSED: ' + audit.note + ')'}",
        f"MACs       {record.macs_dense:,} -> {record.macs_pruned:,} at {'×'.join(map(str, record.input_shape))}",
        f"parameters {record.params_dense:,} -> {record.params_pruned:,}",
        f"epochs     {ledger.dense_epochs} dense + {ledger.search_epochs} search + {ledger.recovery_epochs} recovery",
        f"seconds    {ledger.search_seconds:.1f} search, {ledger.recovery_seconds:.1f} recovery on {ledger.device}",
    ]
    lines += [
        f"{phase.name:<10} {phase.epochs} epochs, {phase.samples:,} samples, {phase.weight_steps:,} weight steps, "
        f"{phase.architecture_steps:,} architecture steps, peak rate {phase.peak_lr:g}"
        for phase in ledger.phases
    ]
    lines += [
        f"latency    {dense.median_ms:.2f} -> {pruned.median_ms:.2f} ms ({pruned.conditions}, {pruned.device})"
        for dense, pruned in ((pair.dense, pair.pruned) for pair in record.latencies)
    ]
    known = dict.fromkeys(machine for machine, _ in timings(record) if machine in latencies)
    lines += [f"{'':<10} {latencies[machine].words}" for machine in known]
    lines.append("widths     " + ", ".join(f"{g.name} {g.width}/{g.size}" for g in record.groups))
    if record.dropped_blocks:
        lines.append(f"removed    {', '.join(record.dropped_blocks)}")
    return lines + [f"left whole {name} or part of it: {why}" for name, why in record.left_whole.items()]
