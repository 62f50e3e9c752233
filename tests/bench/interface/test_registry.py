"""Adapters by name, the built-in ones and those of other packages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from bench.errors import RequestError
from bench.interface import registry
from bench.interface.registry import control_names, make_method, make_task, method_class, method_names, task_names
from methods.l1 import L1


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EntryPoint]]:
    """What other packages register, to be filled by the test."""
    given: list[EntryPoint] = []

    def entry_points(*, group: str) -> list[EntryPoint]:
        return [point for point in given if point.group == group]

    monkeypatch.setattr(registry, "entry_points", entry_points)
    for names in (method_names, task_names):
        names.cache_clear()
    yield given
    for names in (method_names, task_names):
        names.cache_clear()


def test_controls_are_methods_too() -> None:
    assert set(control_names()) < set(method_names())
    assert method_class("l1") is L1


def test_another_package_registers_a_method(points: list[EntryPoint]) -> None:
    points.append(EntryPoint("elsewhere", "methods.l1:L1", "prunebench.methods"))
    assert make_method("elsewhere", {"scope": "global"}) == L1(scope="global")
    assert "elsewhere" not in task_names()


def test_a_name_of_this_project_stays_its_own_and_the_clash_is_named(points: list[EntryPoint]) -> None:
    points.append(EntryPoint("l1", "elsewhere:L1", "prunebench.methods"))
    assert method_class("l1") is L1
    assert registry.clashes() == ["two methods are named 'l1': methods.l1:L1 and elsewhere:L1; methods.l1:L1 is used"]


def test_two_packages_cannot_share_a_name(points: list[EntryPoint]) -> None:
    points += [EntryPoint("mine", f"{place}:X", "prunebench.methods") for place in ("methods.l1", "elsewhere")]
    points.append(EntryPoint("other", "methods.l1:L1", "prunebench.methods"))
    assert method_class("other") is L1
    with pytest.raises(
        RequestError, match=r"two methods are named 'mine': methods\.l1:X and elsewhere:X; uninstall one"
    ):
        method_class("mine")


def test_an_adapter_that_declares_too_little_is_named(points: list[EntryPoint]) -> None:
    points.append(EntryPoint("bare", "collections:Counter", "prunebench.methods"))
    points.append(EntryPoint("half", "methods.l1:PaperRecipe", "prunebench.methods"))
    points.append(EntryPoint("blank", "methods.l1:L1", "prunebench.tasks"))
    with pytest.raises(RequestError, match="method 'bare' cannot be used: collections:Counter is no dataclass"):
        registry.declared_method("bare")
    with pytest.raises(RequestError, match=r"method 'half' cannot be used: .* declares no searches of type bool"):
        registry.declared_method("half")
    with pytest.raises(
        RequestError, match=r"task 'blank' cannot be used: methods.l1:L1 declares no metric of type str"
    ):
        registry.declared_task("blank")
    with pytest.raises(RequestError, match=r"method 'bare' cannot be made: .* is no dataclass"):
        make_method("bare", {})
    assert registry.declared_method("l1") is L1


def test_an_adapter_that_cannot_be_loaded_is_named(points: list[EntryPoint]) -> None:
    points.append(EntryPoint("lost", "no_such_module:X", "prunebench.methods"))
    with pytest.raises(RequestError, match="method 'lost' cannot be loaded from no_such_module:X"):
        method_class("lost")


REFUSED: list[tuple[Any, str]] = [
    (lambda: make_method("dias", {}), "unknown method 'dias'; did you mean 'dais'? available: "),
    (
        lambda: make_method("l1", {"scop": "layer"}),
        "method 'l1' has no field 'scop'; did you mean 'scope'? available: ",
    ),
    (lambda: make_method("l1", {"scope": 3}), "method 'l1': scope = 3 is not allowed: "),
    (lambda: make_task("detection", {}), "unknown task 'detection'; available: "),
    (lambda: make_task("classification", {"dataset": "digits"}), "task 'classification': "),
]


@pytest.mark.parametrize(("call", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_what_is_wrong_is_named(call: Any, sentence: str) -> None:
    with pytest.raises(RequestError) as error:
        call()
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize("statement", ["import sys; sys.exit(0)", "raise GeneratorExit('early')", "1 / 0", "x ="])
def test_a_package_that_breaks_on_import_is_named(
    statement: str, points: list[EntryPoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_adapter.py").write_text(statement)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_adapter", raising=False)
    points.append(EntryPoint("broken", "broken_adapter:Broken", "prunebench.methods"))
    with pytest.raises(RequestError, match=r"^method 'broken' cannot be loaded from broken_adapter:Broken: \w+"):
        make_method("broken", {})
