"""What a job tells whoever started it while it runs: plain data that travels between processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.runs.job import Outcome


@dataclass(frozen=True, kw_only=True)
class Started:
    """A job has begun."""

    id: str
    label: str
    where: str = ""
    """The devices that it runs on and their machine."""


@dataclass(frozen=True, kw_only=True)
class StageReached:
    """A cell has come to its search, its recovery or its test."""

    id: str
    stage: str


@dataclass(frozen=True, kw_only=True)
class StepTaken:
    """Step `step` of `steps` of a phase has been taken; `loss` is the epoch's mean so far."""

    id: str
    phase: str
    step: int
    steps: int
    loss: float


@dataclass(frozen=True, kw_only=True)
class EpochEnded:
    """An epoch has ended; `row` is what was logged of it."""

    id: str
    phase: str
    epoch: int
    row: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Nothing is left to do here before another process has ended this job."""

    id: str
    label: str
    run: str
    """Whose it is."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A job has ended, in whatever way: every job that was submitted has one of these.

    One that another process had, and then died, has a second.
    """

    id: str
    outcome: Outcome


Event = Started | StageReached | StepTaken | EpochEnded | Waiting | Ended
Emit = Callable[[Event], None]
Say = Callable[[str], None]
"""Is told in a few words what is done now, before the first event."""


def ignore(event: Event) -> None:
    """For callers that want no events, and for workers whose events cannot reach the caller."""


def untold(text: str) -> None:
    """For callers that want no words."""
