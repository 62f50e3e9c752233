"""Identity and epoch accounting of cells."""

from __future__ import annotations

from typing import Any

import pytest

from bench.interface.cell import Cell, Epochs, Recipe, Workload, digest


def workload(**changes: Any) -> Workload:
    base: dict[str, Any] = {
        "name": "w",
        "task": "classification",
        "dataset": "digits",
        "model": "resnet8",
        "epochs": Epochs(dense=30, search=10, recovery=15),
        "train": Recipe(),
        "finetune": Recipe(lr=0.02),
    }
    return Workload(**{**base, **changes})


def cell(**changes: Any) -> Cell:
    return Cell(**{"workload": workload(), "method": "l1", "budget": 0.5, "seed": 0, **changes})


def test_digest_is_the_sha256_of_canonical_json() -> None:
    import hashlib

    assert digest({"b": 1, "a": [0.5, "é"]}) == hashlib.sha256('{"a":[0.5,"é"],"b":1}'.encode()).hexdigest()[:12]


def test_everything_that_can_change_a_result_changes_the_id() -> None:
    changes: list[dict[str, Any]] = [
        {"method": "random"},
        {"hyper": {"scope": "global"}},
        {"budget": 0.25},
        {"tolerance": 0.01},
        {"round_to": 8},
        {"seed": 1},
        {"protocol": "paper"},
        {"recovery": "scratch"},
        {"transfer": "abc"},
        {"workload": workload(dataset="cifar10")},
        {"workload": workload(options={"train_size": 10})},
        {"workload": workload(epochs=Epochs(dense=31, search=10, recovery=15))},
        {"workload": workload(finetune=Recipe(lr=0.03))},
    ]
    ids = [cell().id, *(cell(**change).id for change in changes)]
    assert len(set(ids)) == len(ids)


def test_a_label_changes_no_id() -> None:
    assert cell(workload=workload(name="another")).id == cell().id


def test_methods_share_the_dense_network_and_its_recipe_is_all_it_depends_on() -> None:
    base = cell()
    assert cell(method="random", budget=0.25, recovery="scratch").dense_id == base.dense_id
    assert cell(workload=workload(finetune=Recipe(lr=1.0))).dense_id == base.dense_id
    assert cell(workload=workload(epochs=Epochs(dense=30, search=1, recovery=1))).dense_id == base.dense_id
    assert cell(workload=workload(epochs=Epochs(dense=29, search=10, recovery=15))).dense_id != base.dense_id
    assert cell(workload=workload(train=Recipe(lr=0.2))).dense_id != base.dense_id
    assert cell(seed=1).dense_id != base.dense_id


def test_pain_12_under_matched_every_cell_costs_the_same_number_of_epochs() -> None:
    searching = cell(searches=True)
    one_shot = cell(searches=False)
    from_scratch = cell(searches=False, needs_dense=False, recovery="scratch")
    assert (searching.search_epochs, searching.recovery_epochs) == (10, 15)
    assert (one_shot.search_epochs, one_shot.recovery_epochs) == (0, 25)
    assert (from_scratch.search_epochs, from_scratch.recovery_epochs) == (0, 55)
    assert {c.total_epochs for c in (searching, one_shot, from_scratch)} == {55}


def test_under_paper_nothing_is_made_up_for() -> None:
    assert cell(protocol="paper").recovery_epochs == 15
    assert cell(protocol="paper", recovery="none").recovery_epochs == 0


@pytest.mark.parametrize("budget", [0, -0.5, 1.2, float("nan"), float("inf")])
def test_an_impossible_budget_is_no_cell(budget: float) -> None:
    with pytest.raises(ValueError, match="budget"):
        cell(budget=budget)
