"""Which job is run next: the longest way to the end first, and each once what it needs has ended. Imports no torch."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence

from bench.runs.job import Job

Weigh = Callable[[Job], float]


def alike(job: Job) -> float:
    """Weighs all jobs the same, so that they keep their order."""
    return 0.0


class Order:
    """Hands out jobs, each once the others among them that it needs have ended.

    First comes the job with the longest way behind it: its own weight, and that of the heaviest chain of jobs that wait
    for it (list scheduling by critical paths: Graham, *Bounds on multiprocessing timing anomalies*, SIAM Journal on
    Applied Mathematics 17, 1969). A dense network comes before the cells that wait for it, and after a cell of another
    workload that takes longer than all of that. Of equal jobs the one that was named first comes first.
    """

    def __init__(self, jobs: Sequence[Job], weigh: Weigh = alike) -> None:
        self._jobs = {job.id: job for job in jobs}
        self._places = {identity: place for place, identity in enumerate(self._jobs)}
        self._dependents: dict[str, list[str]] = {identity: [] for identity in self._jobs}
        self._waits: dict[str, int] = {}
        for identity, job in self._jobs.items():
            needs = [need for need in job.needs if need in self._jobs]
            self._waits[identity] = len(needs)
            for need in needs:
                self._dependents[need].append(identity)
        self._ways = self._longest_ways(weigh)
        self._ready = [self._entry(identity) for identity, waits in self._waits.items() if not waits]
        heapq.heapify(self._ready)
        self._again: deque[Job] = deque()

    def take(self) -> Job | None:
        """The next job that can be run now; None where there is none before another has ended."""
        return self._jobs[heapq.heappop(self._ready)[2]] if self._ready else None

    def ended(self, job: Job) -> None:
        """Let the jobs that wait for this one go on, however it ended."""
        for identity in self._dependents[job.id]:
            self._waits[identity] -= 1
            if not self._waits[identity]:
                heapq.heappush(self._ready, self._entry(identity))

    def drop_after(self, job: Job) -> list[Job]:
        """The jobs that wait for this one, and those that wait for them: none of them is handed out any more."""
        found: dict[str, None] = {}
        queue = deque(self._dependents[job.id])
        while queue:
            identity = queue.popleft()
            if identity not in found:
                found[identity] = None
                self._waits[identity] = -1
                queue += self._dependents[identity]
        return [self._jobs[identity] for identity in found]

    def lost(self, job: Job) -> None:
        """Keep a job that has to be run again until nothing else can be."""
        self._again.append(job)

    def go_on(self, *, one: bool) -> bool:
        """Whether jobs can be run; where none can but those that were lost, they are handed out again.

        Args:
            one: only one of those that were lost.
        """
        while self._again and (not self._ready or not one):
            heapq.heappush(self._ready, self._entry(self._again.popleft().id))
        return bool(self._ready)

    def _entry(self, identity: str) -> tuple[float, int, str]:
        return -self._ways[identity], self._places[identity], identity

    def _longest_ways(self, weigh: Weigh) -> dict[str, float]:
        """Of each job its weight and that of the heaviest chain behind it."""
        left = {identity: len(behind) for identity, behind in self._dependents.items()}
        ways = {identity: weigh(job) for identity, job in self._jobs.items()}
        heaviest = dict.fromkeys(ways, 0.0)
        queue = deque(identity for identity, count in left.items() if not count)
        while queue:
            identity = queue.popleft()
            ways[identity] += heaviest[identity]
            for need in self._jobs[identity].needs:
                if need in left:
                    heaviest[need] = max(heaviest[need], ways[identity])
                    left[need] -= 1
                    if not left[need]:
                        queue.append(need)
        return ways


def makespan(jobs: Sequence[Job], weigh: Weigh, workers: int) -> float:
    """When the last of the jobs ends if `workers` of them run at a time in this order, in the unit of `weigh`."""
    order, now = Order(jobs, weigh), 0.0
    running: list[tuple[float, int, Job]] = []
    started = 0
    while True:
        while len(running) < workers and (job := order.take()) is not None:
            heapq.heappush(running, (now + weigh(job), started, job))
            started += 1
        if not running:
            return now
        now, _, job = heapq.heappop(running)
        order.ended(job)
