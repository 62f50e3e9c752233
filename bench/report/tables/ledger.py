"""The compute ledger: what each entry cost, by phase."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from bench.interface.cell import Tuning
from bench.interface.record import Ledger, PhaseCost, Record
from bench.report.entry import Entry, sample_of
from bench.report.matrix import Matrix, by_table
from bench.report.statistics import Sample
from bench.report.tables.data import DASH, Table, Text, numbers, words
from bench.report.tables.shared import (
    BUDGET,
    METHOD,
    N,
    Shown,
    budget_value,
    count,
    entry_section,
    mean,
    method_text,
    place_fields,
    section_title,
)

PHASES = ("dense", "search", "recovery")


def ledger_table(matrix: Matrix) -> Table | None:
    """Epochs, samples, steps, rates and seconds, phase by phase."""
    sections, raw = [], []
    costed = [entry for entry in matrix.entries if entry.total_seconds.n and not entry.searched_on]
    for (name, protocol), entries in by_table(costed).items():
        sections.append(entry_section(section_title(name, protocol), _columns(entries), entries, ruled=True))
        raw += [row for entry in entries for row in _fields(entry)]
    caption = (
        "What a cell cost, mean over seeds, as dense + search + recovery; a phase that a cell does not have is “–”. "
        "Samples are training samples seen, repetitions included, in thousands. In a bi-level search weights and "
        "architecture take their steps on half of the samples each. Peak rate is the largest learning rate of the "
        "weights. The dense network is trained once a seed and shared, and its cost is repeated in each row; a search "
        "that is taken over (l1-channels, scratch) is counted with its method alone. The CSV has a row a phase."
    )
    if any(record.ledger and record.ledger.search_id for entry in costed for record in entry.records):
        caption += " A search is made once for all recoveries of a method; its cost is repeated in the row of each."
    if any(map(tuning_of, costed)):
        caption += " Tuning is what it cost to find a method's settings, once for all of its cells; no sum holds it."
    return Table("ledger", "Compute ledger", caption, sections, raw) if sections else None


def _columns(entries: Sequence[Entry]) -> list[Shown[Entry]]:
    return [
        (BUDGET, budget_value),
        (METHOD, lambda e: method_text(e, _label(e, entries))),
        (N, lambda e: count(e.total_seconds.n)),
        (words("Epochs"), lambda e: _sum_text(e, lambda phase: phase.epochs)),
        (words("Samples, thousands"), lambda e: _sum_text(e, lambda phase: _known(phase.samples, 1e-3), digits=1)),
        (words("Weight steps"), lambda e: _sum_text(e, lambda phase: _known(phase.weight_steps))),
        (numbers("Architecture steps"), lambda e: mean(_architecture_steps(e), 0)),
        (words("Peak rate"), _rates),
        (words("Seconds"), lambda e: _sum_text(e, lambda phase: phase.seconds, digits=1)),
        (words("Device"), lambda e: Text(_devices(e) or DASH)),
        *([(words("Tuning"), _tuning_text)] if any(map(tuning_of, entries)) else []),
    ]


def tuning_of(entry: Entry) -> Tuning | None:
    """What it cost to find the entry's hyper-parameters, where its suite says so."""
    return entry.records[0].config.tuning if entry.records else None


def _tuning_text(entry: Entry) -> Text:
    cost = tuning_of(entry)
    return Text(f"{cost.trials:,} trials, {cost.epochs:,} epochs, {cost.seconds:,.1f} s" if cost else DASH)


def _label(entry: Entry, entries: Sequence[Entry]) -> str:
    several = {e.recovery for e in entries if e.key._replace(recovery="") == entry.key._replace(recovery="")}
    return entry.label + (f", {entry.recovery}" if len(several) > 1 else "")


def phases_of(record: Record) -> list[PhaseCost]:
    """The phases of a record; one of protocol 1 knows their epochs and seconds alone, and has 0 for all counts."""
    ledger = record.ledger
    if ledger is None or ledger.phases:
        return ledger.phases if ledger else []
    return [
        PhaseCost(
            name=name, epochs=epochs, samples=0, weight_steps=0, architecture_steps=0, peak_lr=0.0, seconds=seconds
        )
        for name, epochs, seconds in _totals(ledger)
        if epochs
    ]


def _totals(ledger: Ledger) -> list[tuple[str, int, float]]:
    return [
        ("dense", ledger.dense_epochs, ledger.dense_seconds),
        ("search", ledger.search_epochs, ledger.search_seconds),
        ("recovery", ledger.recovery_epochs, ledger.recovery_seconds),
    ]


def _by_name(entry: Entry) -> dict[str, list[PhaseCost]]:
    """The phases of all seeds, by name."""
    found: dict[str, list[PhaseCost]] = {}
    for record in entry.records:
        for phase in phases_of(record):
            found.setdefault(phase.name, []).append(phase)
    return found


def _known(number: float, scale: float = 1.0) -> float | None:
    """A count, or None where nothing was counted."""
    return scale * number if number else None


def _sum_text(entry: Entry, value: Callable[[PhaseCost], float | None], *, digits: int = 0) -> Text:
    """`12 + 6 + 8 = 26`, means over seeds; a phase without the figure is a dash, and one figure alone has no sum."""
    phases = _by_name(entry)
    means = [sample_of(map(value, phases.get(name, []))).mean for name in PHASES]
    known = [mean for mean in means if mean is not None]
    if not known:
        return Text(DASH)
    parts = [DASH if mean is None else f"{mean:,.{digits}f}" for mean in means]
    return Text(" + ".join(parts) + f" = {math.fsum(known):,.{digits}f}")


def _architecture_steps(entry: Entry) -> Sample:
    """Of the search, where one was counted."""
    return sample_of(_known(phase.architecture_steps) for phase in _by_name(entry).get("search", []))


def _rates(entry: Entry) -> Text:
    phases = _by_name(entry)
    rates = [sorted({phase.peak_lr for phase in phases.get(name, []) if phase.peak_lr}) for name in PHASES]
    if not any(rates):
        return Text(DASH)
    return Text(", ".join(" or ".join(f"{rate:g}" for rate in of_phase) or DASH for of_phase in rates))


def _fields(entry: Entry) -> list[dict[str, Any]]:
    """A row a phase."""
    phases = _by_name(entry)
    return [
        place_fields(entry)
        | {
            "ablation": entry.ablation,
            "recovery": entry.recovery,
            "phase": name,
            "n": len(phases[name]),
            "epochs_mean": sample_of(float(phase.epochs) for phase in phases[name]).mean,
            "samples_mean": sample_of(_known(phase.samples) for phase in phases[name]).mean,
            "weight_steps_mean": sample_of(_known(phase.weight_steps) for phase in phases[name]).mean,
            "architecture_steps_mean": sample_of(float(phase.architecture_steps) for phase in phases[name]).mean,
            "peak_lr": ", ".join(f"{lr:g}" for lr in sorted({phase.peak_lr for phase in phases[name]}) if lr),
            "seconds_mean": sample_of(phase.seconds for phase in phases[name]).mean,
            "device": _devices(entry),
        }
        for name in PHASES
        if name in phases
    ] + _tuning_fields(entry)


def _tuning_fields(entry: Entry) -> list[dict[str, Any]]:
    """A row for what tuning cost, where it is known."""
    cost = tuning_of(entry)
    if cost is None:
        return []
    place = place_fields(entry) | {"ablation": entry.ablation, "recovery": entry.recovery, "phase": "tuning"}
    return [place | {"n": cost.trials, "epochs_mean": float(cost.epochs), "seconds_mean": cost.seconds}]


def _devices(entry: Entry) -> str:
    return ", ".join(sorted({record.ledger.device for record in entry.records if record.ledger}))
