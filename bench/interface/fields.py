"""The fields of an adapter as they are declared: default, range and meaning. Imports no torch.

What `list --verbose`, the docs, `check` and `tune` know of hyper-parameters and options comes from here.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import math
import textwrap
import types
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True, kw_only=True)
class AdapterField:
    """One field of an adapter's class."""

    name: str
    kind: str
    """`number`, `whole number`, `yes or no`, `choice`, `text` or `list`."""
    default: Any
    required: bool = False
    """Whether there is no default."""
    meaning: str = ""
    """The sentences below the field in its class."""
    choices: tuple[Any, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    open_ends: tuple[bool, bool] = (False, False)
    """Whether `low` and `high` themselves are left out."""
    nothing: bool = False
    """Whether None is allowed."""

    @property
    def range(self) -> str:
        """The values that are allowed, in words."""
        if self.kind == "choice":
            words = " | ".join(str(choice) for choice in self.choices)
        elif self.kind in ("number", "whole number"):
            words = _interval(self.kind, self.low, self.high, self.open_ends)
        else:
            words = {"yes or no": "true | false"}.get(self.kind, self.kind)
        return words + (" | none" if self.nothing else "")

    def allows(self, value: float) -> bool:
        """Whether a number lies inside the range."""
        above = value > self.low if self.open_ends[0] else value >= self.low
        return above and (value < self.high if self.open_ends[1] else value <= self.high)

    def others(self) -> list[Any]:
        """Values that differ from the default, those that are most like it first; none of a text or a list."""
        if self.kind == "yes or no":
            found: list[Any] = [value for value in (True, False) if value != self.default]
        elif self.kind == "choice":
            found = [value for value in self.choices if value != self.default]
        elif self.kind in ("number", "whole number"):
            found = self._other_numbers()
        else:
            found = []
        return found + [None] * (self.nothing and self.default is not None)

    def _other_numbers(self) -> list[Any]:
        default = self.default if isinstance(self.default, int | float) else None
        start = 1.0 if default is None else float(default)
        near = [1.25 * start, 0.8 * start, start + 1, start - 1]
        near += [(start + end) / 2 for end in (self.low, self.high) if math.isfinite(end)]
        if self.kind == "whole number":
            near = [start + 1, start - 1, *map(round, near)]
        elif default is None:
            near = [start, *near]
        values = [int(value) if self.kind == "whole number" else float(f"{value:.6g}") for value in near]
        return list(dict.fromkeys(value for value in values if self.allows(value) and value != default))


def fields_of(kind: type[Any]) -> list[AdapterField]:
    """The fields of an adapter's class, in the order in which they are declared.

    Raises:
        TypeError: the class is no dataclass.
    """
    hints, meanings = get_type_hints(kind, include_extras=True), meanings_of(kind)
    return [_field(field, hints[field.name], meanings.get(field.name, "")) for field in dataclasses.fields(kind)]


def _field(field: dataclasses.Field[Any], hint: Any, meaning: str) -> AdapterField:
    default, required = field.default, False
    if default is dataclasses.MISSING:
        required = field.default_factory is dataclasses.MISSING
        default = None if required else field.default_factory()  # pyright: ignore[reportCallIssue]
    hint, nothing = _without_none(hint)
    base, limits = _unwrapped(hint)
    return AdapterField(
        name=field.name,
        kind=_kind(base),
        default=default,
        required=required,
        meaning=meaning,
        choices=get_args(base) if get_origin(base) is Literal else (),
        nothing=nothing,
        **_ends(limits),
    )


def _without_none(hint: Any) -> tuple[Any, bool]:
    """A hint without its `| None`, and whether it had one."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint, False
    others = [part for part in get_args(hint) if part is not type(None)]
    nothing = len(others) < len(get_args(hint))
    return (others[0] if len(others) == 1 else hint), nothing


def _unwrapped(hint: Any) -> tuple[Any, list[Any]]:
    """A hint without `Annotated`, and the limits that it states."""
    if get_origin(hint) is not Annotated:
        return hint, []
    base, *extras = get_args(hint)
    return base, [limit for extra in extras for limit in getattr(extra, "metadata", [extra])]


def _ends(limits: Iterable[Any]) -> dict[str, Any]:
    low, high, below, above = -math.inf, math.inf, False, False
    for limit in limits:
        for name, strict in (("ge", False), ("gt", True)):
            if getattr(limit, name, None) is not None:
                low, below = float(getattr(limit, name)), strict
        for name, strict in (("le", False), ("lt", True)):
            if getattr(limit, name, None) is not None:
                high, above = float(getattr(limit, name)), strict
    return {"low": low, "high": high, "open_ends": (below, above)}


def interval(kind: str, limits: Iterable[Any]) -> str:
    """`number, > 0, ≤ 1`: a kind of number and the limits that its annotation states, in words."""
    return _interval(kind, **_ends(limits))


def _interval(kind: str, low: float, high: float, open_ends: tuple[bool, bool]) -> str:
    ends = [
        f"{'>' if open_ends[0] else '≥'} {_exactly(low)}" if math.isfinite(low) else "",
        f"{'<' if open_ends[1] else '≤'} {_exactly(high)}" if math.isfinite(high) else "",
    ]
    return ", ".join([kind, *filter(None, ends)])


def _exactly(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


def _kind(base: Any) -> str:
    if get_origin(base) is Literal:
        return "choice"
    return {bool: "yes or no", int: "whole number", float: "number", str: "text"}.get(base, "list")


def meanings_of(kind: type[Any]) -> dict[str, str]:
    """What stands below each field in the source of its class, a dataclass or a model of pydantic.

    Fields of a class without source have none.
    """
    found: dict[str, str] = {}
    for cls in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(cls) and not getattr(cls, "model_fields", None):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
        except (OSError, TypeError, SyntaxError):
            continue
        body = next((node.body for node in tree.body if isinstance(node, ast.ClassDef)), [])
        for node, after in itertools.pairwise(body):
            if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
                continue
            if (
                isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
                and isinstance(after.value.value, str)
            ):
                found[node.target.id] = " ".join(after.value.value.split())
    return found
