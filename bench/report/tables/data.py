"""What a table is made of, before it is Markdown, CSV, HTML or LaTeX."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

DASH = "–"


@dataclass(frozen=True)
class Num:
    """A number as a reader sees it: rounded, with its spread, perhaps bold."""

    value: float | None
    std: float | None = None
    digits: int = 2
    signed: bool = False
    bold: bool = False

    @property
    def text(self) -> str:
        if self.value is None or not math.isfinite(self.value):
            return DASH
        body = rounded(self.value, self.digits, signed=self.signed).replace("-", "−")
        return body + (f" ± {rounded(self.std, self.digits)}" if self.std is not None else "")


def rounded(value: float, digits: int, *, signed: bool = False) -> str:
    """The value at so many decimal places; zero has no sign."""
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    return text.replace("-", "", 1).replace("+", "", 1) if float(text) == 0 else text


@dataclass(frozen=True)
class Text:
    """Words in a cell; `kind` is how they are set, `link` the id of the entry that they lead to in the page."""

    text: str
    kind: Literal["plain", "control", "alarm"] = "plain"
    link: str = ""


Value = Num | Text


@dataclass(frozen=True)
class Column:
    """A column's heading; `tex` is its heading in LaTeX, already escaped, where that differs."""

    title: str
    numeric: bool
    tex: str = ""

    @property
    def blank(self) -> Value:
        """What stands where there is nothing to say."""
        return Num(None) if self.numeric else Text(DASH)


def numbers(title: str, tex: str = "") -> Column:
    """A column of numbers: set flush right, or at the decimal point."""
    return Column(title, numeric=True, tex=tex)


def words(title: str) -> Column:
    """A column of words: set flush left."""
    return Column(title, numeric=False)


@dataclass(frozen=True)
class Row:
    """One row of a section."""

    values: list[Value]
    link: str = ""
    """Id of the entry whose cells the row's numbers come from."""
    block: Any = None
    """Rows that follow each other and differ in it have a rule between them."""


@dataclass
class Section:
    """The rows of one workload."""

    title: str
    columns: list[Column]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)

    def ruled(self) -> Iterator[tuple[Row, bool]]:
        """Every row, and whether a rule stands above it."""
        for index, row in enumerate(self.rows):
            yield row, index > 0 and row.block != self.rows[index - 1].block


@dataclass
class Table:
    """One kind of table over all workloads, with the unrounded numbers behind it."""

    name: str
    title: str
    caption: str
    sections: list[Section]
    raw: list[dict[str, Any]]
    """Rows of the CSV."""
    on_front_page: bool = True
    """Whether the report's README shows it, and not only links to it."""
