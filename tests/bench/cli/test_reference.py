"""The pages that are made from the code say what the code says."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

import prunebench
from bench.cli import reference, reference_api
from bench.cli.app import COMMANDS
from bench.interface.cell import Epochs, Recipe, Tuning
from bench.runs.expand import NO_HYPER_PARAMETERS
from bench.runs.suite import suite_from_table
from bench.runs.suite_table import SuiteTable, WorkloadTable

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.mark.parametrize("page", sorted(reference.PAGES))
def test_the_pages_are_as_the_code_makes_them(page: str) -> None:
    assert (DOCS / page).read_text("utf-8") == reference.PAGES[page](), "`make reference` makes it anew"


def test_what_is_made_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "PAGES", {"a.md": lambda: "a\n", "b.md": lambda: "b\n"})
    reference.write_pages(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.md": "a\n", "b.md": "b\n"}
    monkeypatch.setattr(reference, "PAGES", {"a.md": lambda: "new\n", "b.md": lambda: [][0]})
    with pytest.raises(IndexError):
        reference.write_pages(tmp_path)
    assert (tmp_path / "a.md").read_text() == "a\n"  # all pages or none


class Model(BaseModel):
    """A model."""

    share: Annotated[float, Field(gt=0, le=1)]
    """How much."""
    counts: Annotated[list[Annotated[int, Field(ge=0, lt=3)]], Field(min_length=2)] | None = None
    """How often."""
    mode: Literal["a", "b"] = "b"
    """Which."""
    named: Annotated[str, Field(alias="from", pattern="^x$")] = ""
    """What."""


def test_types_ranges_defaults_and_meanings() -> None:
    assert list(reference.model_table(Model)) == [
        "| field | type and range | default | meaning |",
        "| --- | --- | --- | --- |",
        "| `share` | number, > 0, ≤ 1 | required | How much. |",
        "| `counts` | list of: whole number, ≥ 0, < 3; at least 2 | none | How often. |",
        '| `mode` | a \\| b | "b" | Which. |',
        "| `from` | text, as `^x$` | empty | What. |",
    ]


def test_every_model_of_a_suite_has_its_section_and_every_field_a_meaning() -> None:
    text = (DOCS / "suites.md").read_text("utf-8")
    nested = {hint for model in (SuiteTable, WorkloadTable) for hint in _models(model)}
    assert nested | {SuiteTable, Recipe, Tuning} <= set(reference.SUITE_SECTIONS) and Epochs in nested
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.*) \|$", text.replace("\\|", "/"), re.MULTILINE)
    fields = [f.alias or name for m in reference.SUITE_SECTIONS for name, f in m.model_fields.items()]
    assert sorted(row[0] for row in rows) == sorted([*fields, *NO_HYPER_PARAMETERS])
    assert all(meaning.endswith(".") for *_, meaning in rows)


def _models(model: type[BaseModel]) -> set[type[BaseModel]]:
    found: set[type[BaseModel]] = set()
    waiting = [field.annotation for field in model.model_fields.values()]
    while waiting:
        hint = waiting.pop()
        if isinstance(hint, type) and issubclass(hint, BaseModel):
            found.add(hint)
        waiting += getattr(hint, "__args__", ())
    return found


def test_the_example_is_a_suite() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", (DOCS / "suites.md").read_text("utf-8"), re.DOTALL)
    cells = suite_from_table(tomllib.loads(example), "the page").cells
    assert {cell.hyper.get("travel") for cell in cells if cell.method == "dais"} == {8.0}


def test_every_command_and_option_is_there() -> None:
    text = (DOCS / "commands.md").read_text("utf-8")
    assert re.findall(r"^## prunebench (\S+)$", text, re.MULTILINE) == list(COMMANDS)
    assert "| `--onnx`, `--no-onnx` | `--onnx` | Also write model.onnx (extra `onnx`). |" in text
    assert re.search(r"^\| `--out PATH` \| required \| Folder for the joint report\. \|$", text, re.MULTILINE)
    assert "e.g. methods=l1,fpgm or seeds=0. Can be given several times. |" in text


def test_the_python_page_has_every_name_with_its_arguments_and_its_sentence() -> None:
    text = (DOCS / "api.md").read_text("utf-8")
    offered = {f"prunebench.{name}" for name in dir(prunebench)} - {"prunebench.budget"}
    offered |= {f"prunebench.budget.{name}" for name in prunebench.budget.__all__} - {"prunebench.budget.Budget"}
    places = {name: place for names in reference_api.SECTIONS.values() for name, place in names.items()}
    assert offered == {name for name in places if name.startswith("prunebench.")}
    for name, place in places.items():
        thing = getattr(importlib.import_module(place.rpartition(".")[0]), place.rpartition(".")[2])
        shown = text.partition(f"### {name}\n")[2].partition("<!-- end of reference -->")[0]
        assert " ".join(inspect.getdoc(thing).partition("\n\n")[0].split()) in shown, name  # pyright: ignore
        if inspect.isfunction(thing):
            assert [f for f in inspect.signature(thing).parameters if not re.search(rf"\b{f}: ", shown)] == [], name


CLASS = '''
class Box:
    """A box.

    More of it.
    """

    size: int
    """In metres."""
    kind: ClassVar[str] = "no field"
    parts: list[str] = field(default_factory=list)
    _own: int = 0

    @property
    def volume(self) -> float:
        """Of all
        of it."""

    @classmethod
    def of(cls, text: str = 'a', *, strict: bool = True) -> Box: ...

    def _hidden(self): ...
'''


def test_a_class_is_shown_by_what_can_be_read_and_called() -> None:
    (node,) = ast.parse(CLASS).body
    assert isinstance(node, ast.ClassDef) and reference_api.about(node) == "A box."
    assert list(reference_api.members(node)) == [
        "- `size: int`: In metres.",
        "- `parts: list[str] = list()`",
        "- `volume: float`: Of all of it.",
        '- `of(text: str = "a", *, strict: bool = True) -> Box`',
    ]
    assert list(reference_api.signature("x.Box", node)) == ["class x.Box"]


def test_long_signatures_have_a_line_for_each_argument() -> None:
    (short, long) = ast.parse("def f(a, /, b=1, *, c: int): ...\ndef g(a: int, *, b: x = 'y'): ...").body
    assert isinstance(short, ast.FunctionDef) and isinstance(long, ast.FunctionDef)
    assert list(reference_api.signature("m.f", short)) == ["m.f(a, /, b = 1, *, c: int)"]
    name = "m." + "g" * 100
    assert list(reference_api.signature(name, long)) == [f"{name}(", "    a: int,", "    *,", '    b: x = "y",', ")"]
