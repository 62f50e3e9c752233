"""From the table of a suite to its cells: every workload, seed, budget, method and recovery. Imports no torch."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic

from bench.errors import RequestError, choices, unknown
from bench.interface import registry
from bench.interface.cell import (
    ABLATIONS,
    RECOVERIES,
    Ablation,
    Cell,
    Given,
    LatencyPlan,
    PaperPlan,
    Protocol,
    Recipe,
    Recovery,
    Tuning,
    Workload,
)
from bench.interface.method import learns_architecture, paper_recipe, paper_settings, prunes, weight_share
from bench.interface.own_network import is_own, short_name, source_of
from bench.interface.settings import settings_text
from bench.interface.task import Task, untrained
from bench.runs.suite_table import SuiteTable, WorkloadTable, explained, workload_label
from bench.tracking.places import sha256_of

NO_HYPER_PARAMETERS = ("base", "recovery", "tuning")
"""Fields of `[method.NAME]` that are the suite's."""


def expand(suite: SuiteTable) -> list[Cell]:
    """The cells of a suite, in the order in which they are run.

    Raises:
        RequestError: the first thing that cannot be, in a sentence.
    """
    entries = _entries(suite)
    workloads = [_workload(suite, table) for table in suite.workloads]
    cells: list[Cell] = []
    for table, workload in zip(suite.workloads, workloads, strict=True):
        budgets, seeds = table.budgets or suite.budgets, table.seeds or suite.seeds
        for seed, budget, entry in itertools.product(seeds, budgets, entries):
            if entry.prunes or budget == budgets[0]:  # an unpruned network stands once a seed, whatever the budgets
                plan = table.latency or suite.latency
                cells += entry.cells(suite, workload, seed, budget if entry.prunes else 1.0, plan)
    cells += _ablations(suite, entries, cells)
    cells += _transfers(suite, workloads, cells, {entry.label: entry.name for entry in entries})
    _require_distinct(cells)
    _require_searches(cells)
    _require_whole_epochs(cells)
    repeated = _first_repeated(workload.name for workload in workloads)
    if repeated is not None:
        raise RequestError(f"two workloads are named {repeated!r}; give each its own name")
    return cells


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Entry:
    """A method, control or variant that the suite runs."""

    name: str
    """As the suite's lists have it."""
    label: str
    """The name, and where the method is swept the values that this entry has."""
    adapter: str
    kind: type[Any]
    hyper: dict[str, Any]
    recoveries: list[Recovery]
    tuning: Tuning | None

    @property
    def prunes(self) -> bool:
        return prunes(self.kind)

    def cells(
        self, suite: SuiteTable, workload: Workload, seed: int, budget: float, latency: LatencyPlan
    ) -> list[Cell]:
        """One for each recovery."""
        return [
            Cell(
                workload=workload,
                method=self.label,
                base=self.adapter if self.adapter != self.label else None,
                hyper=self.hyper,
                budget=budget,
                budget_kind=suite.budget_kind if suite.budget_kind != "macs" else None,
                tolerance=suite.tolerance,
                round_to=suite.round_to,
                seed=seed,
                protocol=suite.protocol,
                match=suite.match,
                recovery=recovery,
                searches=self.kind.searches,
                weight_share=weight_share(self.kind) if self.kind.searches else 1.0,
                needs_dense=self.kind.needs_dense,
                latency=latency if latency != LatencyPlan() else None,
                tuning=self.tuning,
                plan=_paper_plan(self.kind, workload, suite.paper_scale) if suite.protocol == "paper" else None,
            )
            for recovery in self.recoveries
        ]


def _entries(suite: SuiteTable) -> list[_Entry]:
    """What the suite runs: its methods, then its controls."""
    controls = list(registry.control_names()) if suite.controls is None else suite.controls
    labels = [*suite.methods, *(c for c in controls if c not in (*suite.methods, *ABLATIONS))]
    if not labels:
        raise RequestError("methods and controls are both empty: there is nothing to run")
    lists = {"budgets": suite.budgets, "seeds": suite.seeds, "protect": suite.protect or ()}
    _require_no_repeats({"methods": suite.methods, "controls": controls, **lists})
    for table in suite.workloads:
        own = {"budgets": table.budgets, "seeds": table.seeds, "protect": table.protect}
        _require_no_repeats({f"workloads.{field}": values or () for field, values in own.items()})
    adapters = {label: _adapter(suite, label) for label in (*labels, *suite.method)}
    for label in suite.method:
        registry.method_class(adapters[label])
        if label not in labels:
            raise RequestError(f"[method.{label}] is set, but the suite does not run it; it runs {', '.join(labels)}")
    for label in suite.sweep.method:
        if label not in labels:
            raise RequestError(
                f"[sweep.method.{label}] is set, but the suite does not run it; it runs {', '.join(labels)}"
            )
    entries: list[_Entry] = []
    for label in labels:
        kind, own = registry.declared_method(adapters[label]), suite.method.get(label, {})
        for swept in _grid(label, own, suite.sweep.method.get(label, {})):
            entries.append(
                _Entry(
                    name=label,
                    label=f"{label}({settings_text(swept)})" if swept else label,
                    adapter=adapters[label],
                    kind=kind,
                    hyper=_hyper(adapters[label], {**own, **swept}, suite.protocol),
                    recoveries=_recoveries(suite, kind, own.get("recovery")),
                    tuning=_tuning(label, own.get("tuning")),
                )
            )
    return entries


def _grid(label: str, own: Mapping[str, Any], swept: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the values that a method is swept over, by field; one empty one where it is not."""
    for field, values in swept.items():
        if field in NO_HYPER_PARAMETERS:
            raise RequestError(f"sweep.method.{label}: {field!r} is no hyper-parameter; [method.{label}] sets it")
        if field in own:
            raise RequestError(f"{field} of {label} is set in [method.{label}] and swept in [sweep.method.{label}]")
        _require_no_repeats({f"sweep.method.{label}.{field}": [json.dumps(value) for value in values]})
    return [dict(zip(swept, values, strict=True)) for values in itertools.product(*swept.values())]


def _adapter(suite: SuiteTable, label: str) -> str:
    """The adapter behind a label: `[method.tas-pad] base = "tas"` makes a variant of it, with its own settings."""
    base = suite.method.get(label, {}).get("base", label)
    if not isinstance(base, str):
        raise RequestError(f"method {label!r}: base = {base!r} is not allowed; use a method's name")
    if base != label and label in registry.method_names():
        raise RequestError(f"method {label!r} is a method of its own and cannot be a variant of {base!r}")
    return base


def _hyper(name: str, given: Mapping[str, Any], protocol: Protocol) -> dict[str, Any]:
    """All hyper-parameters of a method, as plain values."""
    own = paper_settings(registry.method_class(name)) if protocol == "paper" else {}
    settings = {key: value for key, value in given.items() if key not in NO_HYPER_PARAMETERS}
    return _plain(registry.make_method(name, {**own, **settings}))


def _tuning(label: str, given: Any) -> Tuning | None:
    """What `[method.NAME]` says that it cost to find its settings."""
    if given is None:
        return None
    try:
        return Tuning.model_validate(given)
    except pydantic.ValidationError as error:
        raise RequestError(f"method.{label}.tuning: {explained(error, Tuning)}") from None


def _recoveries(suite: SuiteTable, kind: type[Any], own: Any = None) -> list[Recovery]:
    """The recoveries of a method; `own` is what its table says, in place of the suite's."""
    if not kind.needs_dense:
        return ["scratch"]
    if own is not None:
        for name in own if isinstance(own, list) else [own]:
            if name not in RECOVERIES:
                raise unknown("recovery", str(name), RECOVERIES)
    given = suite.recovery if own is None else own
    if given is None:
        return [kind.recovery if suite.protocol == "paper" else "rewind"]
    chosen: list[Recovery] = given if isinstance(given, list) else [given]
    _require_no_repeats({"recovery": chosen})
    return chosen


def _paper_plan(kind: type[Any], workload: Workload, scale: float) -> PaperPlan | None:
    """The paper's own recipes and epochs; None where the paper states none for this task."""
    own = paper_recipe(kind, workload.task)
    if own is None:
        return None

    def scaled(epochs: int) -> int:
        return max(1, round(scale * epochs)) if epochs else 0

    def recipe(field: str, given: Mapping[str, Any]) -> Recipe:
        """The paper's, its warm-up shortened as all epochs are."""
        made = _recipe(field, workload.train, given)
        return made.model_copy(update={"warmup_epochs": scale * made.warmup_epochs})

    return PaperPlan(
        search=recipe("search", own.search),
        search_epochs=scaled(own.search_epochs),
        recovery=recipe("recovery", own.recovery),
        recovery_epochs=scaled(own.recovery_epochs),
        scale=scale,
    )


def _ablations(suite: SuiteTable, entries: Sequence[_Entry], cells: Sequence[Cell]) -> list[Cell]:
    """The controls that take a method apart, made of each of its cells in the suite's first recovery of it.

    `blind` and `l1-channels` ask what a search decided; a method that does not search has `scratch` alone. A
    search that learns weights alone has no `blind`, which would be that search again.
    """
    wanted: list[Ablation] = [name for name in ABLATIONS if name in (suite.controls or ())]
    if not wanted:
        return []
    apart = {e.label: e for e in entries if e.name in suite.methods and e.kind.needs_dense and e.prunes}
    made: list[Cell] = []
    for cell in cells:
        entry = apart.get(cell.method)
        if entry is None or cell.recovery != entry.recoveries[0]:
            continue
        for name in wanted:
            if name == "scratch":
                change = {"ablation": name, "source": cell.id, "recovery": "scratch"}
            elif not entry.kind.searches or (name == "blind" and not learns_architecture(entry.kind)):
                continue
            else:
                change = {"ablation": name} | ({"source": cell.id} if name == "l1-channels" else {})
            made.append(cell.model_copy(update=change))
    return made


def _require_searches(cells: Iterable[Cell]) -> None:
    """Refuse a search without epochs, of which nothing would come but what the budget fit makes of untrained scores."""
    idle: dict[str, dict[str, None]] = {}
    for cell in cells:
        if cell.searches and not cell.takes_over and not cell.search_epochs:
            idle.setdefault(cell.workload.name, {})[cell.method] = None
    for name, found in idle.items():
        raise RequestError(
            f"workload {name}: epochs.search = 0 is not allowed beside methods that search ({', '.join(found)}); use 1 "
            "or more, or leave them out"
        )


def _require_whole_epochs(cells: Iterable[Cell]) -> None:
    """Refuse to match steps where a bi-level search takes those of half an epoch."""
    for cell in cells:
        spent = cell.weight_share * cell.search_epochs
        if cell.match == "steps" and cell.plan is None and spent != round(spent):
            raise RequestError(
                f"match = 'steps' needs an even number of search epochs for {cell.method}, whose weights take steps in "
                f"half of each; epochs.search is {cell.search_epochs}"
            )


def _workload(suite: SuiteTable, table: WorkloadTable) -> Workload:
    name = workload_label(table.model_dump())
    try:
        return _made(suite, table, name)
    except RequestError as error:
        raise RequestError(f"workload {name}: {error}") from None


def _made(suite: SuiteTable, table: WorkloadTable, name: str) -> Workload:
    extra = dict(table.model_extra or {})
    kind = registry.declared_task(table.task)
    fields = {f.name for f in dataclasses.fields(kind)} - {"dataset", "model"}
    for field in extra:
        if field not in fields:
            known = choices(field, fields | set(WorkloadTable.model_fields), word="allowed")
            raise RequestError(f"unknown field {field!r}{known}")
    task = registry.make_task(table.task, {"dataset": table.dataset, "model": table.model, **extra})
    options = {k: v for k, v in _plain(task).items() if k not in ("dataset", "model")}
    model = short_name(table.model) if is_own(table.model) else table.model
    protect = suite.protect if table.protect is None else table.protect
    shared = {"batch_size": table.train["batch_size"]} if "batch_size" in table.train else {}
    return Workload(
        name=name,
        task=table.task,
        dataset=table.dataset,
        model=model,
        code=source_of(table.model) if is_own(table.model) else None,
        weights=_weights(task, table.weights),
        options=options,
        protect=tuple(sorted(protect)) if protect else None,
        epochs=table.epochs,
        train=_recipe("train", kind.recipe, table.train),
        finetune=_recipe("finetune", kind.finetune, {**shared, **table.finetune}),
    )


def _weights(task: Task, given: str | None) -> Given | None:
    """The file that the dense network starts from, with its digest."""
    if given is None:
        return None
    if untrained(task) != task:
        raise RequestError(
            f"weights = {given!r} is not allowed beside weights that a library fetches; leave one of the two out"
        )
    path = Path(given).expanduser().absolute()
    if not path.exists():
        raise RequestError(
            f"weights = {given!r}: there is no file {path}; give a .safetensors file, or one that torch.save wrote"
        )
    try:
        return Given(path=str(path), sha256=sha256_of(path))
    except OSError as error:
        raise RequestError(f"weights = {given!r}: {path} cannot be read: {error.strerror}") from None


def _recipe(field: str, default: Recipe, given: Mapping[str, Any]) -> Recipe:
    try:
        return Recipe.model_validate({**default.model_dump(), **given})
    except pydantic.ValidationError as error:
        raise RequestError(f"workloads.{field}: {explained(error, Recipe)}") from None


def _plain(adapter: Any) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(adapter)))


def _transfers(
    suite: SuiteTable, workloads: Sequence[Workload], cells: Sequence[Cell], names: Mapping[str, str]
) -> list[Cell]:
    """The cells that take over what their method found on another workload.

    Args:
        names: of methods in the suite's lists, by the labels of their cells.
    """
    places = [w.name for w in workloads]
    taking: list[Cell] = []
    for table, workload in zip(suite.workloads, workloads, strict=True):
        if table.transfer is None:
            continue
        origin, chosen = table.transfer.origin, table.transfer.methods or suite.methods
        if origin not in places or origin == workload.name:
            others = ", ".join(name for name in places if name != workload.name) or "none"
            raise RequestError(
                f"workload {workload.name}: transfer from {origin!r} is not possible; available: {others}"
            )
        for name in chosen:
            if name not in suite.methods:
                raise RequestError(f"workload {workload.name}: {unknown('method to transfer', name, suite.methods)}")
        plain = [c for c in cells if c.workload.name == workload.name and c.ablation is None]
        own = {(c.method, c.budget, c.seed, c.recovery): c for c in plain}
        for giving in cells:
            twin = own.get((giving.method, giving.budget, giving.seed, giving.recovery))
            if giving.ablation is not None:
                continue
            if giving.workload.name == origin and names[giving.method] in chosen and twin is not None:
                taking.append(twin.model_copy(update={"transfer": giving.id}))
    return taking


def _require_distinct(cells: Iterable[Cell]) -> None:
    by_id: dict[str, Cell] = {}
    for cell in cells:
        if cell.id in by_id:
            raise RequestError(
                f"two cells are the same: {by_id[cell.id].label} and {cell.label}; every cell may stand only once"
            )
        by_id[cell.id] = cell


def _require_no_repeats(lists: Mapping[str, Iterable[Any]]) -> None:
    for field, values in lists.items():
        repeated = _first_repeated(values)
        if repeated is not None:
            raise RequestError(f"{field} lists {repeated!r} twice; every cell may stand only once")


def _first_repeated(values: Iterable[Any]) -> Any:
    return next((value for value, count in Counter(values).items() if count > 1), None)
