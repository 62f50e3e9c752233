"""Who may import whom. Late imports and imports for type checkers count like all others.

python -m tests.test_architecture    # prints the layers
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LAYERS: tuple[tuple[str, ...], ...] = (
    ("bench.errors", "bench.lazy", "bench.processes"),
    ("bench.own",),
    ("bench.structure",),
    ("bench.interface",),
    ("bench.search", "bench.training"),
    ("methods", "tasks"),
    ("bench.tracking",),
    ("bench.contract",),
    ("bench.report",),
    ("bench.runs",),
    ("bench.cli",),
    ("prunebench",),
)
"""Packages from the bottom up: each may import those named in earlier lines, and not those of its own line."""
CATALOGUES = {"bench.interface.registry": {"methods", "tasks"}}
"""The one module that knows the catalogues: dictionaries of names, which import nothing themselves."""
FACADE = "bench"
"""`bench/__init__.py` names what users import; nothing is imported until it is used."""
MAY_USE_FACADE = {"bench.cli.app", "bench.cli.doctor", "bench.runs.environment", "prunebench"}
"""The package that users import, and what states the version."""
LIMITS = {"file": 500, "function": 60}


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    return {module_name(path): path for path in python_files("bench", "methods", "prunebench", "tasks")}


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """All of a file's syntax tree."""
    return tuple(ast.walk(ast.parse(path.read_text("utf-8"))))


@cache
def imports(path: Path) -> set[str]:
    """Every module of this project or another that a file imports, inside functions too."""
    found: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute here"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & modules().keys()
            rest = len(submodules) < len(node.names)
            found |= submodules | ({node.module} if rest else set())
    return found


@cache
def arrows() -> dict[str, set[str]]:
    """Module -> the modules of this project that it imports."""
    return {name: imports(path) & modules().keys() - {name} for name, path in modules().items()}


def package_of(module: str) -> str:
    """The package of `LAYERS` that a module belongs to."""
    return next(p for layer in LAYERS for p in layer if module == p or module.startswith(p + "."))


def level_of(module: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if package_of(module) in layer)


def test_every_package_has_its_layer_and_every_layer_exists() -> None:
    named = {package for layer in LAYERS for package in layer}
    there = {"methods", "prunebench", "tasks"} | {
        f"bench.{path.stem}" for path in (ROOT / "bench").iterdir() if path.name[0] != "_"
    }
    assert named == there


@pytest.mark.parametrize("module", sorted(modules().keys() - {FACADE}))
def test_imports_point_one_way(module: str) -> None:
    for target in arrows()[module] - CATALOGUES.get(module, set()):
        assert target != FACADE or module in MAY_USE_FACADE, f"{module} imports the facade"
        if target != FACADE and package_of(target) != package_of(module):
            assert level_of(target) < level_of(module), f"{module} imports {target}, which is not below it"


def test_there_is_no_circle() -> None:
    graph = {name: targets - {FACADE} for name, targets in arrows().items() if name != FACADE}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_facade_and_the_catalogues_import_nothing() -> None:
    """At run time: what they name is loaded when it is used."""
    for name in (FACADE, "methods", "prunebench", "tasks"):
        tree = ast.parse(modules()[name].read_text("utf-8"))
        now = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert {n.module if isinstance(n, ast.ImportFrom) else n.names[0].name for n in now} <= {
            "__future__", "importlib", "logging", "typing"
        }  # fmt: skip


@pytest.mark.parametrize("module", sorted(m for m in modules() if m.startswith("bench.report")))
def test_reports_never_train(module: str) -> None:
    assert not {n for n in imports(modules()[module]) if n.split(".")[0] in ("torch", "mlflow")}
    assert not {t for t in arrows()[module] if package_of(t) in ("bench.training", "bench.search", "bench.structure")}


@pytest.mark.parametrize("path", sorted(ROOT.glob("methods/*.py")), ids=lambda p: p.name)
def test_methods_see_no_test_split(path: Path) -> None:
    names = {n.attr for n in nodes(path) if isinstance(n, ast.Attribute)}
    assert "test" not in names


@pytest.mark.parametrize("path", modules().values(), ids=str)
def test_nothing_is_unpickled(path: Path) -> None:
    for node in nodes(path):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)
    assert "pickle" not in imports(path)


@pytest.mark.parametrize("path", modules().values(), ids=str)
def test_files_and_functions_stay_short(path: Path) -> None:
    assert path.read_text("utf-8").count("\n") <= LIMITS["file"]
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= LIMITS["function"], f"{node.name} has {lines} lines"


def picture() -> Iterator[str]:
    """The layers, each package with those that it imports from."""
    for layer in LAYERS:
        for package in layer:
            used = {package_of(t) for m, ts in arrows().items() if m != FACADE and package_of(m) == package
                    for t in ts - {FACADE} if package_of(t) != package}  # fmt: skip
            order = [p for lower in LAYERS for p in lower if p in used]
            yield f"{package:<16} <- {', '.join(order) or 'nothing'}"


if __name__ == "__main__":
    print("\n".join(picture()))
