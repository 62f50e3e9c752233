"""Identity and epoch accounting of cells."""

from __future__ import annotations

from typing import Any

import pytest

from bench.interface.cell import RECOVERIES, Cell, Epochs, PaperPlan, Recipe, Workload, digest


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
        {"match": "steps"},
        {"ablation": "blind"},
        {"source": "abc"},
        {"workload": workload(dataset="cifar10")},
        {"workload": workload(options={"train_size": 10})},
        {"workload": workload(epochs=Epochs(dense=31, search=10, recovery=15))},
        {"workload": workload(finetune=Recipe(lr=0.03))},
    ]
    ids = [cell().id, *(cell(**change).id for change in changes)]
    assert len(set(ids)) == len(ids)


def test_protected_layers_are_part_of_the_cell_and_not_of_its_dense_network() -> None:
    protected = cell(workload=workload(protect=("conv1",)))
    assert len({cell().id, protected.id, cell(workload=workload(protect=("conv1", "fc"))).id}) == 3
    assert protected.dense_id == cell().dense_id
    # What protects nothing has the ids that it had before layers could be protected.
    assert (cell().id, cell().dense_id) == ("7879eea91c54", "e111f6ccd0fe")
    assert Cell.model_validate(protected.model_dump(mode="json")) == protected


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


def test_matched_steps_count_the_steps_of_the_weights() -> None:
    """A bi-level epoch takes half as many: what a search leaves out, recovery makes up for."""
    by_samples = cell(searches=True, weight_share=0.5)
    by_steps = cell(searches=True, weight_share=0.5, match="steps")
    joint = cell(searches=True, match="steps")
    assert (by_samples.recovery_epochs, by_steps.recovery_epochs, joint.recovery_epochs) == (15, 20, 15)
    # Weight steps in epochs of the whole split: 30 + 10 / 2 + 20, as 30 + 25 of a method that does not search.
    assert cell(match="steps").recovery_epochs == 25


def test_fresh_weights_get_every_epoch_and_ablations_what_their_method_spends() -> None:
    own = cell(searches=True, weight_share=0.5)
    scratch = own.model_copy(update={"ablation": "scratch", "source": own.id, "recovery": "scratch"})
    channels = own.model_copy(update={"ablation": "l1-channels", "source": own.id})
    blind = own.model_copy(update={"ablation": "blind"})
    assert (scratch.search_epochs, scratch.recovery_epochs) == (0, 55)
    assert (channels.search_epochs, channels.recovery_epochs) == (0, 25)
    assert (blind.search_epochs, blind.recovery_epochs) == (10, 15)
    assert len({c.id for c in (own, scratch, channels, blind)}) == 4
    assert [c.takes_over for c in (own, scratch, channels, blind)] == [False, True, True, False]
    assert len({c.dense_id for c in (own, scratch, channels, blind)}) == 1


def test_one_schedule_for_what_is_compared() -> None:
    """Rows differ in where they start and who teaches, and in the rate where it is named for that."""
    rates = {name: cell(recovery=name).recovery_recipe.lr for name in RECOVERIES}
    assert {name for name, rate in rates.items() if rate != Recipe().lr} == {"finetune"}
    assert cell().recovery == "rewind"


def test_a_papers_plan_takes_the_place_of_the_workload() -> None:
    plan = PaperPlan(
        search=Recipe(lr=0.3), search_epochs=60, recovery=Recipe(lr=1e-3, schedule="constant"), recovery_epochs=40
    )
    own = cell(protocol="paper", searches=True, plan=plan)
    assert (own.search_epochs, own.recovery_epochs, own.total_epochs) == (60, 40, 130)
    assert (own.search_recipe.lr, own.recovery_recipe.schedule) == (0.3, "constant")
    assert own.id != cell(protocol="paper", searches=True).id
    # A control has no paper of its own and spends what it does under `matched`.
    assert cell(protocol="paper").recovery_epochs == 25
    assert cell(protocol="paper", recovery="none").recovery_epochs == 0


@pytest.mark.parametrize("budget", [0, -0.5, 1.2, float("nan"), float("inf")])
def test_an_impossible_budget_is_no_cell(budget: float) -> None:
    with pytest.raises(ValueError, match="budget"):
        cell(budget=budget)
