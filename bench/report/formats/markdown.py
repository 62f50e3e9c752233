"""Tables as Markdown."""

from __future__ import annotations

from html import escape

from bench.report.tables.data import Num, Section, Table, Value


def md_escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    text = escape(" ".join(str(text).split()), quote=False)
    for sign in "\\`*_[]|~$":
        text = text.replace(sign, "\\" + sign)
    return text


def to_markdown(table: Table, level: int = 2) -> str:
    """The table under its own heading."""
    lines = [f"{'#' * level} {table.title}", "", table.caption, ""]
    for section in table.sections:
        lines += section_markdown(section, level + 1)
    return "\n".join(lines).rstrip() + "\n"


def section_markdown(section: Section, level: int) -> list[str]:
    """One section's lines, under a heading of that level where the section has a title."""
    lines = [f"{'#' * level} {md_escape(section.title)}", ""] if section.title else []
    lines.append("| " + " | ".join(column.title for column in section.columns) + " |")
    lines.append("|" + "|".join(" ---: " if column.numeric else " :--- " for column in section.columns) + "|")
    lines += ["| " + " | ".join(_value(value) for value in row.values) + " |" for row in section.rows]
    lines.append("")
    for note in section.notes:
        lines += [md_escape(note), ""]
    return lines


def _value(value: Value) -> str:
    if isinstance(value, Num):
        return f"**{value.text}**" if value.bold and value.value is not None else value.text
    body = md_escape(value.text)
    return {"control": f"*{body}*", "alarm": f"⚠ {body}"}.get(value.kind, body)
