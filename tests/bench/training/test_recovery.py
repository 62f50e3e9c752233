"""Recovery: where each starts, who teaches, with which recipe and for how long."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from bench.interface.cell import RECOVERIES, Cell, Epochs, Recipe, Workload
from bench.training import recovery
from bench.training.loop import Phase
from bench.training.recovery import fresh_network, recover, thinner_initialisation
from tasks.classification import Classification

CPU = torch.device("cpu")
TASK = Classification("digits", "resnet8", train_size=128)
EPOCHS = Epochs(dense=4, search=2, recovery=3)


def cell(name: Any, **changes: Any) -> Cell:
    train, finetune = (Recipe(lr=lr, batch_size=32, precision="fp32") for lr in (0.1, 0.02))
    workload = Workload(
        name="w",
        task="classification",
        dataset="digits",
        model="resnet8",
        epochs=EPOCHS,
        train=train,
        finetune=finetune,
    )
    return Cell(**{"workload": workload, "method": "l1", "budget": 0.5, "seed": 0, "recovery": name, **changes})


@pytest.fixture(scope="module")
def data() -> Any:
    return TASK.load(None)


EXPECTED = {  # (starts from fresh weights, has a teacher, peak rate, epochs)
    "rewind": (False, False, 0.1, 5),  # the search's two epochs are made up for
    "finetune": (False, False, 0.02, 5),
    "scratch": (True, False, 0.1, 9),  # all of the workload's
    "distil": (False, True, 0.1, 5),
    "scratch-distil": (True, True, 0.1, 9),
}


@pytest.mark.parametrize("name", list(EXPECTED))
def test_where_a_recovery_starts_and_who_teaches(name: str, data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pruned, fresh, teacher = (fresh_network(TASK, data.info, seed) for seed in range(3))
    before = copy.deepcopy(pruned.state_dict())
    calls: list[Any] = []

    def train(model: nn.Module, task: Any, split: Any, recipe: Recipe, phase: Phase, **given: Any) -> nn.Module:
        calls.append((copy.deepcopy(model.state_dict()), recipe, phase, given))
        return model

    monkeypatch.setattr(recovery, "train", train)
    result = recover(cell(name), TASK, data.visible, pruned=pruned, fresh=fresh, teacher=teacher, device=CPU)
    ((start, recipe, phase, given),) = calls
    scratch, taught, rate, epochs = EXPECTED[name]
    expected = fresh if scratch else pruned
    assert all(torch.equal(a, b) for a, b in zip(start.values(), expected.state_dict().values(), strict=True))
    assert (given["teacher"] is not None) == taught
    if taught:
        assert torch.equal(given["teacher"].fc.weight, teacher.get_parameter("fc.weight"))
        assert given["teacher"] is not teacher
    assert recipe.lr == rate == cell(name).recovery_recipe.lr
    assert (phase.name, phase.epochs) == ("recovery", epochs)
    assert result is not pruned and all(torch.equal(before[n], t) for n, t in pruned.state_dict().items())


def test_none_leaves_the_network_as_it_is(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "train", None)
    pruned = fresh_network(TASK, data.info, 0)
    result = recover(cell("none"), TASK, data.visible, pruned=pruned, fresh=pruned, teacher=pruned, device=CPU)
    assert all(
        torch.equal(a, b) for a, b in zip(result.state_dict().values(), pruned.state_dict().values(), strict=True)
    )
    assert set(EXPECTED) | {"none"} == set(RECOVERIES)


@pytest.mark.parametrize("name", ["rewind", "finetune", "distil"])
def test_recoveries_from_trained_weights_share_one_sum_of_epochs(name: Any) -> None:
    searching, transferred = cell(name, searches=True), cell(name, searches=True, transfer="0123456789ab")
    assert (searching.search_epochs, searching.recovery_epochs) == (2, 3)
    # The search was another workload's: its epochs go to the recovery.
    assert (transferred.search_epochs, transferred.recovery_epochs) == (0, 5)
    assert searching.total_epochs == transferred.total_epochs == 9


@pytest.mark.parametrize("name", ["scratch", "scratch-distil"])
def test_fresh_weights_get_all_epochs_of_the_workload(name: Any) -> None:
    assert cell(name, searches=True).recovery_epochs == cell(name).recovery_epochs == 9
    assert cell("scratch", needs_dense=False).total_epochs == 9


def test_without_recovery_no_epoch_is_spent_on_it() -> None:
    assert cell("none", searches=True).recovery_epochs == cell("none").recovery_epochs == 0


def test_a_variant_is_told_apart_by_its_hyper_parameters_and_not_by_its_label() -> None:
    plain, variant = cell("none", hyper={"a": 1}), cell("none", method="l1-b", base="l1", hyper={"a": 2})
    assert variant.adapter == plain.adapter == "l1"
    assert variant.id != plain.id
    assert variant.model_copy(update={"hyper": {"a": 1}}).id == plain.id


@pytest.mark.parametrize("taught", [False, True])
def test_a_teacher_moves_the_student_towards_itself(taught: bool, data: Any) -> None:
    """A teacher that is sure of class 3 whatever it sees, against labels that are spread evenly."""
    teacher = fresh_network(TASK, data.info, 1)
    with torch.no_grad():
        teacher.get_parameter("fc.bias")[3] = 30.0
    student = fresh_network(TASK, data.info, 0)
    given = cell("distil" if taught else "finetune")
    final = recover(given, TASK, data.visible, pruned=student, fresh=student, teacher=teacher, device=CPU)
    x, _ = next(iter(data.train.ordered(128, CPU)))
    with torch.no_grad():
        share = float((final.eval()(x).argmax(1) == 3).float().mean())
    assert (share > 0.8) == taught


def test_a_thinner_fresh_network_has_the_variance_of_its_own_width() -> None:
    torch.manual_seed(0)
    wide, thin = nn.ModuleDict({"a": nn.Conv2d(256, 8, 3)}), nn.ModuleDict({"a": nn.Conv2d(64, 8, 3)})
    dense, own = wide.get_parameter("a.weight"), thin.get_parameter("a.weight")
    with torch.no_grad():
        own.copy_(dense[:, :64])
    before = float(own.std())
    thinner_initialisation(wide, thin)
    assert float(own.std()) == pytest.approx(2 * before, rel=1e-5)
    thinner_initialisation(thin, thin)
    assert float(own.std()) == pytest.approx(2 * before, rel=1e-5)
