"""A figure with its name and caption, and on how many workloads figures are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bench.report.entry import Entry
from bench.report.figures.style import RC
from bench.report.matrix import Matrix

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_DEEP = 3
"""Workloads of which searches, gates, widths, sensitivity and samples are drawn; of a larger suite, the first alone."""


@dataclass(frozen=True)
class Drawing:
    """A figure, where it goes, what it says, and how it is drawn from what."""

    name: str
    title: str
    caption: str
    draw: Callable[[], Figure]
    entries: Sequence[Entry] = ()
    """All entries that `draw` looks at."""
    further: Any = None
    """What `draw` looks at beside entries, their workloads, and the methods and protocols of the report: plain values,
    as for `fingerprint`."""
    interactive: bool = False
    """Whether the page draws it itself, from its data."""

    @cached_property
    def figure(self) -> Figure:
        """The figure, drawn when it is first asked for."""
        import matplotlib

        with matplotlib.rc_context(RC):
            return self.draw()


@dataclass(frozen=True)
class Written:
    """A figure that is in its folder: the drawing without what takes memory."""

    name: str
    title: str
    caption: str


def numbered(name: str, index: int) -> str:
    """File name of the figure `index` of a kind, counted from 0: `samples`, `samples_2`."""
    return name if index == 0 else f"{name}_{index + 1}"


def max_deep(matrix: Matrix) -> int:
    """Of how many workloads the figures that look into a network are drawn."""
    return MAX_DEEP if len(matrix.groups()) <= MAX_DEEP else 1


def by_workload(matrix: Matrix, usable: Callable[[Entry], bool]) -> Iterator[tuple[int, tuple[str, str], list[Entry]]]:
    """Index, (workload, protocol) and usable entries of the workloads that figures look into."""
    index = 0
    for key, entries in matrix.groups().items():
        found = [entry for entry in entries if usable(entry)]
        if found and index < max_deep(matrix):
            yield index, key, found
            index += 1


def at_smallest_budget(entries: Sequence[Entry]) -> tuple[float, list[Entry]]:
    """The smallest budget, and the entries at it."""
    budget = min(entry.budget for entry in entries)
    return budget, [entry for entry in entries if entry.budget == budget]
