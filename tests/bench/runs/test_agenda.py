"""What is due, and in which order."""

from __future__ import annotations

from bench.runs.agenda import dense_jobs, make_agenda
from bench.runs.suite import suite_from_table
from bench.tracking.states import RunState

EPOCHS = {"dense": 5, "search": 2, "recovery": 1}
WORKLOAD = {"task": "classification", "dataset": "digits", "model": "resnet8", "epochs": EPOCHS}
CELLS = suite_from_table(
    {
        "name": "t",
        "methods": ["l1", "gdp"],
        "controls": [],
        "budgets": [0.5],
        "seeds": [0, 1],
        "workloads": [
            {**WORKLOAD, "name": "here"},
            {**WORKLOAD, "name": "there", "model": "resnet20", "transfer": {"from": "here"}},
        ],
    },
    "t",
).cells


def state(identity: str, status: str) -> dict[str, RunState]:
    return {identity: RunState(run_id="r", cell_id=identity, kind="cell", status=status)}


def test_dense_networks_come_first_and_transfers_last() -> None:
    agenda = make_agenda(CELLS, {})
    assert [job.label for job in agenda.dense] == [
        f"{workload} dense seed {seed}" for workload in ("here", "there") for seed in (0, 1)
    ]
    assert all(cell.transfer is None for job in agenda.cells if (cell := job.cell))
    assert len(agenda.cells) == 8 and len(agenda.transfers) == 4 and agenda.chosen == len(agenda.due) == 12
    assert agenda.jobs == (*agenda.dense, *agenda.searches, *agenda.cells, *agenda.transfers)
    assert [job.label for job in agenda.searches] == [
        f"{workload} gdp 0.5 seed {seed} search" for workload in ("here", "there") for seed in (0, 1)
    ]
    assert agenda.epochs == 4 * 5 + 12 * 3  # under protocol matched, l1 recovers for the search's epochs as well
    assert sum(job.epochs for job in agenda.searches) == 4 * 2


def test_what_is_recorded_is_left_alone_and_what_seems_to_run_is_not() -> None:
    done, failed, running = CELLS[:3]
    states = state(done.id, "finished") | state(failed.id, "failed") | state(running.id, "running")
    agenda = make_agenda(CELLS[:4], states)
    assert agenda.due == CELLS[2:4] and agenda.failed_before == (failed,) and agenda.chosen == 4
    again = make_agenda(CELLS[:4], states, retry_failed=True)
    assert again.due == CELLS[1:4] and again.failed_before == ()


def test_a_dense_network_is_trained_only_where_a_cell_is_due_and_none_is_there() -> None:
    cell = CELLS[0]
    assert [job.id for job in make_agenda([cell], {}).dense] == [cell.dense_id]
    assert make_agenda([cell], state(cell.dense_id, "finished")).dense == ()
    assert len(make_agenda([cell], state(cell.dense_id, "failed")).dense) == 1
    assert make_agenda([cell], state(cell.id, "finished")).jobs == ()
    assert [job.id for job in dense_jobs([cell, cell])] == [cell.dense_id]
