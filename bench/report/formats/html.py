"""Tables as HTML, for the page."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from bench.report.tables.data import Column, Num, Row, Section, Text, Value


def section_html(section: Section, number: Callable[[str], int | None]) -> str:
    """A section as an HTML table; a row leads to the cells of its entry, by the entry's number in the page."""
    head = "".join(f"<th scope=col{_class(column)}>{escape(column.title)}</th>" for column in section.columns)
    body = "".join(_row(row, section.columns, number(row.link), ruled=ruled) for row, ruled in section.ruled())
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _row(row: Row, columns: list[Column], entry: int | None, *, ruled: bool) -> str:
    attributes = (f" data-entry={entry}" if entry is not None else "") + (" class=rule" if ruled else "")
    cells = []
    for column, value in zip(columns, row.values, strict=True):
        content = html_value(value)
        if entry is not None and isinstance(value, Text) and value.link:
            content = f'<a href="#entry={entry}">{content}</a>'
        cells.append(f"<td{_class(column)}>{content}</td>")
    return f"<tr{attributes}>{''.join(cells)}</tr>"


def _class(column: Column) -> str:
    return " class=num" if column.numeric else ""


def html_value(value: Value) -> str:
    """One cell's content, escaped."""
    body = escape(value.text)
    if isinstance(value, Num):
        return f"<b>{body}</b>" if value.bold and value.value is not None else body
    if value.kind == "control":
        return f"<i>{body}</i>"
    return f'<span class="alarm">{body}</span>' if value.kind == "alarm" else body
