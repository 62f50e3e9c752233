"""A changed method: its recorded cells are named, and made again where that is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.interface import source
from bench.interface.stages import search_id
from bench.runs import changed
from bench.runs.agenda import make_agenda
from bench.runs.changed import made_with_other_code, searches_of, warnings_of, with_dependents
from bench.runs.suite import suite_from_table
from bench.tracking.quick_read import read_states
from bench.tracking.states import SOURCE, TAG, RunState
from tests.bench.runs.tables import table
from tests.bench.runs.tiny import prunebench, records

NOW = source.source_hash("l1")


def state(identity: str, status: str, code: str) -> RunState:
    tags = {TAG + SOURCE: code} if code else {}
    return RunState(run_id=identity, cell_id=identity, kind="cell", status=status, tags=tags)


def test_finished_cells_of_other_code_are_named() -> None:
    cells = suite_from_table(table(controls=[]), "t").cells
    known = [(cells[0], "finished", NOW), (cells[1], "finished", "aaa"), (cells[2], "failed", "bbb"),
             (cells[3], "finished", "")]  # fmt: skip
    states = {cell.id: state(cell.id, status, code) for cell, status, code in known}
    assert made_with_other_code(cells, states) == [cells[1]]
    assert warnings_of(cells, states) == [
        f"l1 has changed: 1 cell is recorded with other code (aaa, now {NOW}); --rerun --only method=l1 makes them "
        "again"
    ]


def test_what_takes_over_a_cell_is_made_again_with_it() -> None:
    workload = {**table()["workloads"][0], "epochs": {"dense": 1, "search": 1, "recovery": 1}}
    suite = table(methods=["dais"], controls=["l1-channels"], budgets=[0.5], seeds=[0], workloads=[workload])
    cells = suite_from_table(suite, "t").cells
    own, taking = cells
    assert taking.source == own.id
    assert with_dependents([own], cells) == [own, taking]
    states = {cell.id: state(cell.id, "finished", NOW) for cell in cells}
    agenda = make_agenda(cells, states, again={own.id, taking.id})
    assert [job.id for job in agenda.discarded] == [own.id, taking.id] and agenda.due == (own, taking)
    # The search is made again with its cells, unless another cell starts from it as well.
    search = str(search_id(own))
    assert searches_of(cells, cells) == {search} == searches_of([own, taking], cells)
    assert searches_of([own], cells) == set()
    known = states | {search: state(search, "finished", "")}
    remade = make_agenda(cells, known, again={own.id, taking.id, search})
    assert [job.id for job in remade.discarded] == [search, own.id, taking.id]
    assert [job.anew for job in remade.jobs] == [False, True, True, True]
    assert make_agenda(cells, known, again={own.id, taking.id}).searches == ()
    live = make_agenda(cells, states | {own.id: state(own.id, "running", "")}, again={own.id, taking.id})
    assert [job.id for job in live.discarded] == [taking.id]


def test_a_run_warns_and_makes_it_again(
    place: Path, store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (
        "run",
        "tiny.toml",
        "--set",
        "budgets=[0.5]",
        "--quiet",
        "--tracking-uri",
        store,
        "--out",
        "reports/tiny",
    )
    assert prunebench(monkeypatch, *arguments, "--set", "controls=[]") == 0
    (first,) = records(place)
    assert first.environment["method_source"] == NOW
    assert "has changed" not in capsys.readouterr().err
    with monkeypatch.context() as changed_code:
        changed_code.setattr(changed, "source_hash", lambda name: "0" * 12)
        assert prunebench(monkeypatch, *arguments, "--set", "controls=[]") == 0
        assert (
            f"l1 has changed: 1 cell is recorded with other code ({NOW}, now 000000000000)" in capsys.readouterr().err
        )
        assert prunebench(monkeypatch, "plan", "tiny.toml", "--tracking-uri", store, "--json") == 0
        said = capsys.readouterr()
        assert "l1 has changed" in said.err and json.loads(said.out)["counts"]["done"] == 1
    assert prunebench(monkeypatch, *arguments, "--rerun") == 2
    assert "--rerun needs --only KEY=VALUE" in capsys.readouterr().err
    assert prunebench(monkeypatch, *arguments, "--set", "controls=[]", "--rerun", "--only", "method=l1") == 0
    (again,) = records(place)
    assert again.run_id != first.run_id and again.cell_id == first.cell_id
    assert again.final_metrics == first.final_metrics
    states = read_states(store, "tiny")
    assert states[again.cell_id].run_id == again.run_id
