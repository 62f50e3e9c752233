"""Reads a suite file into validated cells, and picks cells of it. Imports no torch: `plan` answers at once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import pydantic

from bench.errors import RequestError, did_you_mean, unknown
from bench.interface.cell import Cell
from bench.runs.expand import expand
from bench.runs.resources import Resources
from bench.runs.suite_table import SuiteTable, explained

_SHIPPED = files("bench.runs") / "suites"


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A validated suite: its cells, in the order in which they are run."""

    name: str
    description: str
    cells: tuple[Cell, ...]
    resources: Resources = field(default_factory=Resources)
    """What each cell is computed on, where an invocation says nothing else."""


def shipped() -> dict[str, str]:
    """Suites that come with the package: name -> description."""
    found: dict[str, str] = {}
    for file in sorted(_SHIPPED.iterdir(), key=lambda f: f.name):
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
    where, table = _read(name)
    for override in overrides:
        _override(table, override)
    if seeds is not None:
        if seeds < 1:
            raise RequestError(f"--seeds {seeds} is not allowed; use 1 or more")
        _set_for_all(table, "seeds", list(range(seeds)))
    return suite_from_table(table, where)


def suite_from_table(table: Mapping[str, Any], where: str) -> Suite:
    """A suite from the table that its TOML file holds.

    Args:
        where: the file, as messages name it.

    Raises:
        RequestError: naming the file, the field, what was given and what is allowed.
    """
    try:
        parsed = SuiteTable.model_validate(table)
        return Suite(
            name=parsed.name,
            description=parsed.description,
            cells=tuple(expand(parsed)),
            resources=parsed.resources,
        )
    except pydantic.ValidationError as error:
        raise RequestError(f"{where}: {explained(error, SuiteTable, table)}") from None
    except RequestError as error:
        raise RequestError(f"{where}: {error}") from None


_KEYS: Mapping[str, Callable[[Cell], str]] = {
    "method": lambda c: c.method,
    "seed": lambda c: str(c.seed),
    "budget": lambda c: f"{c.budget:g}",
    "workload": lambda c: c.workload.name,
    "task": lambda c: c.workload.task,
    "dataset": lambda c: c.workload.dataset,
    "model": lambda c: c.workload.model,
    "recovery": lambda c: c.recovery,
    "ablation": lambda c: c.ablation or "none",
    "cell": lambda c: c.id,
}
"""What cells can be picked by."""

_NEXT_KEY = re.compile(rf",\s*(?=(?:{'|'.join(_KEYS)})\s*=)")
"""A comma of `--only` behind which another key begins."""


def _values(key: str, cell: Cell) -> set[str]:
    """What a cell can be picked by under a key; swept and tuned methods also by their plain name."""
    return {_KEYS[key](cell), cell.plain_method} if key == "method" else {_KEYS[key](cell)}


def select(cells: Sequence[Cell], only: Sequence[str]) -> list[Cell]:
    """The cells that match every `KEY=VALUE`; several values of one key, also `KEY=A,B`, are alternatives.

    `KEY=A,OTHER=B` in one text is both of them.

    Raises:
        RequestError: an unknown key, a value that no cell has, or nothing matches.
    """
    wanted: dict[str, set[str]] = {}
    labels = {f"method={cell.method}" for cell in cells}  # a swept one has commas and signs of equality itself
    for item in [part for given in only for part in ([given] if given in labels else _NEXT_KEY.split(given))]:
        key, equals, text = item.partition("=")
        key = key.strip()
        if not equals or key not in _KEYS:
            near = did_you_mean(key, _KEYS) or ";"
            raise RequestError(f"--only {item!r} is not allowed{near} use KEY=VALUE with KEY one of {', '.join(_KEYS)}")
        present = {value for c in cells for value in _values(key, c)}
        # A value may hold a comma itself, as the name of a network does.
        for value in [text.strip()] if text.strip() in present else [part.strip() for part in text.split(",")]:
            if key == "budget":
                value = _as_budget(value, item)
            if value not in present:
                near = did_you_mean(value, present) or ";"
                raise RequestError(
                    f"--only {key}={value} matches no cell of this suite{near} it has {key}: {_listed(present)}"
                )
            wanted.setdefault(key, set()).add(value)
    chosen = [c for c in cells if all(not values.isdisjoint(_values(key, c)) for key, values in wanted.items())]
    if not chosen:
        raise RequestError(
            f"--only {' --only '.join(only)} matches no cell of this suite, though some have each of these"
        )
    return chosen


def _as_budget(value: str, item: str) -> str:
    try:
        return f"{float(value):g}"
    except ValueError:
        raise RequestError(f"--only {item!r} is not allowed: {value!r} is no number") from None


def _listed(values: Iterable[str]) -> str:
    """Names in order, the first twenty of them."""
    names = sorted(values)
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _read(name: str) -> tuple[str, dict[str, Any]]:
    path = Path(name)
    if path.suffix.lower() != ".toml":
        resource = _SHIPPED / f"{name}.toml"
        if not re.fullmatch(r"[\w.-]+", name) or not resource.is_file():
            raise RequestError(f"{unknown('suite', name, shipped())}; or give the path of a .toml file")
        where, text = f"suite {name!r}", resource.read_text("utf-8")
    else:
        where = str(path)
        if not path.exists():
            raise RequestError(f"there is no suite file {path}; give a .toml file, or one of {', '.join(shipped())}")
        try:
            text = path.read_text("utf-8-sig")  # some editors begin a file with a byte-order mark
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise RequestError(f"suite file {path} cannot be read: {reason}") from None
    try:
        return where, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"{where} is not valid TOML: {error}") from None


def _set_for_all(table: dict[str, Any], field: str, value: Any) -> None:
    """Set a field of the suite in place of what single workloads say."""
    table[field] = value
    workloads = table.get("workloads")
    for workload in workloads if isinstance(workloads, list) else []:
        if isinstance(workload, dict):
            workload.pop(field, None)


_LISTS = frozenset({"methods", "controls", "budgets", "seeds", "protect"})
"""Fields that are lists, so that one value stands for a list of one, and commas separate several."""


def _override(table: dict[str, Any], text: str) -> None:
    key, equals, raw = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise RequestError(f"--set {text!r} is not allowed; use KEY=VALUE, for instance budgets=[0.5]")
    *parents, last = key.split(".")
    value = (
        _as_list(raw)
        if last in _LISTS or parents[-1:] == ["latency"] or (last == "recovery" and "," in raw)
        else _as_value(raw)
    )
    if key in ("budgets", "seeds"):
        return _set_for_all(table, key, value)
    node: Any = table
    try:
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        if isinstance(node, list):
            node[int(last)] = value
        else:
            node[last] = value
    except (ValueError, IndexError, TypeError, AttributeError):
        raise RequestError(f"--set {text!r} is not allowed: {key!r} is no field of a suite") from None


def _as_value(raw: str) -> Any:
    """A value as TOML writes it, a list of bare words, or a bare word, which is a string."""
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        text = raw.strip()
        return _as_list(text) if text.startswith("[") and text.endswith("]") else raw


def _as_list(raw: str) -> Any:
    """A list as TOML writes it, or with bare words, with or without brackets; one value is a list of one."""
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
        return value if isinstance(value, list | dict) else [value]
    except tomllib.TOMLDecodeError:
        text = raw.strip()
        inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        return [_as_word(part.strip()) for part in inner.split(",") if part.strip()]


def _as_word(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
