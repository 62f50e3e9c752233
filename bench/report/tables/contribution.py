"""What the search contributed: each method beside itself with one part switched off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.report.comparison import Comparison
from bench.report.contribution import MEANING, Block, with_architectures
from bench.report.entry import Entry
from bench.report.matrix import Matrix
from bench.report.resampling import RESAMPLES
from bench.report.statistics import ALPHA
from bench.report.tables.data import Num, Row, Section, Table, Text, numbers, words
from bench.report.tables.main import AFTER_RECOVERY
from bench.report.tables.shared import (
    BUDGET,
    N,
    Shown,
    budget_value,
    columns_of,
    entry_id,
    interval_text,
    method_text,
    place_fields,
    section_title,
    seeds_value,
    spread,
    values_of,
)
from bench.report.widths import between_entries, between_seeds

WITH_WIDTHS_OF_THEIR_OWN = ("blind", "random-widths")


@dataclass(frozen=True)
class _Line:
    """A row: a method, or one of its controls with the comparison."""

    own: Entry
    entry: Entry
    comparison: Comparison | None = None

    @property
    def over_seeds(self) -> tuple[float, float] | None:
        return self.comparison.over_seeds if self.comparison else None

    @property
    def over_samples(self) -> tuple[float, float] | None:
        return self.comparison.over_samples if self.comparison else None

    @property
    def between_seeds(self) -> float | None:
        """How far found widths differ from seed to seed; None where they are those of another row."""
        role = self.entry.ablation or self.entry.adapter
        return between_seeds(self.entry) if not self.comparison or role in WITH_WIDTHS_OF_THEIR_OWN else None

    @property
    def from_own(self) -> float | None:
        """How far the widths are from the method's own."""
        role = self.entry.ablation or self.entry.adapter
        return between_entries(self.own, self.entry) if self.comparison and role in WITH_WIDTHS_OF_THEIR_OWN else None


def contribution_table(matrix: Matrix) -> Table | None:
    """One section a workload and protocol, a block a method and budget."""
    found = with_architectures(matrix)
    sections: dict[str, list[Block]] = {}
    for block in found:
        sections.setdefault(section_title(block.own.workload, block.own.protocol), []).append(block)
    made = [_section(title, of_title, matrix) for title, of_title in sections.items()]
    raw = [_fields(line) for block in found for line in _lines(block)]
    return Table("contribution", "What the search contributed", _caption(found), made, raw) if made else None


def _caption(found: Sequence[Block]) -> str:
    present = {c.other.ablation or c.other.adapter for block in found for c in block.controls}
    meanings = " ".join(f"*{name}* {text}." for name, text in MEANING.items() if name in present)
    alone = any(block.own.ablation for block in found)
    architecture = (
        " A second block sets the architecture alone, trained from scratch, against *uniform-scratch*." * alone
    )
    return (
        f"Each method, and below it controls without one of its parts. {meanings}{architecture} "
        "Difference: the method minus the control, seed by seed, with the 95 % interval of its mean by Student's t; p "
        "by a paired t-test, and Holm-corrected within the block (**bold** below 0.05). Over test samples: 95 % "
        f"interval of a paired bootstrap ({RESAMPLES:,} resamples of the test set); it holds for these networks, not "
        "for new seeds. Widths vary: mean absolute difference of the kept share of a group between two seeds, in "
        "percent of its channels; from own: the same between the control and the method. Where a blind search is no "
        "farther from the method's own widths than another seed is, the task did not decide them. A row off its budget "
        "has no p."
    )


def _lines(block: Block) -> list[_Line]:
    return [_Line(block.own, block.own), *(_Line(block.own, c.other, c) for c in block.controls)]


def _section(title: str, of_title: Sequence[Block], matrix: Matrix) -> Section:
    digits = matrix.workloads[of_title[0].own.workload].digits
    shown: list[Shown[_Line]] = [
        (BUDGET, lambda line: budget_value(line.own)),
        (words("Method, control"), lambda line: method_text(line.entry)),
        (N, lambda line: seeds_value(line.entry)),
        (AFTER_RECOVERY, lambda line: spread(line.entry.final, digits)),
        (numbers("Difference"), lambda line: _difference(line, digits)),
        (words("95 % over seeds"), lambda line: interval_text(line.over_seeds, digits)),
        (numbers("p"), lambda line: Num(line.comparison.p if line.comparison else None, digits=3)),
        (numbers("p, Holm"), lambda line: Num(line.comparison.p_holm if line.comparison else None, digits=3)),
        (words("95 % over test samples"), lambda line: interval_text(line.over_samples, digits)),
        (numbers("Widths vary"), lambda line: Num(line.between_seeds, digits=1)),
        (numbers("From own"), lambda line: Num(line.from_own, digits=1)),
    ]
    rows = [
        Row(values_of(shown, line), entry_id(line.entry), (block.own.budget, block.own.key))
        for block in of_title
        for line in _lines(block)
    ]
    return Section(title, columns_of(shown), rows, _misses(of_title))


def _misses(of_title: Sequence[Block]) -> list[str]:
    """Entries of which a cell missed its budget, in a sentence each."""
    entries = {id(line.entry): line.entry for block in of_title for line in _lines(block)}.values()
    return [
        f"{e.label} at {e.budget:g} missed its budget in {e.budget_misses} of {len(e.records)} cells."
        for e in entries
        if e.budget_misses
    ]


def _difference(line: _Line, digits: int) -> Num | Text:
    comparison = line.comparison
    if comparison is None:
        return Num(None)
    clear = comparison.p_holm is not None and comparison.p_holm < ALPHA
    return Num(comparison.gap.mean, None, digits, signed=True, bold=clear)


def _fields(line: _Line) -> dict[str, Any]:
    comparison, seeds, samples = line.comparison, line.over_seeds, line.over_samples
    return place_fields(line.own) | {
        "recovery": line.own.recovery,
        "ablation": line.own.ablation,
        "control": "" if comparison is None else line.entry.ablation or line.entry.method,
        "n": line.entry.n,
        "final_mean": line.entry.final.mean,
        "final_std": line.entry.final.std,
        "difference_mean": comparison.gap.mean if comparison else None,
        "difference_n": comparison.gap.n if comparison else None,
        "difference_low": seeds[0] if seeds else None,
        "difference_high": seeds[1] if seeds else None,
        "p": comparison.p if comparison else None,
        "p_holm": comparison.p_holm if comparison else None,
        "over_samples_low": samples[0] if samples else None,
        "over_samples_high": samples[1] if samples else None,
        "widths_between_seeds_percent": line.between_seeds,
        "widths_from_own_percent": line.from_own,
    }
