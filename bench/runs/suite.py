"""A suite file -> validated cells. Imports no torch: `plan` answers at once."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import json
import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from bench.errors import RequestError, unknown
from bench.interface import registry
from bench.interface.cell import RECOVERIES, Cell, Epochs, Protocol, Recipe, Recovery, Workload


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _Transfer(_Strict):
    """`transfer = { from = "workload" }`: each method once more, with the pruning that it found over there."""

    origin: Annotated[str, Field(alias="from")]
    methods: list[str] | None = None
    """Which of the suite's methods; all of them by default, and no controls."""


class _WorkloadTable(BaseModel):
    """`[[workloads]]`: what is not listed here is an option of the task's adapter."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    task: str
    dataset: str
    model: str
    name: str | None = None
    transfer: _Transfer | None = None
    epochs: Epochs
    train: dict[str, Any] = {}
    finetune: dict[str, Any] = {}


class _SuiteTable(_Strict):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    description: str = ""
    methods: list[str]
    controls: list[str] | None = None
    budgets: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)]
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.005
    round_to: Annotated[int, Field(ge=1, le=1024)] = 1
    seeds: Annotated[list[Annotated[int, Field(ge=0, le=2**31)]], Field(min_length=1)]
    protocol: Protocol = "matched"
    recovery: Recovery | Annotated[list[Recovery], Field(min_length=1)] | None = None
    workloads: Annotated[list[_WorkloadTable], Field(min_length=1)]
    method: dict[str, dict[str, Any]] = {}


@dataclasses.dataclass(frozen=True)
class Suite:
    """A validated suite: its cells, in the order in which they are run."""

    name: str
    description: str
    source: str
    cells: tuple[Cell, ...]

    @property
    def workloads(self) -> tuple[Workload, ...]:
        return tuple({cell.workload.name: cell.workload for cell in self.cells}.values())


def shipped() -> dict[str, str]:
    """Suites that come with the package: name -> description."""
    found: dict[str, str] = {}
    for file in sorted(files("bench").joinpath("suites").iterdir(), key=lambda f: f.name):
        if file.name.endswith(".toml"):
            found[file.name.removesuffix(".toml")] = tomllib.loads(file.read_text("utf-8")).get("description", "")
    return found


def load_suite(name: str, overrides: Sequence[str] = (), seeds: int | None = None) -> Suite:
    """Read and validate a suite.

    Args:
        name: a shipped suite's name, or the path of a TOML file.
        overrides: `KEY=VALUE` with a dotted key, e.g. `workloads.0.epochs.dense=3`, `budgets=[0.5]`.
        seeds: use seeds 0 … n − 1 instead of the suite's.

    Raises:
        RequestError: naming the file, the field, what was given and what is allowed.
    """
    source, table = _read(name)
    for override in overrides:
        _override(table, override)
    if seeds is not None:
        if seeds < 1:
            raise RequestError(f"--seeds {seeds} is not allowed; use 1 or more")
        table["seeds"] = list(range(seeds))
    return suite_from_table(table, source)


def suite_from_table(table: Mapping[str, Any], source: str) -> Suite:
    """A suite from the table that its TOML file holds."""
    try:
        parsed = _SuiteTable.model_validate(table)
    except pydantic.ValidationError as error:
        raise RequestError(f"{source}: {_explain(error, _SuiteTable)}") from None
    try:
        return Suite(parsed.name, parsed.description, source, tuple(_cells(parsed)))
    except RequestError as error:
        raise RequestError(f"{source}: {error}") from None


def select(cells: Sequence[Cell], only: Sequence[str]) -> list[Cell]:
    """The cells that match every `KEY=VALUE`; several values of one key are alternatives.

    Raises:
        RequestError: an unknown key, or nothing matches.
    """
    keys = {
        "method": lambda c: c.method,
        "seed": lambda c: str(c.seed),
        "budget": lambda c: f"{c.budget:g}",
        "workload": lambda c: c.workload.name,
        "task": lambda c: c.workload.task,
        "dataset": lambda c: c.workload.dataset,
        "model": lambda c: c.workload.model,
        "recovery": lambda c: c.recovery,
        "cell": lambda c: c.id,
    }
    wanted: dict[str, set[str]] = {}
    for item in only:
        key, equals, value = item.partition("=")
        if not equals or key not in keys:
            raise RequestError(f"--only {item!r} is not allowed; use KEY=VALUE with KEY one of {', '.join(keys)}")
        if key == "budget":
            try:
                value = f"{float(value):g}"
            except ValueError:
                raise RequestError(f"--only {item!r} is not allowed: {value!r} is no number") from None
        wanted.setdefault(key, set()).add(value)
    chosen = [c for c in cells if all(keys[key](c) in values for key, values in wanted.items())]
    if not chosen:
        present = "; ".join(f"{key}: {', '.join(sorted({keys[key](c) for c in cells}))}" for key in wanted)
        raise RequestError(f"--only {' --only '.join(only)} matches no cell of this suite; it has {present}")
    return chosen


def _read(name: str) -> tuple[str, dict[str, Any]]:
    path = Path(name)
    if path.suffix != ".toml":
        resource = files("bench").joinpath("suites", f"{name}.toml")
        if not re.fullmatch(r"[\w.-]+", name) or not resource.is_file():
            raise RequestError(f"{unknown('suite', name, shipped())}; or give the path of a .toml file")
        source, text = f"suite {name!r}", resource.read_text("utf-8")
    else:
        source = str(path)
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise RequestError(f"suite file {path} cannot be read: {reason}") from None
    try:
        return source, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"{source} is not valid TOML: {error}") from None


def _override(table: dict[str, Any], text: str) -> None:
    key, equals, raw = text.partition("=")
    if not equals or not key:
        raise RequestError(f"--set {text!r} is not allowed; use KEY=VALUE, for instance budgets=[0.5]")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw  # a bare word is a string
    node: Any = table
    *parents, last = key.split(".")
    try:
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        if isinstance(node, list):
            node[int(last)] = value
        else:
            node[last] = value
    except (ValueError, IndexError, TypeError, AttributeError):
        raise RequestError(f"--set {text!r} is not allowed: {key!r} is no field of a suite") from None


def _cells(suite: _SuiteTable) -> list[Cell]:
    controls = list(registry.control_names()) if suite.controls is None else suite.controls
    names = [*suite.methods, *(c for c in controls if c not in suite.methods)]
    if not names:
        raise RequestError("methods and controls are both empty: there is nothing to run")
    lists: tuple[tuple[str, Sequence[Any]], ...] = (
        ("methods", suite.methods),
        ("controls", controls),
        ("budgets", suite.budgets),
        ("seeds", suite.seeds),
    )
    for what, values in lists:
        repeated = next((v for v, count in Counter(values).items() if count > 1), None)
        if repeated is not None:
            raise RequestError(f"{what} lists {repeated!r} twice; every cell may stand only once")
    adapters = {name: _adapter(suite, name) for name in (*names, *suite.method)}
    for name in suite.method:
        registry.method_class(adapters[name])
        if name not in names:
            raise RequestError(f"[method.{name}] is set, but the suite does not run it; it runs {', '.join(names)}")
    workloads = [_workload(table) for table in suite.workloads]
    hypers = {name: _hyper(adapters[name], suite.method.get(name, {}), suite.protocol) for name in names}
    cells: list[Cell] = []
    for workload, seed, budget, name in itertools.product(workloads, suite.seeds, suite.budgets, names):
        kind = registry.method_class(adapters[name])
        prunes = getattr(kind, "prunes", True)
        if not prunes and budget != suite.budgets[0]:
            continue  # one unpruned network a seed, whatever the budgets
        for recovery in _recoveries(suite, kind, suite.method.get(name, {}).get("recovery")):
            cells.append(
                Cell(
                    workload=workload,
                    method=name,
                    base=adapters[name] if adapters[name] != name else None,
                    hyper=hypers[name],
                    budget=budget if prunes else 1.0,
                    tolerance=suite.tolerance,
                    round_to=suite.round_to,
                    seed=seed,
                    protocol=suite.protocol,
                    recovery=recovery,
                    searches=kind.searches,
                    needs_dense=kind.needs_dense,
                )
            )
    cells += _transfers(suite, workloads, cells)
    by_id: dict[str, Cell] = {}
    for cell in cells:
        if cell.id in by_id:
            raise RequestError(
                f"two cells are the same: {by_id[cell.id].label} and {cell.label}; every cell may stand only once"
            )
        by_id[cell.id] = cell
    labels = [w.name for w in workloads]
    repeated = next((label for label in labels if labels.count(label) > 1), None)
    if repeated is not None:
        raise RequestError(f"two workloads are named {repeated!r}; give each its own name")
    return cells


def _adapter(suite: _SuiteTable, label: str) -> str:
    """The adapter behind a label: `[method.tas-pad] base = "tas"` makes a variant of it, with its own settings."""
    base = suite.method.get(label, {}).get("base", label)
    if not isinstance(base, str):
        raise RequestError(f"method {label!r}: base = {base!r} is not allowed; use a method's name")
    if base != label and label in registry.method_names():
        raise RequestError(f"method {label!r} is a method of its own and cannot be a variant of {base!r}")
    return base


def _transfers(suite: _SuiteTable, workloads: Sequence[Workload], cells: Sequence[Cell]) -> list[Cell]:
    """The cells that take over what their method found on another workload."""
    names = [w.name for w in workloads]
    found: list[Cell] = []
    for table, workload in zip(suite.workloads, workloads, strict=True):
        if table.transfer is None:
            continue
        origin, chosen = table.transfer.origin, table.transfer.methods or suite.methods
        if origin not in names or origin == workload.name:
            others = ", ".join(name for name in names if name != workload.name) or "none"
            raise RequestError(
                f"workload {workload.name}: transfer from {origin!r} is not possible; available: {others}"
            )
        for name in chosen:
            if name not in suite.methods:
                raise RequestError(f"workload {workload.name}: {unknown('method to transfer', name, suite.methods)}")
        own = {(c.method, c.budget, c.seed, c.recovery): c for c in cells if c.workload.name == workload.name}
        for source in cells:
            here = own.get((source.method, source.budget, source.seed, source.recovery))
            if source.workload.name == origin and source.method in chosen and here is not None:
                found.append(here.model_copy(update={"transfer": source.id}))
    return found


def _recoveries(suite: _SuiteTable, kind: type[Any], own: Any = None) -> list[Recovery]:
    """`own`: what a method's own table says, in place of the suite's."""
    if not kind.needs_dense:
        return ["scratch"]
    if not getattr(kind, "prunes", True):
        return ["finetune"]
    if own is not None:
        for name in own if isinstance(own, list) else [own]:
            if name not in RECOVERIES:
                raise unknown("recovery", str(name), RECOVERIES)
    given = suite.recovery if own is None else own
    if given is None:
        return [kind.recovery if suite.protocol == "paper" else "finetune"]
    chosen: list[Recovery] = given if isinstance(given, list) else [given]
    repeated = next((r for r in chosen if chosen.count(r) > 1), None)
    if repeated is not None:
        raise RequestError(f"recovery lists {repeated!r} twice; every cell may stand only once")
    return chosen


def _workload(table: _WorkloadTable) -> Workload:
    extra = dict(table.model_extra or {})
    kind = registry.task_class(table.task)
    fields = {f.name for f in dataclasses.fields(kind)} - {"dataset", "model"}
    known = sorted(fields | set(_WorkloadTable.model_fields))
    for name in extra:
        if name not in fields:
            near = difflib.get_close_matches(name, known, 1)
            hint = f", did you mean {near[0]!r}?" if near else ";"
            raise RequestError(f"workloads: unknown field {name!r}{hint} allowed: {', '.join(known)}")
    task = registry.make_task(table.task, {"dataset": table.dataset, "model": table.model, **extra})
    options = {k: v for k, v in _plain(task).items() if k not in ("dataset", "model")}
    shared = {"batch_size": table.train["batch_size"]} if "batch_size" in table.train else {}
    return Workload(
        name=table.name or re.sub(r"[^A-Za-z0-9.]+", "-", f"{table.dataset}-{table.model}").strip("-"),
        task=table.task,
        dataset=table.dataset,
        model=table.model,
        options=options,
        epochs=table.epochs,
        train=_recipe("train", kind.recipe, table.train),
        finetune=_recipe("finetune", kind.finetune, {**shared, **table.finetune}),
    )


def _recipe(field: str, default: Recipe, given: Mapping[str, Any]) -> Recipe:
    try:
        return Recipe.model_validate({**default.model_dump(), **given})
    except pydantic.ValidationError as error:
        raise RequestError(f"workloads.{field}: {_explain(error, Recipe)}") from None


def _hyper(name: str, given: Mapping[str, Any], protocol: Protocol) -> dict[str, Any]:
    """All hyper-parameters of a method, as plain values."""
    own = getattr(registry.method_class(name), "paper", {}) if protocol == "paper" else {}
    settings = {key: value for key, value in given.items() if key not in ("base", "recovery")}
    return _plain(registry.make_method(name, {**own, **settings}))


def _plain(adapter: Any) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(adapter)))


def _explain(error: pydantic.ValidationError, model: type[BaseModel]) -> str:
    """The first problem as one sentence: the field, what was given, what is allowed."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"] if not str(part).startswith(("function", "list[", "literal")))
    if first["type"] == "extra_forbidden":
        allowed = _fields_at(model, first["loc"][:-1])
        return f"unknown field {place!r}; allowed: {', '.join(sorted(allowed))}"
    if first["type"] == "missing":
        return f"the field {place!r} is missing"
    given = first["input"]
    shown = repr(given) if not isinstance(given, dict | list) or len(repr(given)) < 60 else f"{repr(given)[:57]}…"
    return f"{place} = {shown} is not allowed: {_lower(first['msg'])}"


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


def _fields_at(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    if "epochs" in place:
        return list(Epochs.model_fields)
    return list(model.model_fields)
