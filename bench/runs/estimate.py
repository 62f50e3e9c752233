"""How long jobs take, from what jobs that are recorded took. Imports no torch.

A cell's time is that of its recovery, epoch by epoch, and a rest for data, evaluation, latency and records; those of a
search and of a dense network likewise. Where nothing of the same kind is recorded, something near it stands in, and the
estimate says so. Before anything is recorded there are no seconds, only epochs.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean, median

from bench.interface.cell import Cell, Workload
from bench.interface.stages import search_id
from bench.runs.job import Job
from bench.tracking.states import RunState

SEARCH_EPOCH = 2.0
"""Epochs of dense training that an epoch of a search is taken for, where none of the workload is recorded: a bi-level
search takes a step of the weights and one of the architecture for each batch."""


@dataclass(frozen=True)
class Estimate:
    """How long a job takes."""

    seconds: float | None
    """None where nothing is recorded from which that could be told."""
    guesses: tuple[str, ...] = ()
    """What of it is guessed, and from what."""


@dataclass
class _Times:
    """Seconds by what they are of."""

    seen: dict[Hashable, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, seconds: float, *keys: Hashable) -> None:
        if math.isfinite(seconds) and seconds >= 0:
            for key in keys:
                self.seen[key].append(seconds)

    def of(self, key: Hashable) -> float | None:
        found = self.seen.get(key)
        return median(found) if found else None


class Estimator:
    """Estimates the jobs of a suite.

    Args:
        cells: of the suite: those that are recorded are learnt from.
        states: what the tracking store knows, by id of a cell or dense network.
    """

    def __init__(self, cells: Iterable[Cell], states: Mapping[str, RunState]) -> None:
        self.learnt = 0
        """How many recorded jobs the estimates come from."""
        self._epochs, self._rests = _Times(), _Times()
        self._known: dict[Hashable, Estimate] = {}
        finished = {identity: state for identity, state in states.items() if state.status == "finished"}
        searched: set[str | None] = set()
        for cell in cells:
            if (state := finished.pop(cell.dense_id, None)) is not None:
                self._learn(Job.of_dense(cell), state)
            identity = search_id(cell)
            if identity and (state := finished.pop(identity, None)) is not None:
                searched.add(identity)
                self._learn(Job.of_search(cell), state)
            if (state := finished.pop(cell.id, None)) is not None:
                self._learn(Job.of_cell(cell), state, shared=identity in searched)

    def of(self, job: Job) -> Estimate:
        """How long this job takes, alone on the threads that the recorded ones had."""
        key = _kind(job)
        if key not in self._known:
            self._known[key] = self._of_cell(job, job.subject) if job.subject else self._of_dense(job.workload)
        return self._known[key]

    def weight(self, job: Job) -> float:
        """What jobs are ordered by: seconds, or epochs of dense training before anything is recorded."""
        seconds = self.of(job).seconds
        return _dense_epochs(job) if seconds is None else seconds

    def observe(self, job: Job, seconds: float) -> None:
        """Learn from a job that has just ended what the store did not tell of its kind."""
        if self.of(job).seconds is not None and not self.of(job).guesses:
            return
        w = _place(job.workload)
        units, phases, cell = _dense_epochs(job), _phases(job), job.subject
        if units and cell is None:
            self._epochs.add(seconds / units, ("dense", w), "dense")
        elif units and cell:
            each = seconds / units
            if phases["recovery"]:
                self._epochs.add(each, *_recovery_keys(cell), "recovery")
            if phases["search"]:
                self._epochs.add(SEARCH_EPOCH * each, *_search_keys(cell), "search")
        self._rests.add(0.0, (job.kind, w), job.kind)
        self.learnt += 1
        self._known.clear()

    def _learn(self, job: Job, state: RunState, *, shared: bool = False) -> None:
        """Learn from what a job took.

        Args:
            shared: whether the search of a cell was a job of its own; cells of earlier releases searched themselves.
        """
        took, cell, w = state.seconds, job.subject, _place(job.workload)
        whole = (state.ended - state.started) / 1000 if state.ended else 0.0
        trained = 0.0
        if cell is None:
            if "dense_epoch" in took and job.epochs:
                self._epochs.add(took["dense_epoch"], ("dense", w), "dense")
                trained = took["dense_epoch"] * job.epochs
        else:
            dense = job.workload.epochs.dense
            if cell.needs_dense and dense and took.get("dense"):
                self._epochs.add(took["dense"] / dense, ("dense", w), "dense")
            if cell.search_epochs and "search" in took:
                self._epochs.add(took["search"] / cell.search_epochs, *_search_keys(cell), "search")
            if cell.recovery_epochs and "recovery" in took:
                self._epochs.add(took["recovery"] / cell.recovery_epochs, *_recovery_keys(cell), "recovery")
            trained = (0.0 if shared else took.get("search", 0.0)) + took.get("recovery", 0.0)
        if whole:  # a job that was resumed may have trained longer than its last run lasted
            self._rests.add(max(0.0, whole - trained), (job.kind, w), job.kind)
        self.learnt += 1

    def _of_dense(self, workload: Workload) -> Estimate:
        epoch, guesses = self._dense_epoch(workload)
        return self._with_rest("dense", workload, epoch, workload.epochs.dense, guesses)

    def _of_cell(self, job: Job, cell: Cell) -> Estimate:
        """Of a cell, or of its search."""
        guesses: list[str] = []
        seconds: float | None = 0.0
        phases = _phases(job)
        for epochs, find in ((phases["search"], self._search_epoch), (phases["recovery"], self._recovery_epoch)):
            epoch, said = find(cell) if epochs else (0.0, [])
            guesses += said
            seconds = None if epoch is None or seconds is None else seconds + epoch * epochs
        return self._with_rest(job.kind, cell.workload, seconds, 1, guesses)

    def _with_rest(self, kind: str, workload: Workload, each: float | None, times: int, guesses: list[str]) -> Estimate:
        if each is None:
            return Estimate(None)
        rest = self._rests.of((kind, _place(workload)))
        if rest is None:
            rest = self._rests.of(kind)
            words = f"set-up and test of a {kind} on {workload.name}: "
            words += "left out" if rest is None else "as on other workloads"
            guesses = [*guesses, words]
        return Estimate(each * times + (rest or 0.0), tuple(dict.fromkeys(guesses)))

    def _dense_epoch(self, workload: Workload) -> tuple[float | None, list[str]]:
        w = _place(workload)
        if (own := self._epochs.of(("dense", w))) is not None:
            return own, []
        if (own := self._epochs.of(("recovery", w))) is not None:
            return own, [f"dense epochs of {workload.name}: as its epochs of recovery"]
        words = f"dense epochs of {workload.name}: the mean of other workloads"
        found = [
            median(times) for key, times in self._epochs.seen.items() if isinstance(key, tuple) and key[0] == "dense"
        ]
        found = found or self._epochs.seen.get("recovery", [])
        return (fmean(found), [words]) if found else (None, [])

    def _search_epoch(self, cell: Cell) -> tuple[float | None, list[str]]:
        own, of_method, of_workload = (self._epochs.of(key) for key in _search_keys(cell))
        if own is not None or of_method is not None:
            return (own if own is not None else of_method), []
        what = f"searches of {cell.adapter} on {cell.workload.name}"
        if of_workload is not None:
            return of_workload, [f"{what}: as those of other methods there"]
        epoch, guesses = self._dense_epoch(cell.workload)
        return (None, []) if epoch is None else (SEARCH_EPOCH * epoch, [*guesses, f"{what}: 2 dense epochs each"])

    def _recovery_epoch(self, cell: Cell) -> tuple[float | None, list[str]]:
        for key in _recovery_keys(cell)[:2]:
            if (own := self._epochs.of(key)) is not None:
                return own, []
        what = f"{cell.recovery} at {cell.budget:g} on {cell.workload.name}"
        if (own := self._epochs.of(("recovery", _place(cell.workload)))) is not None:
            return own, [f"{what}: as recoveries of other budgets and kinds there"]
        epoch, guesses = self._dense_epoch(cell.workload)
        return (None, []) if epoch is None else (epoch, [*guesses, f"{what}: as dense epochs"])


def _dense_epochs(job: Job) -> float:
    """A job's epochs, in epochs of dense training."""
    return job.epochs + (SEARCH_EPOCH - 1) * _phases(job)["search"]


def _place(workload: Workload) -> Hashable:
    """What an epoch's time depends on of a workload."""
    return workload.name, workload.task, workload.dataset, workload.model


def _search_keys(cell: Cell) -> tuple[Hashable, Hashable, Hashable]:
    """From the narrowest kind of search that a cell's belongs to, to the widest."""
    w = _place(cell.workload)
    return ("search", w, cell.method, cell.ablation), ("search", w, cell.adapter), ("search", w)


def _recovery_keys(cell: Cell) -> tuple[Hashable, Hashable, Hashable]:
    """From the narrowest kind of recovery that a cell's belongs to, to the widest."""
    w = _place(cell.workload)
    return (
        ("recovery", w, cell.recovery, cell.budget, cell.adapter),
        ("recovery", w, cell.recovery, cell.budget),
        ("recovery", w),
    )


def _phases(job: Job) -> dict[str, int]:
    """Epochs that this job trains for in a search and in recovery."""
    if job.cell is not None:
        return {"search": 0, "recovery": job.epochs}
    return {"search": job.epochs if job.search else 0, "recovery": 0}


def _kind(job: Job) -> Hashable:
    """Jobs of one kind have one estimate: seeds do not matter."""
    cell = job.subject
    if cell is None:
        return _place(job.workload), job.workload.epochs.dense
    where = (job.kind, _place(cell.workload), cell.method, cell.adapter, cell.ablation, cell.transfer is not None)
    return *where, cell.budget, cell.recovery, cell.search_epochs, cell.recovery_epochs
