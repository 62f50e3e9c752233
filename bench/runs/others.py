"""Several invocations on one store: what one of them has, the others leave to it, wait for, or take over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from bench.runs.events import Emit, Waiting
from bench.runs.job import Job, Outcome
from bench.tracking.liveness import Watch, is_gone, why_dead

if TYPE_CHECKING:
    from bench.tracking.mlflow_store import Tracker
    from bench.tracking.states import RunState

Run = Callable[[Sequence[Job]], Iterable[Outcome]]

PAUSE = 2.0
"""Seconds between two looks at what others are doing."""
MANY = 8
"""With more jobs of others than this, one question for all runs costs less than one for each."""


def run_beside_others(
    stages: Sequence[Sequence[Job]],
    run: Run,
    tracker: Tracker,
    emit: Emit,
    *,
    wait: bool = False,
    time_is_up: Callable[[], bool] = lambda: False,
) -> list[Outcome]:
    """Run jobs stage by stage, each once among all invocations; how each ended, in their order.

    A job waits for the dense network, or the cell, that it takes up where a live process is working on that. What a
    process that dies has left is run here.

    Args:
        run: runs some jobs and gives how each ended; nothing of one that needs what turned out to be elsewhere.
        emit: is told what is waited for.
        wait: whether to wait for what others have and nothing here needs, too; else its outcome is `elsewhere`.
        time_is_up: whether nothing can be started any more, so that there is nothing to wait for.
    """
    matrix = _Matrix([job for stage in stages for job in stage], tracker)
    for stage in stages:
        matrix.run_free(stage, run)
    said: set[str] = set()
    looks = 0
    while matrix.elsewhere:
        changed, left = matrix.look()
        if changed:
            matrix.run_free(left, run)
            matrix.run_free(list(matrix.held.values()), run)
            continue
        awaited = set(matrix.elsewhere) if wait else matrix.needed & set(matrix.elsewhere) | matrix.doubtful
        looks += 1
        # A process whose invocation was killed just now is gone at the second look.
        if time_is_up() or (not awaited and looks > 1):
            break
        for identity in sorted(awaited - said):
            emit(Waiting(id=identity, label=matrix.label(identity), run=matrix.elsewhere[identity]))
        said |= awaited
        time.sleep(PAUSE)
    return matrix.outcomes


class _Matrix:
    """How far the jobs of an invocation are."""

    def __init__(self, jobs: Sequence[Job], tracker: Tracker) -> None:
        self.elsewhere: dict[str, str] = {}
        """What others have of the jobs, and of the cells that jobs take up: by id, whose it is."""
        self.held: dict[str, Job] = {}
        """Jobs that wait for some of that."""
        self.doubtful: set[str] = set()
        """What others have that seem dead at one look, and will be known to be dead or alive before long."""
        self._watch = Watch()
        self._jobs: Mapping[str, Job] = {job.id: job for job in jobs}
        self._ended: dict[str, Outcome] = {}
        self._asked: set[str] = set()
        self._tracker = tracker

    @property
    def outcomes(self) -> list[Outcome]:
        return [self._ended[identity] for identity in self._jobs if identity in self._ended]

    @property
    def needed(self) -> set[str]:
        """What the held jobs wait for, themselves included."""
        return {need for job in self.held.values() for need in job.needs}

    def label(self, identity: str) -> str:
        return self._jobs[identity].label if identity in self._jobs else f"cell {identity}"

    def run_free(self, jobs: Sequence[Job], run: Run) -> None:
        """Run those of the jobs that need nothing that others have; hold the rest."""
        free: list[Job] = []
        for job in jobs:
            if any(need in self.held or self._is_elsewhere(need) for need in job.needs):
                self.held[job.id] = job
            else:
                self.held.pop(job.id, None)
                free.append(job)
        told: set[str] = set()
        for outcome in run(free):
            told.add(outcome.id)
            self._ended[outcome.id] = outcome
            if outcome.status == "elsewhere":
                self.elsewhere[outcome.id] = outcome.error
        # What was not run waits for something that turned out to be elsewhere.
        self.held |= {job.id: job for job in free if job.id not in told}

    def look(self) -> tuple[bool, list[Job]]:
        """Whether something that others had has ended; and the jobs that are left to us, since their process died."""
        changed, left = False, list[Job]()
        self.doubtful.clear()
        for identity, state in self._states().items():
            job = self._jobs.get(identity)
            if state is not None and state.status == "running":
                if not self._watch.has_lapsed(state):
                    if self._watch.is_doubtful(state):
                        self.doubtful.add(identity)
                    continue
                if not self._tracker.take_over(state, why_dead(state)):
                    continue  # it has ended after all: the next look says how
            del self.elsewhere[identity]
            changed = True
            if job is None:
                continue
            if state is not None and state.status == "finished":
                self._ended[identity] = Outcome.of(job, "finished", summary="run by another process")
            elif state is not None and state.status == "failed":
                self._ended[identity] = Outcome.of(job, "failed", error=f"failed in run {state.run_id}, elsewhere")
            else:
                left.append(job)
        return changed, left

    def _states(self) -> dict[str, RunState | None]:
        """What the store says of what others have: asked for one by one, or with all others where there are many."""
        if len(self.elsewhere) > MANY:
            best = self._tracker.best()
            return {identity: best.get(identity) for identity in self.elsewhere}
        return {identity: self._tracker.find(identity) for identity in self.elsewhere}

    def _is_elsewhere(self, identity: str) -> bool:
        """Whether another process has it; one that is none of our jobs is asked for once."""
        if identity not in self._jobs and identity not in self._asked:
            self._asked.add(identity)
            state = self._tracker.find(identity)
            if state is not None and state.status == "running" and not is_gone(state):
                self.elsewhere[identity] = f"run {state.run_id}"
        return identity in self.elsewhere
