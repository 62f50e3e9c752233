"""What a search's identity holds, and what it leaves out."""

from __future__ import annotations

from typing import Any

import pytest

from bench.interface import stages
from bench.interface.cell import Cell, Epochs, LatencyPlan, Recipe
from bench.interface.stages import search_id
from bench.runs.suite import suite_from_table
from tests.bench.runs.tables import changed_workload

EPOCHS = {"dense": 1, "search": 2, "recovery": 1}
GIVEN = {**changed_workload(epochs=EPOCHS), "budgets": [0.5], "seeds": [0]}
CELLS = suite_from_table({**GIVEN, "methods": ["gdp"], "controls": ["blind", "l1-channels", "scratch"]}, "t").cells
GDP = CELLS[0]


def of(**changes: Any) -> str | None:
    return search_id(GDP.model_copy(update=changes))


def workload(**changes: Any) -> Any:
    return GDP.workload.model_copy(update=changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"recovery": "distil"},
        {"recovery": "none"},
        {"match": "steps"},
        {"latency": LatencyPlan(batch=(4,))},
        {"method": "my gdp", "base": "gdp"},
        {"workload": workload(name="another name")},
        {"workload": workload(finetune=Recipe(lr=0.5))},
        {"workload": workload(epochs=Epochs(dense=1, search=2, recovery=9))},
    ],
    ids=str,
)
def test_what_comes_after_a_search_is_not_in_its_identity(changes: dict[str, Any]) -> None:
    assert of(**changes) == search_id(GDP)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"budget": 0.4},
        {"tolerance": 0.01},
        {"budget_kind": "params"},
        {"round_to": 8},
        {"hyper": {**GDP.hyper, next(iter(GDP.hyper)): 77}},
        {"method": "dais", "base": None},
        {"ablation": "blind"},
        {"workload": workload(train=Recipe(lr=0.5))},
        {"workload": workload(epochs=Epochs(dense=2, search=2, recovery=1))},
        {"workload": workload(epochs=Epochs(dense=1, search=3, recovery=1))},
        {"workload": workload(protect=("conv1",))},
        {"workload": workload(dataset="another")},
    ],
    ids=str,
)
def test_what_decides_a_search_is_in_its_identity(changes: dict[str, Any]) -> None:
    assert of(**changes) != search_id(GDP)


def test_a_search_of_other_code_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    before = search_id(GDP)
    monkeypatch.setattr(stages, "source_hash", lambda name: "0" * 12)
    assert of() != before


def test_controls_share_the_search_that_they_are_taken_from_and_blind_has_its_own() -> None:
    ids = {cell.ablation: search_id(cell) for cell in CELLS}
    assert ids[None] == ids["l1-channels"] == ids["scratch"] != ids["blind"]


def test_a_method_that_does_not_train_and_a_transfer_have_no_search() -> None:
    (one_shot,) = suite_from_table({**GIVEN, "methods": ["l1"], "controls": []}, "t").cells
    assert search_id(one_shot) is None
    assert search_id(Cell.model_validate(GDP.model_copy(update={"transfer": "abc"}).model_dump(mode="json"))) is None
