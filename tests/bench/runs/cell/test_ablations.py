"""A matrix that takes a method apart: what each control takes over, spends and records."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.interface.outcomes import metric, unpacked
from bench.interface.record import Record
from bench.runs.agenda import make_agenda
from bench.runs.executors.executor import make_executor
from bench.runs.job import Settings
from bench.runs.matrix import run_matrix
from bench.runs.recorded import recorded
from bench.runs.suite import suite_from_table
from bench.runs.tracked import open_tracker
from tests.bench.runs.tables import changed_workload

CONTROLS = ["uniform-scratch", "dense-longer", "random-widths", "blind", "l1-channels", "scratch"]


@pytest.fixture(scope="module")
def records(_empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    """One seed and budget of DCSS on 100 digits, by the row's title."""
    place = tmp_path_factory.mktemp("ablations")
    (place / "mlflow.db").write_bytes(_empty_store.read_bytes())
    given = changed_workload(
        train_size=100, epochs={"dense": 2, "search": 2, "recovery": 1}, train={"batch_size": 25, "precision": "fp32"}
    )
    given |= {"name": "apart", "methods": ["dcss"], "controls": CONTROLS, "budgets": [0.5], "seeds": [0]}
    suite = suite_from_table(given, "t")
    settings = Settings(suite="apart", tracking_uri=f"sqlite:///{place / 'mlflow.db'}", work=place / "work")
    outcomes = run_matrix(make_agenda(suite.cells, {}), settings, make_executor("local", 1))
    assert [o.error for o in outcomes if o.status != "finished"] == []
    found = recorded(open_tracker(settings.tracking_uri, "apart"), suite.cells)
    return {record.config.title: record for record in found}


def test_every_control_is_recorded(records: dict[str, Record]) -> None:
    own = {"dcss", "dcss blind", "dcss l1-channels", "dcss scratch"}
    assert set(records) == own | {"uniform-scratch", "dense-longer", "random-widths"}
    assert all(r.audit is not None and r.audit.within for name, r in records.items() if name != "dense-longer")


def test_taken_over_architectures_are_those_that_the_method_found(records: dict[str, Record]) -> None:
    widths = {name: [g.width for g in record.groups] for name, record in records.items()}
    assert widths["dcss"] == widths["dcss l1-channels"] == widths["dcss scratch"]
    assert records["dcss"].macs_pruned == records["dcss scratch"].macs_pruned
    assert any("dcss 0.5 seed 0 found" in note for note in records["dcss scratch"].notes)


def test_after_pruning_is_the_network_with_the_weights_that_pruning_left(records: dict[str, Record]) -> None:
    assert records["dcss scratch"].pruned_metrics == records["dcss"].pruned_metrics
    assert records["dcss l1-channels"].pruned_metrics
    assert records["uniform-scratch"].pruned_metrics == records["dense-longer"].pruned_metrics == {}


def test_phases_say_what_each_row_cost(records: dict[str, Record]) -> None:
    phases = {
        name: [(p.name, p.epochs, p.samples, p.weight_steps, p.architecture_steps, p.peak_lr) for p in r.ledger.phases]
        for name, r in records.items()
        if r.ledger is not None
    }
    # 100 samples make four batches of 25; halves of 50 make two each, in an epoch of as many samples.
    dense, search, rest = ("dense", 2, 200, 8, 0, 0.1), ("search", 2, 200, 4, 4, 0.1), ("recovery", 1, 100, 4, 0, 0.1)
    assert phases["dcss"] == phases["dcss blind"] == [dense, search, rest]
    assert phases["dcss l1-channels"] == phases["random-widths"] == [dense, ("recovery", 3, 300, 12, 0, 0.1)]
    assert phases["uniform-scratch"] == phases["dense-longer"] == [("recovery", 5, 500, 20, 0, 0.1)]
    assert phases["dcss scratch"] == [dense, ("recovery", 5, 500, 20, 0, 0.1)]


def test_outcomes_are_those_of_the_recorded_metric(records: dict[str, Record]) -> None:
    for record in records.values():
        assert record.outcomes is not None
        value = float(metric(record.outcomes.kind, unpacked(record.outcomes)))
        assert value == pytest.approx(record.final_metrics[record.metric_name])
