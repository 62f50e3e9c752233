"""Tuning: what is tried, by which metric it is judged, and what it cost."""

from __future__ import annotations

import builtins
import csv
import math
import tomllib
from pathlib import Path
from typing import Any

import pytest

from bench.errors import RequestError
from bench.interface.cell import Cell, Tuning
from bench.interface.fields import AdapterField
from bench.interface.record import Ledger, Record
from bench.runs.suite import suite_from_table
from bench.runs.tune import Interval, _interval, space_of, tune, validation_metric
from tests.bench.runs.tables import table
from tests.bench.runs.tiny import prunebench


def searched(**changes: Any) -> dict[str, Any]:
    """A suite that runs DAIS."""
    workload = {**table()["workloads"][0], "epochs": {"dense": 2, "search": 2, "recovery": 1}}
    return table(
        **{"methods": ["dais"], "controls": [], "budgets": [0.5], "seeds": [0], "workloads": [workload], **changes}
    )


TEMPLATE = suite_from_table(searched(), "t").cells[0]


def recorded(cell: Cell, validation: float | None, test: float = 50.0) -> Record:
    rows = [
        {"phase": "search", "epoch": 1, "val_accuracy": 99.0},
        {"phase": "recovery", "epoch": 1, "val_accuracy": 1.0},
    ]
    rows += [{"phase": "recovery", "epoch": 2, "val_accuracy": validation}] if validation is not None else []
    ledger = Ledger(
        dense_epochs=2, search_epochs=2, recovery_epochs=1, dense_seconds=100, search_seconds=2.0, recovery_seconds=0.5,
        device="cpu",
    )  # fmt: skip
    plain: dict[str, Any] = {"suite": "t", "cell_id": cell.id, "run_id": "r", "trajectory": rows}
    plain["cell"] = cell.model_dump(mode="json")
    if validation is None:
        return Record(**plain, status="failed", error="no")
    return Record(**plain, status="finished", metric_name="accuracy", final_metrics={"accuracy": test}, ledger=ledger)


def test_intervals_lie_around_the_default_and_inside_the_range() -> None:
    def of(kind: str, default: Any, **ends: Any) -> Interval:
        return _interval(AdapterField(name="x", kind=kind, default=default, **ends), float(default))

    assert of("number", 2.0, low=0.0) == Interval(0.2, 20.0, log=True)
    assert of("number", 0.9, low=0.0, high=1.0) == Interval(0.09, 1.0, log=True)
    assert of("number", 0.0, low=0.0) == Interval(0.0, 1.0, log=False)
    assert of("number", -2.0) == Interval(-20.0, -0.2, log=False)
    assert of("whole number", 8, low=2) == Interval(2, 32, log=True, whole=True)
    inside = of("number", 0.9, low=0.5, high=1.0, open_ends=(True, True))
    assert (inside.low, inside.high, inside.log) == (pytest.approx(0.5005), pytest.approx(0.9995), False)


def test_a_space_holds_the_fields_that_can_be_tuned() -> None:
    space = space_of("dais")
    assert space["order"] == ["l1", "random", "taylor"] and space["travel"] == Interval(1.6, 160.0, log=True)
    assert list(space_of("dais", ["travel"])) == ["travel"]
    assert "strength" not in space_of("slimming")  # it has no default to look around
    with pytest.raises(RequestError, match="'scope' of dais cannot be tuned; available: temperature_start"):
        space_of("dais", ["scope"])
    with pytest.raises(RequestError, match="random has no field that can be tuned"):
        space_of("random")


def test_the_validation_metric_is_that_of_the_last_epoch_of_recovery() -> None:
    assert validation_metric(recorded(TEMPLATE, 7.0, test=99.0)) == 7.0
    assert validation_metric(recorded(TEMPLATE, None)) is None
    assert validation_metric(recorded(TEMPLATE, math.nan)) is None


def test_trials_follow_the_validation_split_and_begin_with_the_suite() -> None:
    """The validation metric has its peak at travel = 8; the test metric points the other way."""
    pytest.importorskip("optuna")
    space, ran = space_of("dais", ["travel"]), list[Cell]()

    def run(cell: Cell) -> Record:
        ran.append(cell)
        travel = cell.hyper["travel"]
        return recorded(cell, -abs(math.log(travel / 8)) if travel < 40 else None, test=travel)

    tuned = tune(TEMPLATE, space, 12, run)
    assert len(tuned.trials) == 12 and tuned.trials[0].values == {"travel": 16.0} and ran[0].id == TEMPLATE.id
    best = min((t for t in tuned.trials if t.metric is not None), key=lambda t: abs(math.log(t.values["travel"] / 8)))
    assert tuned.best is best and tuned.best.metric is not None and tuned.best.metric > -0.3
    assert {t.metric for t in tuned.trials if t.values["travel"] >= 40} <= {None}
    assert {c.adapter for c in ran} == {"dais"} and len({c.id for c in ran}) == len({c.hyper["travel"] for c in ran})
    assert all(t.values["travel"] == float(f"{t.values['travel']:.4g}") for t in tuned.trials)
    ended = sum(t.metric is not None for t in tuned.trials)
    assert tuned.cost == Tuning(trials=12, epochs=12 * 3, seconds=2.5 * ended)
    again = tune(TEMPLATE, space, 12, run)
    assert [t.values for t in again.trials] == [t.values for t in tuned.trials]


def test_a_cell_that_two_trials_ask_for_costs_once_and_a_refused_one_nothing() -> None:
    pytest.importorskip("optuna")
    cell = suite_from_table(table(controls=[], budgets=[0.5], seeds=[0]), "t").cells[0]
    tuned = tune(cell, {"scope": ["layer", "nowhere"]}, 6, lambda c: recorded(c, 1.0))
    refused = [t for t in tuned.trials if t.cell is None]
    assert refused and all("scope = 'nowhere' is not allowed" in t.error for t in refused)
    assert tuned.cost == Tuning(trials=6, epochs=1, seconds=2.5)
    broken = tune(cell, {"scope": ["layer"]}, 2, lambda c: recorded(c, None))
    with pytest.raises(RequestError, match="none of 2 trials came to an end; the last said: no"):
        _ = broken.best


def test_without_optuna_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "optuna":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(RequestError, match=r"tune needs Optuna, .*: pip install 'prunebench\[tune\]'"):
        tune(TEMPLATE, space_of("dais"), 1, lambda cell: recorded(cell, 1.0))


def test_what_tuning_cost_stands_in_the_suite_and_changes_no_identity() -> None:
    cost = {"trials": 20, "epochs": 60, "seconds": 12.5}
    (cell,) = suite_from_table(searched(method={"dais": {"tuning": cost}}), "t").cells
    assert cell.tuning == Tuning(trials=20, epochs=60, seconds=12.5) and cell.id == TEMPLATE.id
    with pytest.raises(RequestError, match=r"method.dais.tuning: trials = 0 is not allowed"):
        suite_from_table(searched(method={"dais": {"tuning": {**cost, "trials": 0}}}), "t")


def test_the_command_tunes_and_writes_what_to_put_into_the_suite(
    place: Path, store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna")
    arguments = ("tune", "l1", "tiny.toml", "--trials", "3", "--tracking-uri", store)
    assert prunebench(monkeypatch, *arguments) == 0
    out = capsys.readouterr().out
    with (place / "reports" / "tiny-tune" / "tuning.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert (
        [row["trial"] for row in rows] == ["0", "1", "2"] and rows[0]["l1.scope"] == "layer" and rows[0]["seed"] == "1"
    )
    best = next(row for row in rows if row["best"] == "True")
    written = tomllib.loads(out[out.index("[method.l1]") :])["method"]["l1"]
    assert written["scope"] == best["l1.scope"] and written["tuning"]["trials"] == 3
    assert float(best["validation_metric"]) == max(float(row["validation_metric"]) for row in rows)
    assert prunebench(monkeypatch, *arguments) == 0
    assert capsys.readouterr().out == out  # all trials are recorded: nothing is run again
    for wrong, sentence in (
        (("tune", "dais", "tiny.toml"), "unknown method of suite 'tiny' 'dais'; available: l1, random"),
        (("tune", "l1", "tiny.toml", "--budget", "0.4"), "--budget 0.4 is none of l1's: 0.5, 0.3"),
        (("tune", "l1", "tiny.toml", "--set", "recovery=none"), "cannot be tuned with recovery 'none'"),
    ):
        assert prunebench(monkeypatch, *wrong, "--tracking-uri", store) == 2
        assert sentence in capsys.readouterr().err
