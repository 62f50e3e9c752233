"""One call of `run`: what is due of the chosen cells, run with a display of its progress."""

from __future__ import annotations

from bench.errors import RequestError
from bench.processes import importing
from bench.runs.agenda import Agenda
from bench.runs.display import Busy, Display
from bench.runs.executors.executor import make_executor
from bench.runs.executors.worker_processes import WorkerProcesses
from bench.runs.job import Outcome, Settings


def carry_out(
    agenda: Agenda,
    settings: Settings,
    busy: Busy,
    *,
    executor: str = "local",
    workers: int = 1,
    quiet: bool = False,
    verbose: bool = False,
    wait: bool = False,
    time_limit: float | None = None,
) -> list[Outcome]:
    """Run what is due; nothing heavy is loaded where nothing is.

    Args:
        busy: says what is done until the first job begins.
        executor: name of the place where jobs run.
        workers: how many run at a time.
        quiet: show nothing.
        verbose: a line for each epoch.
        wait, time_limit: as of `run_matrix`.

    Raises:
        RequestError: something cannot be run as asked; nothing has been trained or recorded then.
    """
    if not agenda.due:
        return []
    if executor == "slurm" and time_limit is not None:
        raise RequestError("--time-limit is not allowed with --executor slurm, whose queue decides when a cell starts")
    place = make_executor(executor, workers)
    due = len(agenda.due)
    title = f"{settings.suite}: {agenda.chosen} cells, {agenda.chosen - due} recorded, {due} to run"
    busy.say(f"{settings.suite}: loading PyTorch")
    if isinstance(place, WorkerProcesses):
        place.load(settings)
    with importing():
        from bench.runs.matrix import run_matrix

    display = Display(
        title, jobs=len(agenda.jobs), epochs=agenda.epochs, quiet=quiet, verbose=verbose, before=busy.stop
    )
    return run_matrix(agenda, settings, place, display, say=busy.say, wait=wait, time_limit=time_limit)
