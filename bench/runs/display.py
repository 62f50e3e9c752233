"""Progress: a live display on a terminal, plain lines where output is piped."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as Remaining

from bench.runs.events import Ended, EpochEnded, Event, StageReached, Started, StepTaken, Waiting


class Display:
    """Shows what jobs tell while they run. Use as a context manager, and call it with each event.

    Args:
        title: a line that is printed first.
        jobs: how many there are.
        epochs: of all jobs, for the estimate of the time left.
        quiet: show nothing at all.
    """

    def __init__(self, title: str, *, jobs: int, epochs: int, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.title, self.quiet, self.live = title, quiet, sys.stderr.isatty() and not quiet
        self.jobs, self.total_epochs = jobs, max(1, epochs)
        self.ended: set[str] = set()
        self.epochs = 0
        self.start = time.monotonic()
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            Remaining(),
            console=self.console,
            disable=not self.live,
        )
        self.overall = self.progress.add_task("epochs", total=self.total_epochs, note=f"0/{jobs} done")
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Display:
        self.progress.start()
        self.say(self.title)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def say(self, text: str) -> None:
        """A line above the live display, or a plain line."""
        if not self.quiet:
            self.console.print(text, markup=False, soft_wrap=True)

    def __call__(self, event: Event) -> None:
        task = self.tasks.get(event.id)
        match event:
            case Started(id=job, label=label):
                if not self.live:
                    self.say(f"start  {label}")
                elif task is None:  # a job whose worker was lost starts twice
                    self.tasks[job] = self.progress.add_task(label, total=None, note="")
            case StepTaken(phase=phase, step=step, steps=steps, loss=loss) if task is not None:
                self.progress.update(task, total=steps, completed=step, note=f"{phase}, loss {loss:.4f}")
            case StageReached(stage=stage) if task is not None:
                self.progress.update(task, note=stage)
            case EpochEnded():
                self.epochs += 1
                self.progress.update(self.overall, completed=self.epochs)
            case Waiting(label=label, run=run):
                self.say(f"wait   for {label}, which another process is running ({run})")
            case Ended():
                self._end(event)

    def _end(self, event: Ended) -> None:
        outcome = event.outcome
        self.ended.add(event.id)
        task = self.tasks.pop(event.id, None)
        if task is not None:
            self.progress.remove_task(task)
        self.progress.update(self.overall, note=f"{len(self.ended)}/{self.jobs} done")
        if outcome.status == "failed":
            self.say(f"FAILED {outcome.label}: {outcome.error}")
        elif outcome.status == "elsewhere":
            self.say(f"left   {outcome.label}: another process is running it ({outcome.error})")
        else:
            self.say(f"done   {outcome.label}: {outcome.summary} ({outcome.seconds:.1f} s){self._time_left()}")

    def _time_left(self) -> str:
        if not self.epochs or self.live:
            return ""
        spent = time.monotonic() - self.start
        return f", about {spent / self.epochs * (self.total_epochs - self.epochs):.0f} s left"
