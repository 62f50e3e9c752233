"""What one square of the matrix is (`Cell`), and what came of it (`Record`). Imports no torch.

A cell is identified by the hash of its full configuration, defaults included: a changed default is another cell,
a changed label is not.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

PROTOCOL_VERSION = 1
"""Raised when the meaning of a cell's numbers changes; a report refuses to mix versions in one table."""

Recovery = Literal["finetune", "scratch", "distil", "scratch-distil", "none"]
Protocol = Literal["matched", "paper"]
RECOVERIES: tuple[Recovery, ...] = ("finetune", "scratch", "distil", "scratch-distil", "none")


class Frozen(BaseModel):
    """Immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def digest(payload: Any) -> str:
    """12 hexadecimal digits of the SHA-256 of `payload` as canonical JSON."""
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Epochs(Frozen):
    """How long each phase lasts, in passes over the training split."""

    dense: Annotated[int, Field(ge=0, le=100_000)]
    """Training of the dense network, shared by all methods."""
    search: Annotated[int, Field(ge=0, le=100_000)] = 0
    """What a method that searches may spend; under protocol `matched` the others get it as extra recovery."""
    recovery: Annotated[int, Field(ge=0, le=100_000)]
    """Training of the pruned network."""


class Recipe(Frozen):
    """How a network is trained: the optimiser, its schedule, and the loss's options."""

    optimizer: Literal["sgd", "adam"] = "sgd"
    """`sgd`: with `momentum`, Nesterov. `adam`: betas (0.9, 0.999)."""
    lr: Annotated[float, Field(gt=0)] = 0.1
    """Peak learning rate."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    """On weights of two dimensions and more; biases and norms are left alone."""
    batch_size: Annotated[int, Field(ge=2)] = 128
    schedule: Literal["cosine", "constant"] = "cosine"
    """`cosine` falls to 0 over all steps."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    """Linear rise of the learning rate at the start."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    grad_clip: Annotated[float, Field(ge=0)] = 0.0
    """Largest gradient norm; 0 leaves gradients as they are."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 autocast where the processor computes in bf16, else fp32. Recorded as resolved."""


class Workload(Frozen):
    """A task on a data set with a network: what all methods of a table share."""

    name: Annotated[str, Field(min_length=1)]
    """Label in tables; not part of any identity."""
    task: str
    dataset: str
    model: str
    options: dict[str, Any] = {}
    """The task adapter's own fields, defaults filled in."""
    epochs: Epochs
    train: Recipe
    """Of the dense network, of searches and of training from scratch."""
    finetune: Recipe
    """Of recovery from weights that are already trained."""

    def identity(self) -> dict[str, Any]:
        """All of the configuration that can change a result."""
        return self.model_dump(mode="json", exclude={"name"})


class Cell(Frozen):
    """One square of the matrix: a method on a workload, at a budget, with a seed.

    `budget` is the kept fraction of the dense network's MACs; `tolerance` is two-sided, in the same unit.
    `hyper` holds all of the method's hyper-parameters.
    """

    workload: Workload
    method: str
    """Label in tables: the adapter's name, or that of a variant of it."""
    base: str | None = None
    """Name of the adapter behind a variant's label."""
    hyper: dict[str, Any] = {}
    budget: Annotated[float, Field(gt=0, le=1)]
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.005
    round_to: Annotated[int, Field(ge=1)] = 1
    seed: Annotated[int, Field(ge=0)]
    protocol: Protocol = "matched"
    recovery: Recovery = "finetune"
    searches: bool = False
    """Whether the method trains while it searches, and so uses `epochs.search`."""
    needs_dense: bool = True
    """False for a network that is trained from scratch for all of the workload's epochs."""
    transfer: str | None = None
    """Identity of the cell whose pruning is applied here instead of a search of its own."""

    @field_validator("budget", "tolerance")
    @classmethod
    def _finite(cls, value: float) -> float:
        if not math.isfinite(value):
            raise ValueError("must be a finite number")
        return value

    def identity(self) -> dict[str, Any]:
        """The full configuration that the id is the hash of; None means that a thing is absent, and is left out."""
        own = self.model_dump(mode="json", exclude={"workload", "base"}, exclude_none=True) | {"method": self.adapter}
        return {"protocol_version": PROTOCOL_VERSION, "workload": self.workload.identity(), **own}

    @property
    def adapter(self) -> str:
        """Name of the method's adapter; what differs between variants of it is in `hyper`."""
        return self.base or self.method

    @property
    def from_scratch(self) -> bool:
        """Whether the pruned network is trained from fresh weights."""
        return self.recovery in ("scratch", "scratch-distil")

    @property
    def id(self) -> str:
        return digest(self.identity())

    @property
    def dense_id(self) -> str:
        """Identity of the dense network that this cell starts from: shared by every method."""
        return dense_id(self.workload, self.seed)

    @property
    def search_epochs(self) -> int:
        return self.workload.epochs.search if self.searches and self.transfer is None else 0

    @property
    def recovery_epochs(self) -> int:
        """Epochs after pruning.

        Protocol `matched`: dense + search + recovery is the same for every cell of a workload, so what a method
        does not spend on a search, or on a dense network, is added here (unless recovery is `none`).
        """
        epochs = self.workload.epochs
        if self.recovery == "none":
            return 0
        total = epochs.recovery
        if self.protocol == "matched":
            total += epochs.search - self.search_epochs
        return total if self.needs_dense else total + epochs.dense

    @property
    def total_epochs(self) -> int:
        """All epochs behind the final network, the dense network's included."""
        return (self.workload.epochs.dense if self.needs_dense else 0) + self.search_epochs + self.recovery_epochs

    @property
    def label(self) -> str:
        transferred = " transferred" if self.transfer else ""
        return f"{self.workload.name} {self.method}{transferred} {self.budget:g} seed {self.seed}"


def dense_id(workload: Workload, seed: int) -> str:
    """Identity of a dense network: everything that its training depends on."""
    identity = workload.identity()
    identity.pop("finetune")
    identity["epochs"] = workload.epochs.dense
    return digest({"protocol_version": PROTOCOL_VERSION, "dense": identity, "seed": seed})


class LatencyFigures(BaseModel):
    """A measured forward pass of the example batch, in milliseconds."""

    median_ms: float
    iqr_ms: float
    batch_size: int
    threads: int
    device: str


class GroupWidth(BaseModel):
    """One channel group before and after pruning."""

    name: str
    size: int
    width: int
    native_width: int
    """Width that the method itself chose, before the budget fit."""


class Audit(BaseModel):
    """What was asked of the budget, what the method gave, and what was measured."""

    requested: float
    tolerance: float
    native_macs_ratio: float
    """MACs of the method's own pruning over the dense network's."""
    fitted_channels: int
    """Channels that the budget fit added or removed to land inside the tolerance."""
    macs_ratio: float
    """Measured on the physically pruned network."""
    within: bool
    note: str = ""
    """Why a budget was missed, where it was."""


class Ledger(BaseModel):
    """What a cell cost. Dense figures belong to the shared dense network and are repeated in its cells."""

    dense_epochs: int
    search_epochs: int
    recovery_epochs: int
    dense_seconds: float
    search_seconds: float
    recovery_seconds: float
    device: str


class Record(BaseModel):
    """All that is known of one cell: enough to rebuild a report without the tracking server.

    Metric dictionaries hold every figure of the task's evaluation on the test split, by name; the one that
    methods are ranked by is `metric_name`. `trajectory` has one row an epoch and phase ("dense" rows belong to
    the shared network), each with "phase" and "epoch" and whatever was logged, such as "loss", "val_accuracy",
    "expected_macs_ratio", "temperature". `snapshots` are arrays over time for drawing: name ->
    [{"epoch": e, "values": [...]}], e.g. "gates" (all gate values) or "widths" (one per group, in order).
    `pictures` are paths of the run's image artifacts.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: int = 1
    protocol_version: int = PROTOCOL_VERSION
    suite: str
    cell_id: str
    run_id: str
    status: Literal["finished", "failed"]
    cell: dict[str, Any]
    """`Cell.model_dump(mode="json")`: the whole configuration, labels included."""
    metric_name: str = ""
    higher_is_better: bool = True
    metric_unit: str = ""
    dense_metrics: dict[str, float] = {}
    pruned_metrics: dict[str, float] = {}
    """Right after pruning, before recovery."""
    final_metrics: dict[str, float] = {}
    """After recovery."""
    reference_metrics: dict[str, dict[str, float]] = {}
    """Baselines that need no network, by name (bicubic interpolation, the majority class)."""
    input_shape: list[int] = []
    """The example batch at which MACs and latency are stated."""
    data_info: dict[str, Any] = {}
    """`DataInfo` of the data set: what the network must be rebuilt with."""
    data_fingerprint: str = ""
    macs_dense: int = 0
    macs_pruned: int = 0
    params_dense: int = 0
    params_pruned: int = 0
    audit: Audit | None = None
    groups: list[GroupWidth] = []
    dropped_blocks: list[str] = []
    left_whole: dict[str, str] = {}
    """Parts of the network that could not be pruned, and why."""
    latency_dense: LatencyFigures | None = None
    latency_pruned: LatencyFigures | None = None
    peak_memory_dense: int = 0
    peak_memory_pruned: int = 0
    """Bytes that a forward pass of the example batch needs beyond the weights."""
    ledger: Ledger | None = None
    trajectory: list[dict[str, Any]] = []
    snapshots: dict[str, list[dict[str, Any]]] = {}
    pictures: list[str] = []
    notes: list[str] = []
    """What a reader should know of this cell: reconstruction choices in force, fallbacks named by the method."""
    environment: dict[str, str] = {}
    """Versions of python, torch and the project, git commit, machine, device, precision, threads."""
    started_at: str = ""
    finished_at: str = ""
    error: str = ""
    traceback: str = ""

    @property
    def config(self) -> Cell:
        return Cell.model_validate(self.cell)

    def _ranked(self, metrics: dict[str, float]) -> float | None:
        return metrics.get(self.metric_name)

    def row(self) -> dict[str, Any]:
        """The cell's line in `results.csv`; None where a failed cell has no figure."""
        cell, audit, ledger = self.config, self.audit, self.ledger
        return {
            "cell_id": self.cell_id,
            "run_id": self.run_id,
            "status": self.status,
            "workload": cell.workload.name,
            "task": cell.workload.task,
            "dataset": cell.workload.dataset,
            "model": cell.workload.model,
            "method": cell.method,
            "protocol": cell.protocol,
            "recovery": cell.recovery,
            "transfer": cell.transfer,
            "budget": cell.budget,
            "seed": cell.seed,
            "metric_name": self.metric_name,
            "higher_is_better": self.higher_is_better,
            "dense_metric": self._ranked(self.dense_metrics),
            "pruned_metric": self._ranked(self.pruned_metrics),
            "final_metric": self._ranked(self.final_metrics),
            "macs_dense": self.macs_dense or None,
            "macs_pruned": self.macs_pruned or None,
            "macs_ratio": audit.macs_ratio if audit else None,
            "params_dense": self.params_dense or None,
            "params_pruned": self.params_pruned or None,
            "native_macs_ratio": audit.native_macs_ratio if audit else None,
            "fitted_channels": audit.fitted_channels if audit else None,
            "within_tolerance": audit.within if audit else None,
            "latency_dense_ms": self.latency_dense.median_ms if self.latency_dense else None,
            "latency_pruned_ms": self.latency_pruned.median_ms if self.latency_pruned else None,
            "dense_epochs": ledger.dense_epochs if ledger else None,
            "search_epochs": ledger.search_epochs if ledger else None,
            "recovery_epochs": ledger.recovery_epochs if ledger else None,
            "dense_seconds": ledger.dense_seconds if ledger else None,
            "search_seconds": ledger.search_seconds if ledger else None,
            "recovery_seconds": ledger.recovery_seconds if ledger else None,
            "protocol_version": self.protocol_version,
            "error": self.error,
        }
