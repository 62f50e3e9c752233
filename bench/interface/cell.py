"""One square of the matrix (`Cell`) and what it consists of. Imports no torch.

The hash of a cell's full configuration, defaults included, identifies it: a changed default makes another cell, a
changed label does not.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

PROTOCOL_VERSION = 2
"""Raised when the meaning of a cell's numbers changes; a report refuses to mix versions in one table."""

Recovery = Literal["rewind", "finetune", "scratch", "distil", "scratch-distil", "none"]
Protocol = Literal["matched", "paper"]
Match = Literal["samples", "steps"]
Ablation = Literal["blind", "l1-channels", "scratch"]
BudgetKind = Literal["macs", "params"]
"""What a budget is a fraction of."""
RECOVERIES: tuple[Recovery, ...] = get_args(Recovery)
ABLATIONS: tuple[Ablation, ...] = get_args(Ablation)
BUDGET_KINDS: tuple[BudgetKind, ...] = get_args(BudgetKind)
BUDGET_WORDS: Mapping[BudgetKind, str] = {"macs": "MACs", "params": "parameters"}


class Frozen(BaseModel):
    """Immutable; an unknown field is an error, and so is a value of another type ("0.5" or true for a number)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with changed fields, of which everything is computed anew that was computed of this one."""
        copied = super().model_copy(update=update, deep=deep)
        state: dict[str, Any] = vars(copied)
        for computed in state.keys() - type(copied).model_fields.keys():
            del state[computed]
        return copied


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
    """Of `sgd`."""
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    """On weights of two dimensions and more; biases and norms are left alone."""
    batch_size: Annotated[int, Field(ge=2)] = 128
    """Samples a step; a last batch that is not full is left out."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """`cosine` falls to 0 over all steps."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    """Linear rise of the learning rate at the start."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of cross-entropy, in classification and segmentation."""
    grad_clip: Annotated[float, Field(ge=0)] = 0.0
    """Largest gradient norm; 0 leaves gradients as they are."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 autocast where the processor computes in bf16, else fp32. Recorded as resolved."""


class Given(Frozen):
    """A file or module of the user's; what it holds is part of an identity, and where it lies is not."""

    path: Annotated[str, Field(min_length=1)]
    """Absolute, or the name of a module."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Workload(Frozen):
    """A task on a data set with a network: what all methods of a table share."""

    name: Annotated[str, Field(min_length=1)]
    """Label in tables; not part of any identity."""
    task: str
    dataset: str
    model: str
    """A network's name; of one of the user's own in a file without the folders above it."""
    code: Given | None = None
    """Of a network of the user's own: what builds it, `/path/to/net.py:make_net` or `package.module:name`."""
    weights: Given | None = None
    """The file of weights that the dense network starts from."""
    options: dict[str, Any] = {}
    """The task adapter's own fields, defaults filled in."""
    protect: Annotated[tuple[str, ...], Field(strict=False)] | None = None
    """Names or patterns of modules whose channels stay, in order of the alphabet; None where there are none."""
    epochs: Epochs
    train: Recipe
    """Of the dense network, of searches and of training from scratch."""
    finetune: Recipe
    """Of recovery `finetune`, which goes on from trained weights at a lower rate."""

    def identity(self) -> dict[str, Any]:
        """All of the configuration that can change a result. Fields and options that are None are left out.

        Of a file of the user's what it holds counts, and not where it lies.
        """
        plain = self.model_dump(mode="json", exclude={"name"}, exclude_none=True)
        plain |= {field: plain[field]["sha256"] for field in ("code", "weights") if field in plain}
        return plain | {"options": {key: value for key, value in plain["options"].items() if value is not None}}

    @cached_property
    def id(self) -> str:
        return digest(self.identity())

    @cached_property
    def dense_ids(self) -> dict[int, str]:
        """Identities of dense networks that were asked for, by seed: many cells ask for the same."""
        return {}


class PaperPlan(Frozen):
    """What a method does under protocol `paper`: its own recipes and epochs, in place of the workload's."""

    search: Recipe
    search_epochs: Annotated[int, Field(ge=0)]
    recovery: Recipe
    recovery_epochs: Annotated[int, Field(ge=0)]
    scale: Annotated[float, Field(gt=0)] = 1.0
    """By what the published epochs were multiplied."""


class Tuning(Frozen):
    """What it cost to find a method's hyper-parameters, as `prunebench tune` states it."""

    trials: Annotated[int, Field(ge=1)]
    """How many settings were tried."""
    epochs: Annotated[int, Field(ge=0)]
    """Of all trials together, search and recovery."""
    seconds: Annotated[float, Field(ge=0)]
    """Of all trials together, search and recovery."""


Count = Annotated[int, Field(ge=1, le=65_536)]


class LatencyPlan(Frozen):
    """At what the dense and the pruned network are timed: every batch size with every number of threads, in order.

    The first combination is the one of speedups and of figures that have room for one.
    """

    batch: Annotated[tuple[Count, ...], Field(strict=False, min_length=1)] = (1,)
    """Batch sizes."""
    threads: Annotated[tuple[Count, ...], Field(strict=False)] = ()
    """CPU threads; none: as many as torch is set to use. They mean nothing on a GPU."""

    @field_validator("batch", "threads")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise ValueError("every number may stand only once")
        return value

    @property
    def combinations(self) -> tuple[tuple[int, int | None], ...]:
        """(batch, threads), threads None where they are torch's."""
        return tuple(itertools.product(self.batch, self.threads or (None,)))


class Cell(Frozen):
    """One square of the matrix: a method on a workload, at a budget, with a seed.

    `budget` is the kept fraction of the dense network's MACs, or of its parameters where `budget_kind` says so;
    `tolerance` is two-sided, in the same unit.
    `hyper` holds all of the method's hyper-parameters.
    """

    workload: Workload
    method: str
    """Label in tables: the adapter's name, or that of a variant of it."""
    base: str | None = None
    """Name of the adapter behind a variant's label."""
    hyper: dict[str, Any] = {}
    budget: Annotated[float, Field(gt=0, le=1)]
    budget_kind: Literal["params"] | None = None
    """None for a budget of MACs, so that its cells keep the identities that they had when there was no other."""
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.005
    round_to: Annotated[int, Field(ge=1)] = 1
    seed: Annotated[int, Field(ge=0)]
    protocol: Protocol = "matched"
    match: Match = "samples"
    """What protocol `matched` holds equal for all cells of a workload: samples seen, or steps of the weights."""
    recovery: Recovery = "rewind"
    searches: bool = False
    """Whether the method trains while it searches, and so uses `epochs.search`."""
    weight_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of a search's samples on which the weights take steps: 0.5 for a bi-level search."""
    needs_dense: bool = True
    """False for a network that is trained from scratch for all of the workload's epochs."""
    ablation: Ablation | None = None
    """A control that takes the method apart.

    `blind`: its search without the task's gradient in the architecture's steps. `l1-channels`: the widths that it
    found, with the channels of the highest L1 norms in the dense network. `scratch`: the architecture that it found,
    from fresh weights.
    """
    source: str | None = None
    """Identity of the cell of this workload whose search is taken over."""
    transfer: str | None = None
    """Identity of the cell of another workload whose pruning is applied here instead of a search of its own."""
    plan: PaperPlan | None = None
    """The method's own recipes and epochs, under protocol `paper`."""
    latency: LatencyPlan | None = None
    """None for one sample at torch's threads, which is part of no identity; other measurements make other cells."""
    tuning: Tuning | None = None
    """What finding `hyper` cost; not part of the identity."""

    @field_validator("budget", "tolerance")
    @classmethod
    def _finite(cls, value: float) -> float:
        if not math.isfinite(value):
            raise ValueError("must be a finite number")
        return value

    def identity(self) -> dict[str, Any]:
        """The full configuration, of which the id is the hash. Fields that are None are left out."""
        own = self.model_dump(mode="json", exclude={"workload", "base", "tuning"}, exclude_none=True) | {
            "method": self.adapter
        }
        return {"protocol_version": PROTOCOL_VERSION, "workload": self.workload.identity(), **own}

    @property
    def kind(self) -> BudgetKind:
        """What the budget is a fraction of."""
        return self.budget_kind or "macs"

    @property
    def budget_text(self) -> str:
        """`0.5`, and of what where that is not the MACs: `0.5 of the parameters`."""
        return f"{self.budget:g}" + (f" of the {BUDGET_WORDS[self.kind]}" if self.budget_kind else "")

    @property
    def adapter(self) -> str:
        """Name of the method's adapter; what differs between variants of it is in `hyper`."""
        return self.base or self.method

    @property
    def plain_method(self) -> str:
        """The method's label without the values that it is swept over: `dais` of `dais(sparsity_weight=0.1)`."""
        return self.method.partition("(")[0]

    @property
    def takes_over(self) -> bool:
        """Whether the cell starts from what another cell found, which must be recorded first."""
        return self.source is not None or self.transfer is not None

    @property
    def from_scratch(self) -> bool:
        """Whether the pruned network is trained from fresh weights."""
        return self.recovery in ("scratch", "scratch-distil")

    @property
    def judged_as_pruned(self) -> bool:
        """Whether the network is measured before recovery with the weights that pruning left in this cell."""
        return self.needs_dense and not (self.ablation == "scratch" and self.source is not None)

    @cached_property
    def id(self) -> str:
        return digest(self.identity())

    @cached_property
    def dense_id(self) -> str:
        """Identity of the dense network that this cell starts from: shared by every method."""
        return dense_id(self.workload, self.seed)

    @property
    def search_epochs(self) -> int:
        """Epochs of the cell's own search."""
        if not self.searches or self.takes_over:
            return 0
        return self.plan.search_epochs if self.plan else self.workload.epochs.search

    @property
    def recovery_epochs(self) -> int:
        """Epochs after pruning.

        Protocol `matched`: dense + search + recovery is the same for every cell of a workload. A network from fresh
        weights gets all of them (Liu et al. 2019, Scratch-B); otherwise what a method does not spend on a search is
        added here. With `match` = "steps" a bi-level search counts for the steps that its weights took.
        """
        if self.recovery == "none":
            return 0
        if self.plan:
            return self.plan.recovery_epochs
        epochs = self.workload.epochs
        total = epochs.dense + epochs.search + epochs.recovery
        if self.from_scratch:
            return total
        share = self.weight_share if self.match == "steps" else 1.0
        return total - epochs.dense - round(share * self.search_epochs)

    @property
    def total_epochs(self) -> int:
        """All epochs behind the final network: those of the dense network and of the search included."""
        return (self.workload.epochs.dense if self.needs_dense else 0) + self.search_epochs + self.recovery_epochs

    @property
    def search_recipe(self) -> Recipe:
        """How the weights are trained during a search."""
        return self.plan.search if self.plan else self.workload.train

    @property
    def recovery_recipe(self) -> Recipe:
        """How the pruned network is trained: as the dense network was, from its peak rate, but for `finetune`."""
        if self.plan:
            return self.plan.recovery
        return self.workload.finetune if self.recovery == "finetune" else self.workload.train

    @property
    def label(self) -> str:
        return f"{self.workload.name} {self.title} {self.budget_text} seed {self.seed}"

    @property
    def title(self) -> str:
        """The method's label, with what tells an ablation or a transfer from the method itself."""
        taken = f" {self.ablation}" if self.ablation else " transferred" if self.transfer else ""
        return f"{self.method}{taken}"

    @property
    def schedule(self) -> list[tuple[str, int, Recipe]]:
        """(phase, epochs, recipe) of all training behind the final network, in order."""
        phases = [
            ("dense", self.workload.epochs.dense if self.needs_dense else 0, self.workload.train),
            ("search", self.search_epochs, self.search_recipe),
            ("recovery", self.recovery_epochs, self.recovery_recipe),
        ]
        return [phase for phase in phases if phase[1]]


def dense_id(workload: Workload, seed: int) -> str:
    """Identity of a dense network: everything that its training depends on."""
    known = workload.dense_ids
    if seed not in known:
        identity = workload.identity()
        identity.pop("finetune")
        identity.pop("protect", None)
        identity["epochs"] = workload.epochs.dense
        known[seed] = digest({"protocol_version": PROTOCOL_VERSION, "dense": identity, "seed": seed})
    return known[seed]
