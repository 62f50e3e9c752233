"""`prunebench list`: what there is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any

import typer

from bench.cli.lines import print_table
from bench.cli.options import Json
from bench.errors import RequestError, choices
from bench.interface import registry
from bench.runs.suite import shipped

KINDS = ("methods", "tasks", "models", "datasets", "suites")


def list_names(
    what: Annotated[str, typer.Argument(metavar="methods|tasks|models|datasets|suites")], json_: Json = False
) -> None:
    """What there is, one line each."""
    rows = _named(what)
    if json_:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        print_table(tuple(rows[0]), [tuple(row.values()) for row in rows])


def _named(what: str) -> list[dict[str, str]]:
    """Names of this kind, each with facts about it."""
    rows: list[dict[str, str]] = []
    if what == "methods":
        for name, kind in _usable(registry.method_names(), registry.method_class):
            role = "control" if name in registry.control_names() else "method"
            rows.append({"name": name, "role": role, "description": _first_line(kind), "standing": kind.standing})
    elif what == "tasks":
        for name, kind in _usable(registry.task_names(), registry.task_class):
            rows.append({"name": name, "metric": kind.metric, "description": _first_line(kind)})
    elif what in ("models", "datasets"):
        for task, kind in _usable(registry.task_names(), registry.task_class):
            for name, text in getattr(kind, what)().items():
                rows.append({"name": name, "task": task, "description": text})
    elif what == "suites":
        rows = [{"name": name, "description": text} for name, text in shipped().items()]
    else:
        raise RequestError(f"cannot list {what!r}{choices(what, KINDS)}")
    return rows


def _usable(names: Iterable[str], load: Callable[[str], type[Any]]) -> Iterator[tuple[str, type[Any]]]:
    """Adapters by name; those of other packages that cannot be loaded are named on stderr and left out."""
    for name in names:
        try:
            yield name, load(name)
        except RequestError as error:
            typer.echo(f"prunebench: {error}", err=True)


def _first_line(kind: type[Any]) -> str:
    return next(iter((kind.__doc__ or "").strip().splitlines()), "")
