"""`prunebench new method NAME`: an adapter that works as it stands, to be changed into a method."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from bench.errors import RequestError

_ADAPTER = '''"""{title}: say what it does, and cite paper, section and equation.

Published: … Reconstructed: …
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.interface.cell import Recovery
from bench.interface.method import Budget, Context, Found
from bench.interface.task import Task

if TYPE_CHECKING:
    from torch import nn

    from bench.structure.graph import PruningGraph


@dataclass(frozen=True)
class {cls}:
    """Keep the channels whose weights have the largest norms."""

    power: float = 2.0
    """Exponent of the norm. Every field is a hyper-parameter and is part of a cell's identity."""

    searches: ClassVar[bool] = False  # True: train with ctx.train(...), which spends the search's epochs
    needs_dense: ClassVar[bool] = True
    recovery: ClassVar[Recovery] = "finetune"  # the paper's own, used under protocol "paper"
    standing: ClassVar[str] = "say what is published and what is reconstructed"

    def search(self, model: nn.Module, graph: PruningGraph, task: Task, budget: Budget, ctx: Context) -> Found:
        # One score a channel, [C_g] a group. The budget fit removes the lowest until the MACs are on target.
        return Found(scores=graph.channel_scores(model, p=self.power), scope="layer")
'''

_TEST = '''"""The adapter {name}."""

from __future__ import annotations

import pytest

from bench.contract.suite import METHOD_PROPERTIES, MethodTrial
from bench.interface.registry import make_method


@pytest.fixture(scope="module")
def trial() -> MethodTrial:
    return MethodTrial("{name}")


@pytest.mark.parametrize("holds", METHOD_PROPERTIES, ids=lambda p: p.__name__)
def test_contract(trial: MethodTrial, holds) -> None:
    holds(trial)


def test_hyper_parameters() -> None:
    # Replace this by hand-computed values of the method's equations.
    assert make_method("{name}", {{"power": 1.0}}) != make_method("{name}", {{}})
'''


def new(
    kind: Annotated[str, typer.Argument(metavar="method")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower-case letters, digits and dashes.")],
    folder: Annotated[Path, typer.Option("--in", help="The checkout to write to.")] = Path(),
) -> None:
    """A short commented method and its test, registered, which pass `check` as they stand."""
    if kind != "method":
        raise RequestError(f"cannot make a new {kind!r}; available: method")
    for path in new_method(name, folder):
        typer.echo(path)


def new_method(name: str, root: Path) -> list[Path]:
    """Write `methods/NAME.py` and its test below `root`, and register it in `methods/__init__.py`.

    Raises:
        RequestError: a name that is taken or not allowed, or `root` is no checkout; nothing is written then.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise RequestError(f"name {name!r} is not allowed; use lower-case letters, digits and single dashes")
    module = name.replace("-", "_")
    catalogue = root / "methods" / "__init__.py"
    if not catalogue.is_file():
        raise RequestError(
            f"{root.resolve()} is no checkout of prunebench: methods/__init__.py is missing; use --in DIR"
        )
    adapter, test = root / "methods" / f"{module}.py", root / "tests" / "methods" / f"test_{module}.py"
    text = catalogue.read_text("utf-8")
    if re.search(rf'^    "{name}":', text, re.MULTILINE):
        raise RequestError(f"a method named {name!r} exists already")
    for path in (adapter, test):
        if path.exists():
            raise RequestError(f"{path} exists already")
    entry = "CATALOGUE = {\n"
    if entry not in text:
        raise RequestError(f"{catalogue} has no line {entry.strip()!r} to register the method below")
    cls = "".join(part.capitalize() for part in name.split("-"))
    test.parent.mkdir(parents=True, exist_ok=True)
    adapter.write_text(_ADAPTER.format(title=cls, cls=cls), "utf-8")
    test.write_text(_TEST.format(name=name), "utf-8")
    catalogue.write_text(text.replace(entry, f'{entry}    "{name}": "methods.{module}:{cls}",\n', 1), "utf-8")
    return [adapter, test, catalogue]
