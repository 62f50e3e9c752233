"""One square of the matrix (`Cell`) and what it consists of. Imports no torch.

The hash of a cell's full configuration, defaults included, identifies it: a changed default makes another cell, a
changed label does not.
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
        """The full configuration, of which the id is the hash. Fields that are None are left out."""
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
        """All epochs behind the final network: those of the dense network and of the search included."""
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
