"""What a search contributed: a method against itself without one of its parts, and against what was not searched.

A block is a method on a workload at a budget. Its p-values are corrected together (Holm).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from bench.interface.cell import ABLATIONS
from bench.report.comparison import Comparison, compare
from bench.report.entry import Entry, EntryKey
from bench.report.matrix import Matrix, by_table

REFERENCES = ("random-widths", "uniform-scratch")
"""Adapters of controls that stand below the ablations."""
MEANING = {
    "blind": "is the same search without the task's gradient in the architecture: the cost alone decides the widths",
    "l1-channels": (
        "keeps the widths that the method found, and switches off its choice of channels and its training of weights: "
        "the channels of the largest L1 norms stay, with the dense network's weights, which are trained for the epochs "
        "of the search and of the recovery in one schedule"
    ),
    "scratch": (
        "keeps the architecture that the method found, and switches off the inherited weights: it is trained from "
        "fresh ones for all epochs of the workload"
    ),
    "random-widths": "switches off the search: widths are drawn at random and fitted to the budget, channels by L1",
    "uniform-scratch": (
        "switches off search and inherited weights: every layer is thinner by one factor and trained from fresh weights"
    ),
}
"""What each control switches off, as the rest of a sentence."""


@dataclass(frozen=True)
class Block:
    """A method, or the architecture that it found, and its own result minus that of each control."""

    own: Entry
    controls: list[Comparison]

    def against(self, name: str) -> Comparison | None:
        """The comparison with an ablation, or with a control by its adapter's name."""
        return next((c for c in self.controls if name in (c.other.ablation or c.other.adapter,)), None)


def blocks(matrix: Matrix) -> list[Block]:
    """A block for each method that is taken apart, or searches and stands beside `random-widths`."""
    apart: dict[EntryKey, list[Entry]] = defaultdict(list)
    own_keys = {entry.key for entry in matrix.main if not entry.control}
    for entry in matrix.entries:
        if entry.ablation:
            apart[_own_key(matrix, entry, own_keys)].append(entry)
    main = {id(entry) for entry in matrix.main}
    found = []
    for entries in by_table(matrix.entries).values():
        for own in entries:
            if own.ablation or own.control or own.searched_on or not own.n:
                continue
            ablations = sorted(apart[own.key], key=lambda e: [*ABLATIONS].index(e.ablation))  # type: ignore[arg-type]
            references = _references(matrix, own)
            searched = id(own) in main and own.search_epochs.mean
            if ablations or (searched and any(e.adapter == "random-widths" for e in references)):
                pairs = [(own, other) for other in (*ablations, *references)]
                found.append(Block(own, compare(pairs, matrix.bootstrap)))
    return found


def with_architectures(matrix: Matrix) -> list[Block]:
    """The blocks, each followed by one that asks for the architecture alone, where both of its rows are there.

    It sets what the method found, from fresh weights, against the uniformly thinner network: both are trained from
    scratch for all epochs of the workload, and differ in nothing but their widths and blocks.
    """
    found: list[Block] = []
    for block in blocks(matrix):
        found.append(block)
        scratch, uniform = block.against("scratch"), block.against("uniform-scratch")
        if scratch is not None and uniform is not None:
            found.append(Block(scratch.other, compare([(scratch.other, uniform.other)], matrix.bootstrap)))
    return found


def _own_key(matrix: Matrix, entry: Entry, own_keys: set[EntryKey]) -> EntryKey:
    """The key of the entry that an ablation takes apart: that of its source, or the same but for the ablation."""
    for record in entry.records:
        source = matrix.configs[record.cell_id].source
        if source in matrix.keys:
            return matrix.keys[source]
    same = entry.key._replace(ablation="")
    if entry.ablation != "scratch":
        return same
    # The source is in none of the records: the method's entry in the main comparison stands for it.
    return next((key for key in own_keys if key._replace(recovery=same.recovery) == same), same)


def _references(matrix: Matrix, own: Entry) -> Sequence[Entry]:
    here = [e for e in matrix.main if (e.workload, e.protocol, e.budget) == (own.workload, own.protocol, own.budget)]
    return sorted((e for e in here if e.adapter in REFERENCES), key=lambda e: (REFERENCES.index(e.adapter), e.method))
