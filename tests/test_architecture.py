"""Who may import whom: adapters see bench's vocabulary, and only bench.plugins sees the catalogues."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MACHINERY = {"cli", "runner", "executors", "tracking", "status", "suite", "plugins", "display", "report", "contract"}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("path", sorted([*ROOT.glob("methods/**/*.py"), *ROOT.glob("tasks/**/*.py")]), ids=str)
def test_adapters_do_not_import_the_machinery(path: Path) -> None:
    used = {name.split(".")[1] for name in imports(path) if name.startswith("bench.")}
    assert not used & MACHINERY


@pytest.mark.parametrize("path", sorted(ROOT.glob("bench/**/*.py")), ids=str)
def test_only_plugins_knows_the_catalogues(path: Path) -> None:
    if path.name != "plugins.py":
        assert not {name for name in imports(path) if name.split(".")[0] in ("methods", "tasks")}


@pytest.mark.parametrize("path", sorted(ROOT.glob("bench/report/**/*.py")), ids=str)
def test_reports_never_train(path: Path) -> None:
    assert not {n for n in imports(path) if n.split(".")[0] in ("torch", "mlflow") or n == "bench.train"}


@pytest.mark.parametrize("path", sorted(ROOT.glob("methods/*.py")), ids=str)
def test_methods_see_no_test_split(path: Path) -> None:
    names = {n.attr for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Attribute)}
    assert "test" not in names


@pytest.mark.parametrize(
    "path", sorted(p for f in ("bench", "methods", "tasks") for p in ROOT.glob(f"{f}/**/*.py")), ids=str
)
def test_nothing_is_unpickled(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)
    assert "pickle" not in imports(path)
