"""Functions and classes as they are written: to import them would load what they use."""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from importlib.abc import InspectLoader

Definition = ast.FunctionDef | ast.ClassDef


def definition(module: str, name: str) -> Definition:
    """A function or class of a module, as it is written.

    Raises:
        LookupError: there is none.
    """
    for node in _tree(module).body:
        if isinstance(node, Definition) and node.name == name:
            return node
    raise LookupError(f"{module} defines no {name}")


def first_paragraph(node: Definition) -> str:
    """The first paragraph of the docstring, on one line."""
    return " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())


@cache
def _tree(module: str) -> ast.Module:
    spec = importlib.util.find_spec(module)
    source = spec.loader.get_source(module) if spec and isinstance(spec.loader, InspectLoader) else None
    return ast.parse(source or "")
