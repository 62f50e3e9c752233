"""What is to be run, with which settings, and how it ended: plain data. Imports no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench.interface.cell import Cell, Workload, dense_id
from bench.runs.resources import Resources

Kind = Literal["cell", "dense"]
Status = Literal["finished", "failed", "elsewhere", "unstarted"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all jobs of an invocation share and what changes no result."""

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


@dataclass(frozen=True)
class Job:
    """A cell to run, or where `cell` is None the dense network of a workload and seed to train."""

    workload: Workload
    seed: int
    cell: Cell | None = None

    @classmethod
    def of_cell(cls, cell: Cell) -> Job:
        """The job that runs this cell."""
        return cls(cell.workload, cell.seed, cell)

    @classmethod
    def of_dense(cls, cell: Cell) -> Job:
        """The job that trains the dense network that this cell starts from."""
        return cls(cell.workload, cell.seed)

    @property
    def id(self) -> str:
        return self.cell.id if self.cell else dense_id(self.workload, self.seed)

    @property
    def kind(self) -> Kind:
        return "cell" if self.cell else "dense"

    @property
    def label(self) -> str:
        return self.cell.label if self.cell else f"{self.workload.name} dense seed {self.seed}"

    @property
    def needs(self) -> frozenset[str]:
        """What must be recorded before this job can run: ids of its dense network and of the cell that it takes up."""
        if self.cell is None:
            return frozenset()
        return frozenset({self.cell.dense_id, self.cell.source, self.cell.transfer} - {None})  # pyright: ignore

    @property
    def epochs(self) -> int:
        """Epochs that this job trains for."""
        if self.cell:
            return self.cell.search_epochs + self.cell.recovery_epochs
        return self.workload.epochs.dense


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
