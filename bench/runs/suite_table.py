"""The fields of a suite file, and the sentence that says what is wrong with one. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import pydantic
from pydantic import BaseModel, ConfigDict, Field, field_validator

from bench.errors import choices
from bench.interface.cell import BudgetKind, Epochs, LatencyPlan, Match, Protocol, Recovery
from bench.interface.own_network import is_own, short_name
from bench.runs.resources import Resources

Budgets = Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)]
Seeds = Annotated[list[Annotated[int, Field(ge=0, le=2**31)]], Field(min_length=1)]
Protect = list[Annotated[str, Field(min_length=1)]]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)


class TransferTable(_Strict):
    """`transfer = { from = "workload" }`: each method once more, with the pruning that it found over there."""

    origin: Annotated[str, Field(alias="from")]
    """Name of the workload whose prunings are taken."""
    methods: list[str] | None = None
    """Which of the suite's methods; all of them by default, and no controls."""


class WorkloadTable(BaseModel):
    """`[[workloads]]`: what is not listed here is an option of the task's adapter."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, strict=True)

    task: str
    """A name that `prunebench list tasks` has."""
    dataset: str
    """One that `prunebench list datasets` has of this task."""
    model: str
    """One that `prunebench list models` has of this task, or a network of one's own: `net.py:make_net`."""
    weights: str | None = None
    """A file of weights that the dense network starts from."""
    name: str | None = None
    """Label in tables; data set and network by default."""
    budgets: Budgets | None = None
    """In place of the suite's."""
    seeds: Seeds | None = None
    """In place of the suite's."""
    protect: Protect | None = None
    """In place of the suite's."""
    latency: LatencyPlan | None = None
    """In place of the suite's."""
    transfer: TransferTable | None = None
    """Prunings that were found on another workload of the suite, applied to this one."""
    epochs: Epochs
    """How long each phase lasts, in passes over the training split."""
    train: dict[str, Any] = {}
    """Recipe of the dense network, of searches, and of recoveries other than `finetune`."""
    finetune: dict[str, Any] = {}
    """Recipe of recovery `finetune`."""


class SweepTable(_Strict):
    """`[sweep.method.NAME]`: lists of values by field; the method is run with every combination of them."""

    method: dict[str, dict[str, Annotated[list[Any], Field(min_length=1)]]] = {}
    """By method, lists of values by field."""


class SuiteTable(_Strict):
    """What a suite compares, on what, and how often."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Of the suite: its experiment in MLflow and its report's folder."""
    description: str = ""
    """One line, for `prunebench list suites`."""
    methods: list[str]
    """Names that `prunebench list methods` has, or of variants in `[method.NAME]`."""
    controls: list[str] | None = None
    """Those of protocol.md; by default the four that stand in every matrix."""
    budgets: Budgets
    """Kept fractions of what `budget_kind` names, of the dense network."""
    budget_kind: BudgetKind = "macs"
    """What budgets and their tolerance are fractions of: multiply-adds or parameters."""
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.005
    """How far a pruned network may be from the budget on either side, as a fraction of the dense network's."""
    round_to: Annotated[int, Field(ge=1, le=1024)] = 1
    """Widths are multiples of this many channels; a full width is always allowed."""
    seeds: Seeds
    """Of weights, batches and searches; one cell each."""
    protect: Protect | None = None
    """Names or patterns (`decoder.*`) of the network's modules whose channels no method may remove."""
    latency: LatencyPlan = LatencyPlan()
    """Batch sizes and numbers of CPU threads; latencies are measured at every combination."""
    protocol: Protocol = "matched"
    """`matched`: the same rates and total epochs for all; `paper`: each method's own recipe."""
    match: Match = "samples"
    """What protocol `matched` holds equal: samples seen, or steps of the weights."""
    paper_scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    """By what the epochs of papers' recipes are multiplied, under protocol `paper`."""
    recovery: Recovery | Annotated[list[Recovery], Field(min_length=1)] | None = None
    """How pruned networks are trained; of several, each makes cells of its own. By default `rewind`, and under protocol
    `paper` the method's own."""
    workloads: Annotated[list[WorkloadTable], Field(min_length=1)]
    """`[[workloads]]`, one table each."""
    method: dict[str, dict[str, Any]] = {}
    """`[method.NAME]`: hyper-parameters, `recovery`, and for a variant its adapter as `base`."""
    sweep: SweepTable = SweepTable()
    """`[sweep.method.NAME]`: fields with several values each."""
    resources: Resources = Resources()
    """GPUs, cores, memory and time of each cell, and how many devices train it together."""

    @field_validator("budget_kind", mode="before")
    @classmethod
    def _no_latency(cls, value: Any) -> Any:
        if value == "latency":
            raise ValueError(
                "a seed does not give a measured time again (docs/protocol.md); use 'macs' or 'params', and choose in "
                "the report's table by latency"
            )
        return value


def workload_label(table: Mapping[str, Any]) -> str:
    """The name of a workload: what its table says, else its data set and network.

    That of one's own network ends in its file or module: `cifar10-resnet20-from-net.py` beside `cifar10-resnet20`.
    """
    model = str(table.get("model", ""))
    place, _, name = short_name(model).rpartition(":") if is_own(model) else ("", "", model)
    whole = f"{table.get('dataset', '')}-{name}" + f"-from-{place}" * bool(place)
    return str(table.get("name") or re.sub(r"[^A-Za-z0-9.]+", "-", whole).strip("-"))


def explained(error: pydantic.ValidationError, model: type[BaseModel], table: Mapping[str, Any] | None = None) -> str:
    """The first problem as one sentence: the workload, the field, what was given, what is allowed.

    Args:
        table: the whole suite, from which a workload's name is taken.
    """
    first = error.errors(include_url=False)[0]
    parts = [str(part) for part in first["loc"] if not str(part).startswith(("function", "list[", "literal"))]
    whose = _workload_at(table, first["loc"])
    return f"workload {whose}: " * bool(whose) + _problem(first, ".".join(parts), model)


def _workload_at(table: Mapping[str, Any] | None, place: tuple[int | str, ...]) -> str:
    """The name of the workload that a place of the suite's table is in; empty where it is in none."""
    workloads = (table or {}).get("workloads")
    if len(place) < 3 or place[0] != "workloads" or not isinstance(place[1], int) or not isinstance(workloads, list):
        return ""
    found = workloads[place[1]]
    return workload_label(found) if isinstance(found, Mapping) else ""


def _problem(first: Any, place: str, model: type[BaseModel]) -> str:
    if first["type"] == "extra_forbidden":
        allowed = choices(str(first["loc"][-1]), _fields_at(model, first["loc"][:-1]), word="allowed")
        return f"unknown field {place!r}{allowed}"
    if first["type"] == "missing":
        return f"the field {place!r} is missing"
    given = first["input"]
    shown = repr(given) if not isinstance(given, dict | list) or len(repr(given)) < 60 else f"{repr(given)[:57]}…"
    message = first["msg"]
    message = (
        message.removeprefix("Value error, ")
        .replace("a valid tuple", "a list")
        .replace("Tuple", "List")
        .replace("tuple", "list")
    )
    return f"{place} = {shown} is not allowed: {message[:1].lower()}{message[1:]}"


def _fields_at(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    parts: Mapping[str, type[BaseModel]] = {"epochs": Epochs, "latency": LatencyPlan, "resources": Resources}
    return list(next((parts[part] for part in map(str, place) if part in parts), model).model_fields)
