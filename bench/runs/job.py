"""What is to be run, with which settings, and how it ended: plain data. Imports no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench.errors import RequestError
from bench.interface.cell import Cell, Workload, dense_id
from bench.interface.devices import require_device_name
from bench.interface.loading import require_workers
from bench.interface.stages import search_id, searched_cell
from bench.runs.resources import Resources

Kind = Literal["cell", "dense", "search"]
Status = Literal["finished", "failed", "elsewhere", "unstarted"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all jobs of an invocation share and what changes no result.

    Raises:
        RequestError: `checkpoint_every` is negative or no number, or `device` or `workers` are not allowed.
    """

    suite: str
    tracking_uri: str
    parent_run: str | None = None
    """MLflow run of the invocation."""
    data_root: Path | None = None
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps`."""
    resources: Resources = field(default_factory=Resources)
    """What each cell is computed on."""
    work: Path = field(default_factory=lambda: Path(os.environ.get("PRUNEBENCH_WORK", ".prunebench")))
    """Folder for the checkpoints of unfinished jobs."""
    download: bool = False
    """Whether missing data sets may be fetched."""
    threads: int = 0
    """Threads of a worker; 0 leaves torch's default."""
    workers: int | None = None
    """Processes that read streamed data for each job; None: as many as it has threads, eight at most."""
    max_retries: int = 3
    """How often a job is run again whose worker was lost."""
    checkpoint_every: float = 10.0
    """Minutes between two uploads of an unfinished job's checkpoint to the tracking store; 0: after each epoch."""

    def __post_init__(self) -> None:
        require_device_name(self.device)
        require_workers(self.workers)
        if not self.checkpoint_every >= 0:
            raise RequestError(f"checkpoint_every = {self.checkpoint_every} is not allowed; use 0 or more minutes")


@dataclass(frozen=True)
class Job:
    """A cell to run, the search of one, or where neither is named the dense network of a workload and seed to train."""

    workload: Workload
    seed: int
    cell: Cell | None = None
    search: Cell | None = None
    """The cell whose search is made: any of those that share it."""
    anew: bool = False
    """Whether a result of another suite is left aside, since a new one was asked for."""

    @classmethod
    def of_cell(cls, cell: Cell, *, anew: bool = False) -> Job:
        """The job that runs this cell."""
        return cls(cell.workload, cell.seed, cell, anew=anew)

    @classmethod
    def of_dense(cls, cell: Cell) -> Job:
        """The job that trains the dense network that this cell starts from."""
        return cls(cell.workload, cell.seed)

    @classmethod
    def of_search(cls, cell: Cell, *, anew: bool = False) -> Job:
        """The job that makes the search that this cell, which has one, starts from."""
        return cls(cell.workload, cell.seed, search=searched_cell(cell), anew=anew)

    @property
    def subject(self) -> Cell | None:
        """The cell that is run or whose search is made."""
        return self.cell or self.search

    @property
    def id(self) -> str:
        if self.cell is not None:
            return self.cell.id
        if self.search is not None:
            return str(search_id(self.search))
        return dense_id(self.workload, self.seed)

    @property
    def kind(self) -> Kind:
        return "cell" if self.cell else "search" if self.search else "dense"

    @property
    def label(self) -> str:
        if self.search is not None:
            return f"{self.search.label} search"
        return self.cell.label if self.cell else f"{self.workload.name} dense seed {self.seed}"

    @property
    def needs(self) -> frozenset[str]:
        """What must be recorded before this job can run: ids of its dense network, its search, and what it takes up."""
        if self.subject is None:
            return frozenset()
        if self.cell is None:
            return frozenset({self.subject.dense_id})
        found = {self.cell.dense_id, search_id(self.cell) or self.cell.source, self.cell.transfer}
        return frozenset(identity for identity in found if identity is not None)

    @property
    def epochs(self) -> int:
        """Epochs that this job trains for."""
        if self.cell is not None:
            return self.cell.recovery_epochs
        return self.search.search_epochs if self.search else self.workload.epochs.dense


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended."""

    id: str
    label: str
    kind: Kind
    status: Status
    """`elsewhere`: another process was running the job already, and this one left it alone. `unstarted`: the time limit
    would have come before its end."""
    error: str = ""
    seconds: float = 0.0
    summary: str = ""
    where: str = ""
    """The devices that it ran on and their machine."""

    @classmethod
    def of(cls, job: Job, status: Status, **facts: Any) -> Outcome:
        """The outcome of this job."""
        return cls(id=job.id, label=job.label, kind=job.kind, status=status, **facts)
