"""Reads a suite file into validated cells, and picks cells of it. Imports no torch: `plan` answers at once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pydantic

from bench.errors import RequestError, unknown
from bench.interface.cell import Cell
from bench.runs.expand import expand
from bench.runs.suite_table import SuiteTable, explained

_SHIPPED = files("bench.runs") / "suites"


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A validated suite: its cells, in the order in which they are run."""

    name: str
    description: str
    cells: tuple[Cell, ...]


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
        return Suite(name=parsed.name, description=parsed.description, cells=tuple(expand(parsed)))
    except pydantic.ValidationError as error:
        raise RequestError(f"{where}: {explained(error, SuiteTable)}") from None
    except RequestError as error:
        raise RequestError(f"{where}: {error}") from None


def select(cells: Sequence[Cell], only: Sequence[str]) -> list[Cell]:
    """The cells that match every `KEY=VALUE`; several values of one key are alternatives.

    Raises:
        RequestError: an unknown key, or nothing matches.
    """
    keys = {
        "method": lambda c: c.plain_method,
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
    chosen = [
        c
        for c in cells
        if all(keys[key](c) in values or (key == "method" and c.method in values) for key, values in wanted.items())
    ]
    if not chosen:
        present = "; ".join(f"{key}: {', '.join(sorted({keys[key](c) for c in cells}))}" for key in wanted)
        raise RequestError(f"--only {' --only '.join(only)} matches no cell of this suite; it has {present}")
    return chosen


def _read(name: str) -> tuple[str, dict[str, Any]]:
    path = Path(name)
    if path.suffix.lower() != ".toml":
        resource = _SHIPPED / f"{name}.toml"
        if not re.fullmatch(r"[\w.-]+", name) or not resource.is_file():
            raise RequestError(f"{unknown('suite', name, shipped())}; or give the path of a .toml file")
        where, text = f"suite {name!r}", resource.read_text("utf-8")
    else:
        where = str(path)
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


def _override(table: dict[str, Any], text: str) -> None:
    key, equals, raw = text.partition("=")
    if not equals or not key:
        raise RequestError(f"--set {text!r} is not allowed; use KEY=VALUE, for instance budgets=[0.5]")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw  # a bare word is a string
    if key in ("budgets", "seeds"):
        return _set_for_all(table, key, value)
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
