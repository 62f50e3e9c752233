"""The stages of a cell, one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.errors import CellError
from bench.interface import registry
from bench.interface.cell import Cell
from bench.runs.cell.decision import decide
from bench.runs.cell.inputs import FOUND, CellInputs
from bench.runs.cell.run import checked_cost
from bench.runs.dense import DenseNetwork
from bench.runs.events import ignore
from bench.runs.job import Job, Settings
from bench.runs.suite import suite_from_table
from bench.runs.tracked import ActiveJob
from bench.runs.workload import load_workload
from bench.structure.surgery import prune
from bench.tracking.mlflow_store import Tracker
from tests.bench.runs.tables import changed_workload

EPOCHS = {"dense": 1, "search": 1, "recovery": 1}


def cell_of(method: str) -> Cell:
    table = changed_workload(train_size=100, epochs=EPOCHS, train={"batch_size": 32, "precision": "fp32"})
    return suite_from_table({**table, "methods": [method], "controls": []}, "t").cells[0]


@pytest.fixture
def prepared(store: str, tmp_path: Path) -> Callable[[Cell], tuple[CellInputs, ActiveJob]]:
    """A cell as if a process had just taken it up, on an untrained network."""
    tracker = Tracker(store, "s")
    settings = Settings(suite="s", tracking_uri=store)

    def prepare(cell: Cell) -> tuple[CellInputs, ActiveJob]:
        loaded = load_workload(cell.workload, settings)
        model = loaded.fresh_network(0)
        inputs = CellInputs(cell, loaded, DenseNetwork(model, {}, []), loaded.fresh_network(1), loaded.graph(model))
        run = tracker.claim(f"{cell.id}-{len(tracker.states())}", kind="cell", label=cell.label)
        return inputs, ActiveJob(Job.of_cell(cell), settings, ignore, run, tmp_path, "now")

    return prepare


def test_a_decision_is_taken_once_and_taken_up_after_a_restart(prepared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = cell_of("l1")
    inputs, active = prepared(cell)
    first = decide(inputs, active)
    assert first.search_seconds > 0 and first.search_id == ""

    def searched_again(*arguments: object) -> Any:
        raise AssertionError("the search ran twice")

    monkeypatch.setattr(registry, "make_method", searched_again)
    again, active = prepared(cell)
    second = decide(again, active)
    assert second.fitted.pruning.to_dict() == first.fitted.pruning.to_dict()
    assert second.fitted.widths == first.fitted.widths and second.search_seconds == first.search_seconds
    assert again.log.state() == inputs.log.state()
    weights = second.network.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in first.network.state_dict().items())


def test_a_damaged_decision_is_taken_again(prepared: Any) -> None:
    cell = cell_of("l1")
    inputs, active = prepared(cell)
    first = decide(inputs, active)
    (active.folder / FOUND).write_bytes(b"\0" * 1000)
    again, active = prepared(cell)
    second = decide(again, active)
    assert second.fitted.pruning.to_dict() == first.fitted.pruning.to_dict()
    assert [note for note in again.log.notes if "was set aside" in note] == [
        f"checkpoint {FOUND} was set aside: it is no checkpoint of this version; what it held was computed again"
    ]


def test_a_pruning_is_transferred_only_from_a_cell_that_finished(prepared: Any) -> None:
    inputs, active = prepared(cell_of("l1").model_copy(update={"transfer": "abc"}))
    with pytest.raises(CellError, match="cell abc, whose pruning is taken over, is not recorded as finished"):
        decide(inputs, active)
    active.tracker.claim("abc", kind="cell", label="origin").fail("{}")
    with pytest.raises(CellError, match="not recorded as finished"):
        decide(inputs, active)


def test_a_cost_model_that_is_wrong_fails_the_cell(prepared: Any) -> None:
    inputs, active = prepared(cell_of("l1"))
    decision = decide(inputs, active)
    pruned = prune(decision.network, inputs.graph, decision.fitted.pruning)
    cost = checked_cost(inputs, decision, pruned)
    assert cost.within and cost.pruned["macs"] / cost.dense["macs"] == cost.ratio
    with pytest.raises(CellError, match="the structural engine is wrong about resnet8"):
        checked_cost(inputs, decision, inputs.dense.model)
