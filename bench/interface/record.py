"""What came of one cell (`Record`): all that a report needs. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from bench.errors import RequestError
from bench.interface.cell import PROTOCOL_VERSION, BudgetKind, Cell, Workload
from bench.interface.settings import changed_settings, settings_text

SCHEMA_VERSION = 2
"""Of the records that this release writes; it reads earlier ones as well."""


METHOD_SOURCE = "method_source"
"""Key of a record's environment: the hash of the source of the cell's method (`bench.interface.source`)."""


class RecordError(ValueError):
    """A record that cannot be read; the message is a sentence that names it."""


class LaterRecordError(RequestError):
    """A record that a later release has made."""


class LatencyFigures(BaseModel):
    """A measured forward pass of the example, repeated to a batch, in milliseconds."""

    median_ms: float
    iqr_ms: float
    batch_size: int
    threads: int
    """CPU threads; 0 on a GPU, where they mean nothing."""
    device: str

    @property
    def conditions(self) -> str:
        """`batch 1, 2 threads`"""
        return timed_at(self.batch_size, self.threads)


class LatencyPair(BaseModel):
    """The dense network and the pruned one, measured in turn."""

    dense: LatencyFigures
    pruned: LatencyFigures


def timed_at(batch: int, threads: int) -> str:
    """At what a latency was measured: `batch 1, 2 threads`, and `batch 1` where threads mean nothing."""
    return f"batch {batch}" + (f", {threads} thread{'s' * (threads != 1)}" if threads else "")


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
    kind: BudgetKind = "macs"
    """What both are fractions of."""
    native_macs_ratio: float
    """MACs of the method's own pruning over the dense network's."""
    native_params_ratio: float | None = None
    """The same of its parameters; None where an earlier release made the record, as below."""
    search_macs_ratio: float | None = None
    """The fraction of the MACs that the method was asked for: the budget itself where that is one of MACs."""
    fitted_channels: int
    """Channels that the budget fit added or removed to land inside the tolerance."""
    macs_ratio: float
    """Measured on the physically pruned network."""
    params_ratio: float | None = None
    """Measured there as well."""
    within: bool
    note: str = ""
    """Why a budget was missed, where it was."""

    @property
    def native_ratio(self) -> float | None:
        """What the method's own pruning keeps of what the budget counts."""
        return self.native_macs_ratio if self.kind == "macs" else self.native_params_ratio

    @property
    def ratio(self) -> float | None:
        """What was measured of what the budget counts."""
        return self.macs_ratio if self.kind == "macs" else self.params_ratio


class PhaseCost(BaseModel):
    """What one phase of training cost."""

    name: str
    """`dense`, `search` or `recovery`."""
    epochs: int
    samples: int
    """Training samples seen, with repetitions."""
    weight_steps: int
    architecture_steps: int
    peak_lr: float
    """Largest learning rate of the weights."""
    seconds: float


class Outcomes(BaseModel):
    """What the final network made of each test sample, compactly: enough to compute the metric of any resample."""

    kind: Literal["correct", "iou", "mean"]
    """`correct`: one bit a sample, the metric is the share of ones. `iou`: intersection and union of every class, in
    pixels, [samples, 2, classes]. `mean`: one figure a sample, the metric is their mean."""
    shape: list[int]
    data: str
    """base64 of the zlib-compressed array: packed bits, little-endian uint32, or little-endian float32."""


class Ledger(BaseModel):
    """What a cell cost. Dense figures belong to the shared dense network and are repeated in its cells.

    So are those of a search that has an id.
    """

    dense_epochs: int
    search_epochs: int
    recovery_epochs: int
    dense_seconds: float
    search_seconds: float
    recovery_seconds: float
    device: str
    search_id: str = ""
    """Of the search that the cell shares with others; "" where it has none, or made one of its own."""
    phases: list[PhaseCost] = []
    """The same by phase, with samples, steps and rates."""


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

    schema_version: int = SCHEMA_VERSION
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
    outcomes: Outcomes | None = None
    """Of the final network, sample by sample, where the task gives them."""
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
    """At the first combination of batch size and threads."""
    further_latencies: list[LatencyPair] = []
    """At the others, in the suite's order."""
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
    """Versions of python, torch and the project, git commit, machine, device, precision, threads, and the hash of the
    method's source."""
    started_at: str = ""
    finished_at: str = ""
    error: str = ""
    traceback: str = ""

    @field_validator("schema_version")
    @classmethod
    def _known(cls, value: int) -> int:
        if value > SCHEMA_VERSION:
            raise ValueError(_later(value))
        return value

    @property
    def config(self) -> Cell:
        """The configuration, checked; cells of one workload share that part."""
        if "workload" not in self.cell:
            return Cell.model_validate(self.cell)
        return Cell.model_validate({**self.cell, "workload": _shared_workload(self.cell["workload"])})

    @property
    def latencies(self) -> list[LatencyPair]:
        """At every combination of batch size and threads, in the suite's order; empty where nothing was measured."""
        if self.latency_dense is None or self.latency_pruned is None:
            return []
        return [LatencyPair(dense=self.latency_dense, pruned=self.latency_pruned), *self.further_latencies]

    def _ranked(self, metrics: dict[str, float]) -> float | None:
        return metrics.get(self.metric_name)

    def row(self, cell: Cell | None = None) -> dict[str, Any]:
        """The cell's line in `results.csv`; None where a failed cell has no figure.

        Args:
            cell: the configuration, where it has been checked before.
        """
        cell, audit, ledger = cell or self.config, self.audit, self.ledger
        return {
            "cell_id": self.cell_id,
            "run_id": self.run_id,
            "status": self.status,
            "workload": cell.workload.name,
            "task": cell.workload.task,
            "dataset": cell.workload.dataset,
            "model": cell.workload.model,
            "method": cell.method,
            "settings": settings_text(changed_settings(cell.adapter, cell.hyper)),
            "protocol": cell.protocol,
            "match": cell.match,
            "recovery": cell.recovery,
            "ablation": cell.ablation,
            "transfer": cell.transfer,
            "budget": cell.budget,
            "budget_kind": cell.kind,
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
            "params_ratio": self.params_pruned / self.params_dense if self.params_dense else None,
            "native_macs_ratio": audit.native_macs_ratio if audit else None,
            "native_params_ratio": audit.native_params_ratio if audit else None,
            "fitted_channels": audit.fitted_channels if audit else None,
            "within_tolerance": audit.within if audit else None,
            "latency_dense_ms": self.latency_dense.median_ms if self.latency_dense else None,
            "latency_pruned_ms": self.latency_pruned.median_ms if self.latency_pruned else None,
            "latency_batch": self.latency_pruned.batch_size if self.latency_pruned else None,
            "latency_threads": self.latency_pruned.threads or None if self.latency_pruned else None,
            "dense_epochs": ledger.dense_epochs if ledger else None,
            "search_epochs": ledger.search_epochs if ledger else None,
            "recovery_epochs": ledger.recovery_epochs if ledger else None,
            "dense_seconds": ledger.dense_seconds if ledger else None,
            "search_seconds": ledger.search_seconds if ledger else None,
            "recovery_seconds": ledger.recovery_seconds if ledger else None,
            "protocol_version": self.protocol_version,
            "error": self.error,
            "peak_memory_dense": self.peak_memory_dense or None,
            "peak_memory_pruned": self.peak_memory_pruned or None,
            **_further_columns(self.further_latencies),
        }


def _further_columns(pairs: Sequence[LatencyPair]) -> dict[str, float]:
    """Latencies beyond the first combination, one column a network and combination."""
    found: dict[str, float] = {}
    for pair in pairs:
        place = f"batch{pair.dense.batch_size}" + (f"_threads{pair.dense.threads}" if pair.dense.threads else "")
        found[f"latency_dense_ms_{place}"] = pair.dense.median_ms
        found[f"latency_pruned_ms_{place}"] = pair.pruned.median_ms
    return found


def _shared_workload(plain: Any) -> Any:
    """The workload of these JSON values, one object for all records of it; what is none is handed back."""
    try:
        return _workload(json.dumps(plain, sort_keys=True))
    except (TypeError, ValueError):
        return plain


@lru_cache(maxsize=256)
def _workload(text: str) -> Workload:
    return Workload.model_validate(json.loads(text))


def require_known_version(plain: Mapping[str, Any], where: str) -> None:
    """Refuse the JSON values of a record that a later release has made.

    Raises:
        LaterRecordError: naming the file.
    """
    version = plain.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise LaterRecordError(f"{where}: {_later(version)}")


def _later(version: int) -> str:
    return (
        f"schema_version {version} is of a later release of prunebench, and this one reads records up to "
        f"{SCHEMA_VERSION}; update prunebench"
    )


def read_record(text: str, where: str) -> Record:
    """A record from its JSON text, the cell's configuration checked as well.

    Args:
        where: the file, for the message of an error.

    Raises:
        RecordError: it is no record, or a damaged one.
        LaterRecordError: a later release has made it.
    """
    try:
        record = Record.model_validate_json(text)
        record.config  # noqa: B018  (checks the configuration inside)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        reason = first["msg"].removeprefix("Value error, ")
        if first["loc"] == ("schema_version",) and first["type"] == "value_error":
            raise LaterRecordError(f"{where}: {reason}") from None
        field = ".".join(str(part) for part in first["loc"]) or "the line"
        raise RecordError(f"{where}: {field}: {reason}") from None
    return record
