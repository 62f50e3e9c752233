"""Which job comes next, and when the last one ends."""

from __future__ import annotations

import random
from collections.abc import Sequence

from bench.runs.agenda import make_agenda
from bench.runs.job import Job
from bench.runs.order import Order, makespan
from tests.bench.runs.test_agenda import CELLS

JOBS = make_agenda(CELLS, {}).jobs
DENSE = {(job.workload.name, job.seed): job for job in JOBS if job.kind == "dense"}


def drawn(order: Order) -> list[Job]:
    """The jobs in the order in which one worker runs them."""
    found: list[Job] = []
    while (job := order.take()) is not None:
        found.append(job)
        order.ended(job)
    return found


def weights(**of_kind: float) -> dict[str, float]:
    return {job.id: of_kind[job.kind if job.cell is None else job.cell.adapter] for job in JOBS}


def test_each_job_comes_once_what_it_needs_has_ended() -> None:
    for seed in range(5):
        generator = random.Random(seed)
        weight = {job.id: generator.random() for job in JOBS}
        found = drawn(Order(JOBS, lambda job, w=weight: w[job.id]))
        assert sorted(job.id for job in found) == sorted(job.id for job in JOBS)
        place = {job.id: i for i, job in enumerate(found)}
        assert all(place[need] < place[job.id] for job in JOBS for need in job.needs)


def test_the_longest_way_to_the_end_comes_first() -> None:
    # Seed 1 of `there` has a dense network of 9: its way is the longest. Then come the other dense networks, of which
    # each has as long a way behind it; of equals the first one named comes first.
    weight = weights(dense=1.0, l1=2.0, search=3.0, gdp=2.0)
    weight[DENSE["there", 1].id] = 9.0
    order = Order(JOBS, lambda job: weight[job.id])
    first = order.take()
    assert first is DENSE["there", 1]
    second = order.take()
    assert second is not None and second is DENSE["here", 0]  # 1, a search of 3, its cell of 2, and the transfer's 2
    order.ended(second)
    third = order.take()
    assert third is DENSE["here", 1]
    fourth = order.take()
    assert fourth is not None and fourth.search is not None  # 3 + 2 + 2, where the last dense network has 1 + 3 + 2
    assert (fourth.search.adapter, fourth.workload.name, fourth.seed) == ("gdp", "here", 0)


def test_without_weights_jobs_keep_their_order() -> None:
    assert drawn(Order(JOBS)) == list(JOBS)


def test_the_order_is_the_same_each_time() -> None:
    weight = weights(dense=1.0, l1=2.0, search=2.0, gdp=2.0)
    orders = [[job.id for job in drawn(Order(JOBS, lambda job: weight[job.id]))] for _ in range(2)]
    assert orders[0] == orders[1]


def test_what_waits_for_a_dropped_job_is_dropped() -> None:
    order = Order(JOBS)
    dense = order.take()
    assert dense is not None and dense is DENSE["here", 0]
    dropped = order.drop_after(dense)
    waiting = {job.id for job in JOBS if dense.id in job.needs}
    waiting |= {job.id for job in JOBS if job.needs & waiting}
    assert {job.id for job in dropped} == waiting and len(waiting) == 5
    left = drawn(order)
    assert {job.id for job in left} == {job.id for job in JOBS} - waiting - {dense.id}


def test_lost_jobs_come_again_when_nothing_else_can_be_run() -> None:
    dense = list(DENSE.values())
    order = Order(dense)
    first, second = order.take(), order.take()
    assert first is not None and second is not None
    order.lost(first)
    order.lost(second)
    assert order.go_on(one=True)  # there are others
    assert [order.take(), order.take(), order.take()] == [*dense[2:], None]
    assert order.go_on(one=True) and [order.take(), order.take()] == [first, None]
    assert order.go_on(one=True) and [order.take(), order.take()] == [second, None]
    assert not order.go_on(one=True)
    for job in (first, second):
        order.lost(job)
    assert order.go_on(one=False) and [order.take(), order.take()] == [first, second]


def some(count: int) -> Sequence[Job]:
    """Dense networks, none of which needs another."""
    return [Job(JOBS[0].workload, seed) for seed in range(count)]


def test_the_makespan_of_hand_computed_matrices() -> None:
    jobs = some(5)
    lasting = dict(zip((job.id for job in jobs), (1.0, 1.0, 2.0, 2.0, 3.0), strict=True))

    def weigh(job: Job) -> float:
        return lasting[job.id]

    assert makespan(jobs, weigh, 1) == 9.0
    assert makespan(jobs, weigh, 2) == 5.0  # 3 + 1 + 1 beside 2 + 2; shortest first would end at 6
    assert makespan(jobs, weigh, 9) == 3.0
    assert makespan([], weigh, 2) == 0.0
    weight = weights(dense=1.0, l1=2.0, search=3.0, gdp=2.0)
    assert makespan(JOBS, lambda job: weight[job.id], 1) == sum(weight.values())
    assert makespan(JOBS, lambda job: weight[job.id], 99) == 1 + 3 + 2 + 2  # dense, search, cell, transfer
