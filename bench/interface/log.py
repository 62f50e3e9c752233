"""The log of a cell's training: one object that the search, the loop, checkpoints and the record share.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class TrainingLog:
    """What was logged so far. Rows and snapshots are appended; a resumed run restores those of its checkpoint."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """One an epoch, with "phase", "epoch" and whatever was measured."""
    snapshots: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Arrays to draw over time, by name."""
    notes: list[str] = field(default_factory=list)
    """What a reader of the result should know."""

    def note(self, text: str) -> None:
        """Add a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def add_epoch(self, row: dict[str, Any]) -> None:
        """Add the figures of one epoch; `row` has "phase" and "epoch"."""
        self.rows.append(row)

    def add_snapshot(self, name: str, row: dict[str, Any]) -> None:
        """Add one row to the snapshot `name`."""
        self.snapshots.setdefault(name, []).append(row)

    def epochs(self, phase: str) -> list[dict[str, Any]]:
        """The rows of one phase."""
        return [row for row in self.rows if row["phase"] == phase]

    def seconds(self, phase: str) -> float:
        """Seconds of training in `phase`, runs that were interrupted included."""
        return sum(row["seconds"] for row in self.epochs(phase))

    def total(self, phase: str, name: str) -> int:
        """The sum of a count over the epochs of `phase`: "samples", "weight_steps" or "architecture_steps"."""
        return sum(row.get(name, 0) for row in self.epochs(phase))

    def state(self) -> dict[str, Any]:
        """A copy as plain values, for a checkpoint."""
        snapshots = {name: list(rows) for name, rows in self.snapshots.items()}
        return {"rows": list(self.rows), "snapshots": snapshots, "notes": list(self.notes)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the place of whatever was logged before; the inverse of `state`. Notes made before stay."""
        self.rows = list(state["rows"])
        self.snapshots = {name: list(rows) for name, rows in state["snapshots"].items()}
        self.notes = [*state["notes"], *(note for note in self.notes if note not in state["notes"])]


class Observer:
    """Is told of progress while a network is trained. This one does nothing; subclasses report."""

    def epoch(self, phase: str, epoch: int, row: Mapping[str, Any]) -> None:
        """An epoch has ended; `row` is what was logged of it."""

    def step(self, phase: str, step: int, steps: int, loss: float) -> None:
        """Step `step` of `steps` has been taken; `loss` is the epoch's mean so far."""
