"""`prunebench list`: what there is."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Annotated, Any

import typer

from bench.cli.lines import print_table
from bench.cli.options import Json
from bench.cli.settings import HEADER, setting
from bench.errors import RequestError, choices, reason_of
from bench.interface import registry
from bench.interface.fields import fields_of
from bench.runs.suite import shipped

KINDS = ("methods", "tasks", "models", "datasets", "suites")


def list_names(
    what: Annotated[str, typer.Argument(metavar="methods|tasks|models|datasets|suites")],
    json_: Json = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Every field of methods and tasks: default, range and meaning.")
    ] = False,
) -> None:
    """What there is, one line each."""
    if verbose and what not in ("methods", "tasks"):
        raise RequestError(f"--verbose is not allowed for {what!r}; methods and tasks have fields")
    rows = _named(what)
    if verbose:
        load = registry.method_class if what == "methods" else registry.task_class
        full = [{**row, "fields": list(map(setting, fields_of(load(row["name"]))))} for row in rows]
        if json_:
            typer.echo(json.dumps(full, indent=2, ensure_ascii=False))
        else:
            _print_fields(full)
    elif json_:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        print_table(tuple(rows[0]), [tuple(row.values()) for row in rows])


def _print_fields(rows: Sequence[dict[str, Any]]) -> None:
    """Each adapter with a table of its fields; meanings are broken over lines."""
    for row in rows:
        typer.echo(f"{row['name']}: {row['description']}")
        if "standing" in row:
            typer.echo(f"  {row['standing']}")
        widths = [max((len(str(f[key])) for f in row["fields"]), default=0) for key in HEADER[:3]]
        for f in row["fields"]:
            start = "  " + "  ".join(str(f[key]).ljust(width) for key, width in zip(HEADER, widths, strict=False))
            lines = textwrap.wrap(f["meaning"], max(40, 118 - len(start))) or [""]
            typer.echo(f"{start}  {lines[0]}".rstrip())
            for line in lines[1:]:
                typer.echo(" " * (len(start) + 2) + line)
        typer.echo()


def _named(what: str) -> list[dict[str, str]]:
    """Names of this kind, each with facts about it."""
    if what == "methods":
        return list(_usable(registry.method_names(), registry.declared_method, _method_rows))
    if what == "tasks":
        return list(_usable(registry.task_names(), registry.declared_task, _task_rows))
    if what in ("models", "datasets"):
        return list(_usable(registry.task_names(), registry.declared_task, partial(_part_rows, what)))
    if what == "suites":
        return [{"name": name, "description": text} for name, text in shipped().items()]
    raise RequestError(f"cannot list {what!r}{choices(what, KINDS)}")


def _method_rows(name: str, kind: type[Any]) -> list[dict[str, str]]:
    role = "control" if name in registry.control_names() else "method"
    return [{"name": name, "role": role, "description": _first_line(kind), "standing": kind.standing}]


def _task_rows(name: str, kind: type[Any]) -> list[dict[str, str]]:
    return [{"name": name, "metric": kind.metric, "description": _first_line(kind)}]


def _part_rows(what: str, task: str, kind: type[Any]) -> list[dict[str, str]]:
    return [{"name": name, "task": task, "description": str(text)} for name, text in getattr(kind, what)().items()]


def _usable(
    names: Iterable[str],
    load: Callable[[str], type[Any]],
    rows: Callable[[str, type[Any]], list[dict[str, str]]],
) -> Iterator[dict[str, str]]:
    """What `rows` says of each adapter; one of another package that cannot be used is named on stderr and left out."""
    for sentence in registry.clashes():
        typer.echo(f"prunebench: {sentence}", err=True)
    for name in names:
        try:
            yield from rows(name, load(name))
        except RequestError as error:
            typer.echo(f"prunebench: {error}", err=True)
        except Exception as error:  # whatever another package's adapter does when it is asked
            typer.echo(f"prunebench: adapter {name!r} cannot be listed: {reason_of(error)}", err=True)


def _first_line(kind: type[Any]) -> str:
    return next(iter((kind.__doc__ or "").strip().splitlines()), "")
