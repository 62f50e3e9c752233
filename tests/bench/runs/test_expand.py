"""What a suite's table expands to, and what is refused, in words."""

from __future__ import annotations

from typing import Any

import pytest

from bench.errors import RequestError
from bench.runs.suite import select, suite_from_table
from tests.bench.runs.tables import changed_workload, table


def test_the_matrix_is_the_product_with_controls_added() -> None:
    cells = suite_from_table(table(), "t").cells
    assert len(cells) == 4 * 2 * 2 + 2
    assert {c.method for c in cells} == {"l1", "random", "random-widths", "uniform-scratch", "dense-longer"}
    assert [(c.budget, c.seed) for c in cells if c.method == "dense-longer"] == [(1.0, 0), (1.0, 1)]
    assert len({c.id for c in cells}) == len(cells)


def test_ablations_are_made_of_each_method_where_they_make_sense() -> None:
    given = changed_workload(epochs={"dense": 4, "search": 2, "recovery": 2})
    given |= {
        "methods": ["l1", "dcss"],
        "controls": ["blind", "l1-channels", "scratch"],
        "budgets": [0.5],
        "seeds": [0],
    }
    cells = suite_from_table(given, "t").cells
    made = {(c.method, c.ablation): c for c in cells}
    assert set(made) == {
        ("l1", None), ("l1", "scratch"),
        ("dcss", None), ("dcss", "blind"), ("dcss", "l1-channels"), ("dcss", "scratch"),
    }  # fmt: skip
    own = made["dcss", None].id
    assert [made["dcss", a].source for a in ("blind", "l1-channels", "scratch")] == [None, own, own]
    assert [made["dcss", a].recovery for a in ("blind", "l1-channels", "scratch")] == ["rewind", "rewind", "scratch"]
    assert made["dcss", "blind"].search_epochs == 2 and made["dcss", "l1-channels"].search_epochs == 0


def test_a_search_of_weights_alone_has_no_blind_twin() -> None:
    given = changed_workload(epochs={"dense": 4, "search": 2, "recovery": 2})
    given |= {"methods": ["slimming"], "controls": ["blind", "l1-channels"], "budgets": [0.5], "seeds": [0]}
    cells = suite_from_table(given, "t").cells
    assert [(c.method, c.ablation) for c in cells] == [("slimming", None), ("slimming", "l1-channels")]
    assert [c.search_epochs for c in cells] == [2, 0] and [c.recovery_epochs for c in cells] == [2, 4]


def test_everything_is_recovered_by_rewinding_unless_a_suite_says_otherwise() -> None:
    cells = suite_from_table(table(), "t").cells
    assert {c.recovery for c in cells if c.needs_dense} == {"rewind"}
    assert {c.method for c in cells if c.recovery == "scratch"} == {"uniform-scratch", "dense-longer"}


def test_a_workload_can_have_budgets_and_seeds_of_its_own() -> None:
    given = table(controls=["dense-longer"])
    (first,) = given["workloads"]
    given["workloads"] = [first, {**first, "name": "other", "budgets": [0.75], "seeds": [4, 5, 6]}]
    cells = suite_from_table(given, "t").cells
    own = {(c.budget, c.seed) for c in cells if c.workload.name == "other" and c.method == "l1"}
    assert own == {(0.75, 4), (0.75, 5), (0.75, 6)}
    assert {(c.budget, c.seed) for c in cells if c.workload.name != "other" and c.method == "l1"} == {
        (b, s) for b in (0.5, 0.25) for s in (0, 1)
    }
    assert sum(c.method == "dense-longer" for c in cells) == 2 + 3
    given["workloads"][1]["seeds"] = [1, 1]
    with pytest.raises(RequestError, match=r"workloads\.seeds lists 1 twice"):
        suite_from_table(given, "t")


def test_layers_are_protected_for_all_methods_of_a_suite_or_of_a_workload() -> None:
    plain = suite_from_table(table(), "t").cells
    given = table(protect=["fc", "conv1"])
    (first,) = given["workloads"]
    given["workloads"] = [
        first,
        {**first, "name": "own", "protect": ["layer1.*"]},
        {**first, "name": "none", "protect": []},
    ]
    cells = suite_from_table(given, "t").cells
    for name, protect in (("digits-resnet8", ("conv1", "fc")), ("own", ("layer1.*",)), ("none", None)):
        own = [c for c in cells if c.workload.name == name]
        assert {c.workload.protect for c in own} == {protect} and len(own) == len(plain)
        assert ({c.id for c in own} == {c.id for c in plain}) == (protect is None)
    assert {c.dense_id for c in cells} == {c.dense_id for c in plain}
    # The order in which they are written does not matter.
    turned = suite_from_table(table(protect=["conv1", "fc"]), "t").cells
    assert [c.id for c in turned] == [c.id for c in cells if c.workload.name == "digits-resnet8"]


def test_matched_steps_need_whole_epochs() -> None:
    steps: dict[str, Any] = {"methods": ["dcss"], "match": "steps"}
    odd = changed_workload(epochs={"dense": 4, "search": 3, "recovery": 2}) | steps
    with pytest.raises(RequestError, match="match = 'steps' needs an even number of search epochs for dcss"):
        suite_from_table(odd, "t")
    even = changed_workload(epochs={"dense": 4, "search": 4, "recovery": 2}) | steps
    epochs = {c.method: c.recovery_epochs for c in suite_from_table(even, "t").cells}
    assert (epochs["dcss"], epochs["random"]) == (4, 6)


def test_controls_can_be_left_out_only_by_saying_so() -> None:
    assert {c.method for c in suite_from_table(table(controls=[]), "t").cells} == {"l1"}


def test_defaults_are_part_of_the_configuration() -> None:
    cell = suite_from_table(table(controls=[]), "t").cells[0]
    assert cell.hyper == {"scope": "layer"}
    options = {"image_size": 0, "train_size": 0, "val_fraction": 0.1, "pretrained": False}
    assert cell.workload.options == {**options, "model_args": None, "normalise": None, "stream": None}
    assert cell.workload.identity()["options"] == options
    assert cell.workload.train.lr == 0.1


def test_hyper_parameters_recipes_and_options_are_taken_over() -> None:
    given = changed_workload(train={"lr": 0.3, "batch_size": 64}, finetune={"lr": 0.01}, train_size=100)
    cell = suite_from_table({**given, "controls": [], "method": {"l1": {"scope": "global"}}}, "t").cells[0]
    assert cell.hyper == {"scope": "global"}
    assert (cell.workload.train.lr, cell.workload.finetune.lr) == (0.3, 0.01)
    assert cell.workload.train.batch_size == cell.workload.finetune.batch_size == 64
    assert cell.workload.options["train_size"] == 100


def test_several_recoveries_make_an_axis_but_for_what_trains_from_scratch() -> None:
    cells = suite_from_table(table(recovery=["finetune", "scratch", "none"]), "t").cells
    assert sum(c.method == "l1" for c in cells) == 3 * 4
    assert {c.recovery for c in cells if c.method == "uniform-scratch"} == {"scratch"}


REFUSED: list[tuple[dict[str, Any], str]] = [
    (table(budgets=[0]), "budgets.0 = 0 is not allowed"),
    (table(budgets=[1.2]), "budgets.0 = 1.2 is not allowed"),
    (table(budgets=[-0.5]), "budgets.0 = -0.5 is not allowed"),
    (table(budgets=[float("nan")]), "budgets.0 = nan is not allowed"),
    (table(budgets=[]), "budgets = [] is not allowed"),
    (table(budgets=[0.5, 0.5]), "budgets lists 0.5 twice"),
    (table(seeds=[]), "seeds = [] is not allowed"),
    (table(seeds=[0, 0]), "seeds lists 0 twice"),
    (table(seeds=[-1]), "seeds.0 = -1 is not allowed"),
    (table(methods=["dias"]), "unknown method 'dias'; did you mean 'dais'? available: "),
    (table(methods=["l1", "l1"]), "methods lists 'l1' twice"),
    (table(methods=[], controls=[]), "nothing to run"),
    (
        table(budget=[0.5]),
        "unknown field 'budget'; did you mean 'budgets' or 'budget_kind'? allowed: budget_kind, budgets, ",
    ),
    (table(protocol="fair"), "protocol = 'fair' is not allowed"),
    (table(name="../x"), "name = '../x' is not allowed"),
    (table(method={"l1": {"scop": 1}}), "has no field 'scop'; did you mean 'scope'? available: scope"),
    (table(method={"l1": {"scope": 1}}), "method 'l1': scope = 1 is not allowed"),
    (table(method={"tas9": {}}), "unknown method 'tas9'"),
    (changed_workload(task="detection"), "unknown task 'detection'; available: classification"),
    (changed_workload(dataset="mnist"), "unknown data set 'mnist'; available: "),
    (changed_workload(model="resnet21"), "workload digits-resnet21: unknown model 'resnet21'; did you mean 'resnet20'"),
    (changed_workload(epoch={}), "workload digits-resnet8: unknown field 'epoch'; did you mean 'epochs'? allowed: "),
    (
        changed_workload(epochs={"dense": -1, "recovery": 1}),
        "workload digits-resnet8: workloads.0.epochs.dense = -1 is not allowed",
    ),
    (changed_workload(epochs={"dens": 1, "recovery": 1}), "'workloads.0.epochs.dens"),
    (changed_workload(train={"lr": 0}), "workloads.train: lr = 0 is not allowed"),
    (
        changed_workload(train={"lrr": 1}),
        "workloads.train: unknown field 'lrr'; did you mean 'lr'? allowed: batch_size, ",
    ),
    (changed_workload(train_size=-4), "train_size = -4 is not allowed"),
    (changed_workload(pretrained=True), "'resnet8' has no pretrained weights"),
    (changed_workload(dataset="cifar10", image_size=64), "image_size = 64 is not allowed"),
    (table(workloads=table()["workloads"] * 2), "two cells are the same"),
    (table(workloads=[]), "workloads = [] is not allowed"),
    (table(method={"l1": {"recovery": "finetun"}}), "unknown recovery 'finetun'; did you mean 'finetune'? available: "),
    (table(methods=["l1", "x"], method={"x": {"base": "l11"}}), "unknown method 'l11'; did you mean 'l1'? available: "),
    (table(method={"l1": {"base": "random"}}), "'l1' is a method of its own and cannot be a variant of 'random'"),
    (table(methods=["l1", "x"], method={"x": {"base": "l1"}}), "two cells are the same"),
    (table(protect=["conv1", "conv1"]), "protect lists 'conv1' twice"),
    (changed_workload(protect=["fc", "fc"]), "workloads.protect lists 'fc' twice"),
    (table(protect="conv1"), "protect = 'conv1' is not allowed"),
    (table(protect=[""]), "protect.0 = '' is not allowed"),
    (changed_workload(transfer={"from": "absent"}), "transfer from 'absent' is not possible; available: none"),
    (
        {**table(methods=["l1", "dais", "gdp"]), "controls": []},
        "workload digits-resnet8: epochs.search = 0 is not allowed beside methods that search (dais, gdp); use 1 or",
    ),
    (table(sweep={"method": {"dais": {"travel": [1.0]}}}), "[sweep.method.dais] is set, but the suite does not run it"),
    (table(sweep={"method": {"l1": {"scope": []}}}), "sweep.method.l1.scope = [] is not allowed"),
    (
        table(sweep={"method": {"l1": {"scop": ["layer"]}}}),
        "has no field 'scop'; did you mean 'scope'? available: scope",
    ),
    (table(sweep={"method": {"l1": {"scope": ["layer", "layr"]}}}), "method 'l1': scope = 'layr' is not allowed"),
    (table(sweep={"method": {"l1": {"scope": ["layer", "layer"]}}}), "sweep.method.l1.scope lists '\"layer\"' twice"),
    (table(sweep={"method": {"l1": {"recovery": ["none"]}}}), "sweep.method.l1: 'recovery' is no hyper-parameter"),
    (
        table(method={"l1": {"scope": "inner"}}, sweep={"method": {"l1": {"scope": ["layer"]}}}),
        "scope of l1 is set in [method.l1] and swept in [sweep.method.l1]",
    ),
    (table(sweep={"methods": {}}), "sweep.methods"),
    (changed_workload(transfer={"form": "absent"}), "workloads.0.transfer"),
]


@pytest.mark.parametrize(("given", "sentence"), REFUSED, ids=[s for _, s in REFUSED])
def test_what_is_wrong_is_named_in_one_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RequestError) as error:
        suite_from_table(given, "my.toml")
    assert sentence in str(error.value)
    assert str(error.value).startswith("my.toml: ")
    assert "\n" not in str(error.value)


SEARCHED = {"dense": 2, "search": 2, "recovery": 1}


def swept(**changes: Any) -> dict[str, Any]:
    """A suite that sweeps DAIS over two fields."""
    grid = {"sparsity_weight": [0.001, 0.01], "order": ["l1", "taylor"]}
    workload = {**table()["workloads"][0], "epochs": SEARCHED}
    own = {"methods": ["l1", "dais"], "controls": [], "budgets": [0.5], "seeds": [0], "workloads": [workload]}
    return table(**{**own, "sweep": {"method": {"dais": grid}}, **changes})


def test_a_sweep_is_a_grid_of_cells_with_identities_of_their_own() -> None:
    cells = suite_from_table(swept(), "t").cells
    assert [c.method for c in cells] == [
        "l1",
        "dais(sparsity_weight=0.001, order=l1)",
        "dais(sparsity_weight=0.001, order=taylor)",
        "dais(sparsity_weight=0.01, order=l1)",
        "dais(sparsity_weight=0.01, order=taylor)",
    ]
    assert len({c.id for c in cells}) == 5 and {c.adapter for c in cells[1:]} == {"dais"}
    assert [c.hyper["sparsity_weight"] for c in cells[1:]] == [0.001, 0.001, 0.01, 0.01]
    # What a sweep has at the defaults is the cell that stands there without one.
    plain = suite_from_table(swept(sweep={}), "t").cells
    assert cells[3].id == plain[1].id and cells[0].id == plain[0].id
    assert select(cells, ["method=dais"]) == list(cells[1:])
    assert select(cells, ["method=dais(sparsity_weight=0.01, order=l1)"]) == [cells[3]]


def test_a_sweep_is_taken_apart_and_transferred_with_its_values() -> None:
    there = {**table()["workloads"][0], "name": "there", "model": "resnet20", "epochs": SEARCHED}
    workloads = [{**swept()["workloads"][0], "name": "here"}, {**there, "transfer": {"from": "here"}}]
    cells = suite_from_table(swept(controls=["l1-channels"], workloads=workloads), "t").cells
    by_id = {c.id: c for c in cells}
    apart = [c for c in cells if c.ablation and c.workload.name == "here"]
    assert [(c.method, by_id[c.source or ""].method) for c in apart] == [(c.method, c.method) for c in apart]
    assert len(apart) == 4
    moved = [c for c in cells if c.transfer]
    assert len(moved) == 5 and all(by_id[c.transfer or ""].hyper == c.hyper for c in moved)
