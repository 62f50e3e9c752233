"""The fields of methods and tasks, with defaults, ranges and meanings, as `list --verbose` and the docs show them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from bench.interface import registry
from bench.interface.fields import AdapterField, fields_of
from bench.interface.method import paper_settings

HEADER = ("field", "default", "range", "meaning")


def setting(field: AdapterField) -> dict[str, Any]:
    """A field as plain values."""
    return {"field": field.name, "default": default_text(field), "range": field.range, "meaning": field.meaning}


def default_text(field: AdapterField) -> str:
    """The default as TOML writes it; "required" where there is none."""
    if field.required:
        return "required"
    return plain_text(field.default)


def plain_text(value: Any) -> str:
    """A value as TOML writes it, `none` for what TOML has no word for."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(plain_text, value))}]"
    return f"{value:g}" if isinstance(value, float) and value != int(value) else str(value)


def document() -> str:
    """The whole of docs/settings.md."""
    lines = [
        "# Settings of methods and tasks",
        "",
        "Made from the classes by `make reference`; `prunebench list methods --verbose` and `list tasks "
        "--verbose` show the same, with adapters of other packages. A suite sets a method's fields in `[method.NAME]` "
        "and a task's in `[[workloads]]`. Under protocol `paper` other defaults hold where a method names them.",
        "",
        "## Methods",
        *_sections(registry.method_names().ours, registry.method_class),
        "",
        "## Tasks",
        *_sections(registry.task_names().ours, registry.task_class),
    ]
    return "\n".join(lines) + "\n"


def _sections(names: Iterator[str] | frozenset[str], load: Any) -> Iterator[str]:
    for name in sorted(names):
        kind = load(name)
        doc = " ".join((kind.__doc__ or "").split())
        yield from ("", f"### {name}", "", doc, "")
        fields = fields_of(kind)
        if not fields:
            yield "No fields."
            continue
        shown = [setting(field) for field in fields]
        yield from table(HEADER, [[f"`{row['field']}`", *(str(row[key]) for key in HEADER[1:])] for row in shown])
        paper = ", ".join(f"{key} = {plain_text(value)}" for key, value in paper_settings(kind).items())
        if paper:
            yield from ("", f"Under protocol `paper`: {paper}.")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table in Markdown."""
    for row in (header, ["---"] * len(header), *rows):
        yield f"| {' | '.join(map(_escaped, row))} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("_", "\\_") if "`" not in text else text.replace("|", "\\|")
