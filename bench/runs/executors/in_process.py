"""Runs jobs one after the other in this process."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

from bench.processes import collect_as_usual, importing
from bench.runs.events import Emit
from bench.runs.executors.lost import RankLostError
from bench.runs.job import Job, Outcome, Settings


class InProcess:
    """One job after the other, in this process."""

    at_once: int | None = 1
    retries_alone = False

    def start(self, settings: Settings, emit: Emit) -> Emit:
        self._settings, self._emit = settings, emit
        return emit

    def submit(self, jobs: Sequence[Job]) -> list[Future[Outcome]]:
        """Run the jobs here and now; what they raise is raised, since there is no worker that could be lost.

        A job with several devices has processes of its own, and those can be.
        """
        with importing():
            from bench.runs.run_job import run_job  # loads torch

        collect_as_usual()
        ended: list[Future[Outcome]] = []
        for job in jobs:
            future: Future[Outcome] = Future()
            try:
                future.set_result(run_job(job, self._settings, self._emit))
            except RankLostError as error:
                future.set_exception(error)
            ended.append(future)
        return ended

    def reason(self, error: Exception) -> str:
        return str(error)

    def stop(self) -> None:
        """Nothing is left running."""
