"""How long jobs take, from recorded ones."""

from __future__ import annotations

from bench.interface.cell import Cell
from bench.runs.estimate import Estimator
from bench.runs.job import Job
from bench.runs.suite import suite_from_table
from bench.tracking.states import RunState
from tests.bench.runs.test_agenda import CELLS, EPOCHS, WORKLOAD

HERE = [cell for cell in CELLS if cell.workload.name == "here"]
THERE = [cell for cell in CELLS if cell.workload.name == "there" and cell.transfer is None]


def finished(job: Job, lasted: float, **seconds: float) -> dict[str, RunState]:
    """A run that lasted so many seconds."""
    start, end = 1_000_000, 1_000_000 + round(1000 * lasted)
    state = RunState(
        run_id="r", cell_id=job.id, kind=job.kind, status="finished", started=start, ended=end, seconds=seconds
    )
    return {job.id: state}


def of_method(cells: list[Cell], method: str, seed: int) -> Cell:
    return next(c for c in cells if (c.method, c.seed) == (method, seed))


def test_a_recorded_kind_is_estimated_as_it_took() -> None:
    dense, l1, gdp = Job.of_dense(HERE[0]), of_method(HERE, "l1", 0), of_method(HERE, "gdp", 0)
    states = finished(dense, 12.0, dense_epoch=2.0)  # 5 epochs of 2 s and a rest of 2 s
    states |= finished(Job.of_cell(l1), 10.0, search=0.0, recovery=9.0)  # 3 epochs of 3 s and a rest of 1 s
    states |= finished(Job.of_search(gdp), 12.0, search=10.0)  # 2 epochs of 5 s and a rest of 2 s
    states |= finished(Job.of_cell(gdp), 6.0, search=10.0, recovery=3.0)  # 1 epoch of 3 s and a rest of 3 s
    estimator = Estimator(CELLS, states)
    assert estimator.learnt == 4
    other = estimator.of(Job.of_dense(of_method(HERE, "l1", 1)))
    assert (other.seconds, other.guesses) == (12.0, ())
    # The rest of a cell is the median of 1 and 3.
    l1, gdp = (of_method(HERE, method, 1) for method in ("l1", "gdp"))
    for job, seconds in ((Job.of_cell(l1), 9 + 2), (Job.of_search(gdp), 10 + 2), (Job.of_cell(gdp), 3 + 2)):
        estimate = estimator.of(job)
        assert (estimate.seconds, estimate.guesses) == (seconds, ())
        assert estimator.weight(job) == seconds


def test_a_cell_of_an_earlier_release_made_its_search_itself() -> None:
    gdp = of_method(HERE, "gdp", 0)
    estimator = Estimator(CELLS, finished(Job.of_cell(gdp), 16.0, search=10.0, recovery=3.0))  # and a rest of 3 s
    assert estimator.of(Job.of_cell(gdp)).seconds == 3 + 3
    search = estimator.of(Job.of_search(gdp))
    assert search.seconds == 10 and search.guesses == ("set-up and test of a search on here: left out",)


def test_what_is_not_recorded_is_guessed_from_what_is_near_it() -> None:
    estimator = Estimator(CELLS, finished(Job.of_dense(HERE[0]), 10.0, dense_epoch=2.0))
    search = estimator.of(Job.of_search(of_method(HERE, "gdp", 0)))
    assert search.seconds == 2 * (2 * 2.0)
    assert search.guesses == (
        "searches of gdp on here: 2 dense epochs each",
        "set-up and test of a search on here: left out",
    )
    gdp = estimator.of(Job.of_cell(of_method(HERE, "gdp", 0)))
    assert gdp.seconds == 1 * 2.0
    assert gdp.guesses == (
        "rewind at 0.5 on here: as dense epochs",
        "set-up and test of a cell on here: left out",
    )
    elsewhere = estimator.of(Job.of_dense(THERE[0]))
    assert elsewhere.seconds == 5 * 2.0 and elsewhere.guesses == (
        "dense epochs of there: the mean of other workloads",
        "set-up and test of a dense on there: as on other workloads",
    )
    l1 = of_method(HERE, "l1", 0)
    estimator = Estimator(CELLS, finished(Job.of_cell(l1), 10.0, search=0.0, recovery=9.0, dense=20.0))
    assert estimator.of(Job.of_dense(l1)).seconds == 5 * 4.0  # a cell's record has its dense network's seconds
    gdp = of_method(HERE, "gdp", 0)
    assert estimator.of(Job.of_search(gdp)).seconds == 2 * (2 * 4.0)
    cell = estimator.of(Job.of_cell(gdp))
    assert (cell.seconds, cell.guesses) == (3.0 + 1.0, ())


def test_another_budget_is_estimated_from_the_recoveries_of_recorded_ones() -> None:
    table = {"name": "t", "methods": ["l1"], "controls": [], "budgets": [0.5, 0.25], "seeds": [0]}
    half, quarter = suite_from_table({**table, "workloads": [WORKLOAD]}, "t").cells
    estimator = Estimator([half, quarter], finished(Job.of_cell(half), 6.0, search=0.0, recovery=6.0))
    found = estimator.of(Job.of_cell(quarter))
    assert found.seconds == 6.0 and len(found.guesses) == 1 and "rewind at 0.25" in found.guesses[0]


def test_before_anything_is_recorded_jobs_weigh_their_epochs() -> None:
    estimator = Estimator(CELLS, {})
    gdp, l1 = (Job.of_cell(of_method(HERE, method, 0)) for method in ("gdp", "l1"))
    assert estimator.of(gdp).seconds is None and estimator.learnt == 0
    assert estimator.weight(Job.of_dense(HERE[0])) == EPOCHS["dense"]
    assert estimator.weight(Job.of_search(of_method(HERE, "gdp", 0))) == 2 * EPOCHS["search"]
    assert estimator.weight(gdp) == EPOCHS["recovery"]
    assert estimator.weight(l1) == EPOCHS["search"] + EPOCHS["recovery"]


def test_runs_that_failed_or_were_lost_teach_nothing() -> None:
    job = Job.of_dense(HERE[0])
    (state,) = finished(job, 10.0, dense_epoch=2.0).values()
    for status in ("failed", "lost", "running"):
        other = RunState(run_id="r", cell_id=job.id, kind="dense", status=status, seconds=state.seconds)
        assert Estimator(CELLS, {job.id: other}).of(job).seconds is None


def test_a_run_learns_from_its_own_jobs() -> None:
    estimator = Estimator(CELLS, {})
    dense, gdp, l1 = Job.of_dense(HERE[0]), *(Job.of_cell(of_method(HERE, m, 0)) for m in ("gdp", "l1"))
    estimator.observe(dense, 10.0)
    assert estimator.of(Job.of_dense(of_method(HERE, "l1", 1))).seconds == 10.0
    search = Job.of_search(of_method(HERE, "gdp", 0))
    assert (estimator.of(search).seconds, estimator.of(gdp).seconds) == (2 * (2 * 2.0), 2.0)
    estimator.observe(search, 20.0)
    estimator.observe(gdp, 4.0)
    assert (estimator.of(search).seconds, estimator.of(gdp).seconds) == (20.0, 4.0)
    assert estimator.of(l1).seconds == 3 * 4.0
