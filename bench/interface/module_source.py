"""Where a module's source lies and what it holds, found without importing anything."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path


def spec_of(name: str) -> ModuleSpec | None:
    """How the module `name` would be imported; None where there is none. The packages that hold it are not imported."""
    parts, within, spec = name.split("."), None, None
    for count in range(1, len(parts) + 1):
        if count > 1:
            if spec is None or spec.submodule_search_locations is None:
                return None
            # A namespace's own list asks for its parent, which is not imported here.
            within = list(getattr(spec.submodule_search_locations, "_path", spec.submodule_search_locations))
        spec = _first_spec(".".join(parts[:count]), within)
    return spec


def _first_spec(name: str, within: list[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec = find(name, within) if find is not None else None
        if spec is not None:
            return spec
    return None


def package_digest(name: str) -> str | None:
    """SHA-256 of a module's source and of what it imports, directly or not, of the same top-level package.

    The packages that hold a module are imported with it, and count as well. None where there is no such module.
    """
    if spec_of(name) is None:
        return None
    found: dict[str, str] = {}
    left = [name]
    while left:
        module = left.pop()
        spec = spec_of(module) if module not in found else None
        if spec is None:
            continue
        file = Path(spec.origin) if spec.has_location and spec.origin else None
        content = file.read_bytes() if file is not None and file.is_file() else b""
        found[module] = hashlib.sha256(content).hexdigest()
        left += _holders(module)
        if file is not None and file.suffix == ".py":
            package = module if spec.submodule_search_locations is not None else module.rpartition(".")[0]
            left += [other for other in _imports(content, package) if _top(other) == _top(name)]
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()


def _top(name: str) -> str:
    return name.partition(".")[0]


def _holders(module: str) -> list[str]:
    """`a.b` and `a` of `a.b.c`."""
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _imports(source: bytes, package: str) -> Iterator[str]:
    """Every name that a file in `package` may import a module by; many are attributes, and no modules."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return  # importing it says what is wrong
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            if base:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")
