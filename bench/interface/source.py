"""The hash of a method's source: what tells results of one version of it from those of another. Imports no torch.

It is recorded with each cell and is no part of the cell's identity: a changed method gives the same cell another
result, which `prunebench run` says.
"""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from bench.interface import registry
from bench.interface.module_source import spec_of

BUILT_IN = frozenset({"methods", "tasks", "bench"})
"""Packages of this project, in which a method is one file; in another, all files of its package belong to it."""


@cache
def source_hash(method: str) -> str:
    """12 hexadecimal digits of the SHA-256 of a method's code, without comments, docstrings and blank lines.

    A method of this project is its own file; that of another package is all Python files of the package. "" where there
    is no source to read.

    Raises:
        RequestError: there is no method of that name.
    """
    registry.method_class(method)  # refuses an unknown name, and one that cannot be loaded
    files = source_files(registry.method_names()[method].partition(":")[0])
    found = hashlib.sha256()
    for name, path in files.items():
        found.update(f"{name}\n{code_of(path.read_text('utf-8', 'replace'))}\n".encode())
    return found.hexdigest()[:12] if files else ""


def source_files(module: str) -> dict[str, Path]:
    """The Python files that a method's code is in, by their names inside its package."""
    top = module.partition(".")[0]
    spec = spec_of(module if top in BUILT_IN else top)
    if spec is None:
        return {}
    if top not in BUILT_IN and spec.submodule_search_locations:
        folders = [Path(folder) for folder in spec.submodule_search_locations]
        return {str(p.relative_to(folder)): p for folder in folders for p in sorted(folder.rglob("*.py"))}
    path = Path(spec.origin or "")
    return {path.name: path} if path.suffix == ".py" and path.is_file() else {}


def code_of(text: str) -> str:
    """Python source without comments, docstrings and blank lines; text that is no Python as it is."""
    try:
        tree = ast.parse(text)
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (SyntaxError, ValueError, tokenize.TokenError):
        return text
    lines = text.splitlines()
    for token in tokens:
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in _statements(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            for row in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                lines[row - 1] = ""
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All statements, without a look at the expressions in them, which are nine in ten of the nodes."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.stmt | ast.excepthandler | ast.match_case):
            yield node
            yield from _statements(node)
