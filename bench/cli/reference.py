"""The pages of docs/ that are made from the code: api.md, commands.md, settings.md and suites.md.

python -m bench.cli.reference docs    # writes them into a folder
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bench.cli import settings
from bench.cli.app import COMMANDS, app
from bench.cli.reference_api import api_document
from bench.cli.settings import plain_text, table
from bench.interface import registry
from bench.interface.cell import Epochs, LatencyPlan, Recipe, Tuning
from bench.interface.fields import interval, meanings_of
from bench.runs.resources import Resources
from bench.runs.suite_table import SuiteTable, SweepTable, TransferTable, WorkloadTable

SUITE_SECTIONS: Mapping[type[BaseModel], str] = {
    SuiteTable: "The top of the file",
    WorkloadTable: "[[workloads]]",
    Epochs: "epochs",
    Recipe: "train and finetune",
    TransferTable: "transfer",
    LatencyPlan: "latency",
    Tuning: "tuning",
    SweepTable: "[sweep]",
    Resources: "[resources]",
}
"""The models behind a suite file, in the order of the page."""
AFTER: Mapping[type[BaseModel], str] = {
    WorkloadTable: "Every other field is an option of the task: [settings.md](settings.md#tasks).",
    Tuning: "Of `[method.NAME]`, where `prunebench tune` chose its fields ([adapters.md](adapters.md#tuning)).",
    Epochs: "`epochs = { dense = 30, search = 10, recovery = 15 }` in a workload's table. Whether `search` is used, "
    "and what `recovery` comes to, is in [protocol.md](protocol.md#epochs-and-rates-under-matched).",
    TransferTable: "In a workload's table. How groups are matched is in "
    "[methods.md](methods.md#recovery-transfer-and-the-dense-network-trained-longer).",
    SweepTable: "Every combination of the values is a method of its own in tables "
    "([adapters.md](adapters.md#fields-variants-sweeps)).",
    Resources: "`--resource KEY=VALUE` goes before it. What comes of it where is in [scale.md](scale.md#devices).",
}
"""What follows a section's table."""
METHOD = """## `[method.NAME]`

NAME is one of `methods` or `controls`, or a variant's label. Beside the method's own fields
([settings.md](settings.md#methods)) a table takes:

| field | type and range | default | meaning |
| --- | --- | --- | --- |
| `base` | text | NAME itself | The method behind a variant's label. |
| `recovery` | as the suite's | the suite's | In place of the suite's, for this method. |
| `tuning` | table | none | What it cost to find the other fields. |
"""


def suites_document() -> str:
    """The whole of docs/suites.md."""
    lines = [
        "# Suite files",
        "",
        "A suite is a TOML file that says what is run. Every field is checked before anything runs, and an unknown one "
        "is refused with the names that are known. This page is made from the classes that check it, by "
        "`make reference`. What `--set` and `--seeds` change of a suite, and what `--only` chooses, is in "
        "[commands.md](commands.md#prunebench-run).",
        "",
        "```toml",
        'name = "my-comparison"',
        'methods = ["l1", "dais"]',
        "budgets = [0.5]",
        "seeds = [0, 1, 2]",
        "",
        "[[workloads]]",
        'task = "classification"',
        'dataset = "digits"',
        'model = "resnet8"',
        "epochs = { dense = 4, search = 3, recovery = 3 }",
        "train = { batch_size = 64 }",
        "",
        "[method.dais]",
        "travel = 8.0",
        "```",
        "",
    ]
    for model, title in SUITE_SECTIONS.items():
        lines += [f"## {f'`{title}`' if title[0] == '[' else title}", "", _about(model), "", *model_table(model), ""]
        lines += [AFTER[model], ""] if model in AFTER else []
        lines += [*_recipes(), ""] if model is Recipe else []
        lines += [METHOD] if model is TransferTable else []
    return "\n".join(lines).rstrip("\n") + "\n"


def _about(model: type[BaseModel]) -> str:
    """The model's docstring, without the name that its section has already."""
    text = " ".join((model.__doc__ or "").split()).removeprefix(f"`{SUITE_SECTIONS[model]}`: ")
    return text[:1].upper() + text[1:]


def model_table(model: type[BaseModel]) -> Iterator[str]:
    """Every field of a model, a row each."""
    hints, meanings = get_type_hints(model, include_extras=True), meanings_of(model)
    rows = []
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else _default(field)
        rows.append([f"`{field.alias or name}`", words(hints[name]), default, meanings.get(name, "")])
    yield from table(("field", "type and range", "default", "meaning"), rows)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return "empty" if isinstance(value, dict | BaseModel) or value == "" else plain_text(value)


def words(hint: Any, limits: tuple[Any, ...] = ()) -> str:
    """A type and its range in words: `number, > 0, ≤ 1`."""
    if get_origin(hint) is Annotated:
        base, *extras = get_args(hint)
        return words(base, tuple(limit for extra in extras for limit in getattr(extra, "metadata", [extra])))
    if get_origin(hint) in (Union, types.UnionType):
        return ", or ".join(words(part) for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is Literal:
        return " | ".join(map(str, get_args(hint)))
    if get_origin(hint) in (list, tuple):
        least = next((limit.min_length for limit in limits if hasattr(limit, "min_length")), 0)
        inner = words(get_args(hint)[0])
        return f"list of: {inner}" + f"; at least {least}" * bool(least)
    if get_origin(hint) is dict or hint is dict or (isinstance(hint, type) and issubclass(hint, BaseModel)):
        return "table"
    if hint in (int, float):
        return interval({int: "whole number", float: "number"}[hint], limits)
    if hint is str:
        pattern = next((limit.pattern for limit in limits if getattr(limit, "pattern", None)), None)
        return "text" if pattern is None else f"text, as `{pattern}`"
    return {bool: "true | false"}.get(hint, "any value")


def _recipes() -> Iterator[str]:
    """What the tasks' own recipes change of the defaults."""
    yield "Tasks have defaults of their own where this table names them, and those above elsewhere:"
    yield ""
    plain = Recipe()
    rows = []
    for name in sorted(registry.task_names().ours):
        kind = registry.task_class(name)
        for place, recipe in (("train", kind.recipe), ("finetune", kind.finetune)):
            changed = {key: value for key, value in recipe if value != getattr(plain, key)}
            told = ", ".join(f"`{key} = {plain_text(value)}`" for key, value in changed.items())
            rows.append([name, f"`{place}`", told or "as above"])
    yield from table(("task", "recipe", "defaults"), rows)


def commands_document() -> str:
    """The whole of docs/commands.md."""
    lines = [
        "# Commands",
        "",
        "`prunebench COMMAND --help` shows the same; this page is made from the commands by `make reference`. "
        "`prunebench` and `python -m prunebench` are one program, and `--install-completion` teaches the shell its "
        "names. What is being done is told on stderr, on a terminal in a line that changes, elsewhere line by line. A "
        "request that is wrong ends with one sentence on stderr and exit code 2, an interrupted one with 130.",
        "",
    ]
    group: Any = typer.main.get_command(app)
    for name in COMMANDS:
        command = group.get_command(None, name)
        shown = [p for p in command.params if not p.hidden and p.name != "help"]
        arguments = [p for p in shown if p.param_type_name == "argument"]
        options = [p for p in shown if p.param_type_name == "option"]
        usage = [f"prunebench {name}", *(_metavar(p) + "…" * (p.nargs == -1) for p in arguments)]
        lines += [f"## prunebench {name}", "", "```text", " ".join([*usage, *["[OPTIONS]"] * bool(options)]), "```", ""]
        lines += [*_paragraphs(command.help or ""), ""]
        if any(p.help for p in arguments):
            lines += [*table(("argument", "meaning"), [[f"`{_metavar(p)}`", p.help or ""] for p in arguments]), ""]
        if options:
            lines += [*table(("option", "default", "meaning"), [_option(p) for p in options]), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(text.split("\n\n")):
        yield from ([""] if number else [])
        yield " ".join(paragraph.split())


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _option(parameter: Any) -> list[str]:
    kind = parameter.type_descriptor.annotation
    value = "" if kind is bool else f" {parameter.metavar or _kind(kind)}"
    given = [*reversed(parameter.opts), *parameter.secondary_opts]
    names = ", ".join(f"`{name}{value if name.startswith('--') else ''}`" for name in given)
    meaning = [
        parameter.help or "",
        "Can be given several times." if parameter.multiple else "",
        f"Or the variable `{parameter.envvar}`." if parameter.envvar else "",
    ]
    return [names, _option_default(parameter, kind), " ".join(filter(None, meaning))]


def _option_default(parameter: Any, kind: Any) -> str:
    if parameter.required:
        return "required"
    if kind is bool:
        return f"`{parameter.opts[-1]}`" if parameter.default else ""
    return "" if parameter.default in (None, ()) else f"`{parameter.default}`"


def _kind(kind: Any) -> str:
    return {int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}.get(kind, "TEXT")


PAGES = {
    "api.md": api_document,
    "commands.md": commands_document,
    "settings.md": settings.document,
    "suites.md": suites_document,
}
"""File -> what makes its text."""


def write_pages(folder: Path) -> None:
    """Write all of `PAGES` into a folder, once each of them could be made."""
    made = {folder / name: make() for name, make in PAGES.items()}
    for path, text in made.items():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
