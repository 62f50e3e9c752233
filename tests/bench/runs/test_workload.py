"""What a process keeps of its workloads: the data sets that it used last, and each network's structure."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bench.interface.cell import Epochs, Workload
from bench.runs import workload as workloads
from bench.runs.job import Settings
from bench.runs.suite import suite_from_table
from bench.runs.workload import load_data, load_workload
from bench.structure.graph import PruningGraph
from tasks.classification import Classification


def workload(**changes: Any) -> Workload:
    table = {
        "task": "classification",
        "dataset": "digits",
        "model": "resnet8",
        "train_size": 100,
        "epochs": {"dense": 1, "recovery": 1},
    }
    suite = {"name": "s", "methods": ["l1"], "budgets": [0.5], "seeds": [0], "workloads": [{**table, **changes}]}
    return suite_from_table(suite, "s").cells[0].workload


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    workloads._read.cache_clear()
    workloads._graphs.clear()


def test_the_data_sets_that_were_used_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[int] = []
    load = Classification.load

    def counted(self: Classification, root: Any, **options: Any) -> Any:
        loads.append(self.train_size)
        return load(self, root, **options)

    monkeypatch.setattr(Classification, "load", counted)
    for size in (100, 110, 100, 120, 100):  # 110 is the one that was not used for longest
        load_data(workload(train_size=size), None)
    assert loads == [100, 110, 120]
    load_data(workload(train_size=110), None)
    assert loads == [100, 110, 120, 110]
    # Another label, other epochs: the same data.
    other = workload(train_size=110).model_copy(update={"name": "x", "epochs": Epochs(dense=9, recovery=9)})
    assert load_data(other, None) is load_data(workload(train_size=110), None)


def test_a_network_is_traced_once_and_apart_from_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    traces: list[str] = []
    trace = PruningGraph.trace

    def counted(model: Any, example: Any, **options: Any) -> PruningGraph:
        traces.append(type(model).__name__)
        return trace(model, example, **options)

    monkeypatch.setattr(PruningGraph, "trace", counted)
    settings = Settings(suite="s", tracking_uri="")
    small = load_workload(workload(), settings)
    model = small.fresh_network(0)
    graph = small.graph(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(torch.rand_like(parameter))
    assert small.graph(model) is graph and len(traces) == 1
    fresh = trace(model, small.example)
    assert [(g.name, g.size) for g in fresh.groups] == [(g.name, g.size) for g in graph.groups]
    assert load_workload(workload(), settings).graph(small.fresh_network(1)) is graph and len(traces) == 1
    # Another network has another structure.
    deeper = load_workload(workload(model="resnet20"), settings)
    assert len(deeper.graph(deeper.fresh_network(0)).groups) > len(graph.groups) and len(traces) == 2
