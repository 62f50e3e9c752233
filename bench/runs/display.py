"""Progress: a live display on a terminal, plain lines where output is piped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.spinner import Spinner
from rich.text import Text

from bench.runs.events import Ended, EpochEnded, Event, StageReached, Started, StepTaken, Waiting
from bench.runs.place import is_plain


class Elapsed(TimeElapsedColumn):
    """`elapsed 0:01:30`"""

    def render(self, task: Task) -> Text:
        return Text.assemble("elapsed ", super().render(task))


class Left(TimeRemainingColumn):
    """`left 0:02:00`"""

    def render(self, task: Task) -> Text:
        return Text.assemble("left ", super().render(task))


class Busy:
    """Says on stderr what is done while there is nothing else to show: one changing line on a terminal, else a plain
    line a step.

    A context manager that shows its line at once; `stop` takes it away, and so does the end of the block.
    """

    def __init__(self, text: str, *, quiet: bool = False) -> None:
        self._text, self._quiet, self._live = text, quiet, sys.stderr.isatty()
        self._console = Console(stderr=True, highlight=False)
        self._spinner = Spinner("dots", Text(f"{text} …"))
        self._line = Live(self._spinner, console=self._console, transient=True)

    def __enter__(self) -> Busy:
        if self._live and not self._quiet:
            self._line.start(refresh=True)
        self._print(self._text)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def say(self, text: str) -> None:
        """What is done now."""
        self._spinner.update(text=Text(f"{text} …"))
        if self._line.is_started:
            self._line.refresh()
        self._print(text)

    def stop(self) -> None:
        """Take the line away."""
        self._line.stop()

    def _print(self, text: str) -> None:
        if not self._live and not self._quiet:
            self._console.print(f"{text} …", markup=False, soft_wrap=True)


class Display:
    """Shows what jobs tell while they run. Use as a context manager, and call it with each event.

    Args:
        title: a line that is printed first.
        jobs: how many there are.
        epochs: of all jobs, for the estimate of the time left.
        quiet: show nothing at all.
        verbose: a line for each epoch.
        before: called before anything is shown.
    """

    def __init__(
        self,
        title: str,
        *,
        jobs: int,
        epochs: int,
        quiet: bool = False,
        verbose: bool = False,
        before: Callable[[], None] | None = None,
    ) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.title, self.quiet, self.live = title, quiet, sys.stderr.isatty() and not quiet
        self.verbose, self.before = verbose, before
        self.labels: dict[str, str] = {}
        self.jobs, self.total_epochs = jobs, max(1, epochs)
        self.ended: set[str] = set()
        self.epochs = 0
        self.start = time.monotonic()
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            Elapsed(),
            Left(),
            console=self.console,
            disable=not self.live,
        )
        self.overall = self.progress.add_task("epochs", total=self.total_epochs, note=f"0/{jobs} done")
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Display:
        if self.before is not None:
            self.before()
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
            case Started(id=job, label=label, where=where):
                self.labels[job] = label
                shown = label if is_plain(where) else f"{label} ({where})"
                if not self.live:
                    self.say(f"start  {shown}")
                elif task is None:  # a job whose worker was lost starts twice
                    self.tasks[job] = self.progress.add_task(shown, total=None, note="")
            case StepTaken(phase=phase, step=step, steps=steps, loss=loss) if task is not None:
                self.progress.update(task, total=steps, completed=step, note=f"{phase}, loss {loss:.4f}")
            case StageReached(stage=stage) if task is not None:
                self.progress.update(task, note=stage)
            case EpochEnded():
                self.epochs += 1
                if self.verbose:
                    self._say_epoch(event)
                self.progress.update(self.overall, completed=self.epochs)
            case Waiting(label=label, run=run):
                self.say(f"wait   for {label}, which another process is running ({run})")
            case Ended():
                self._end(event)

    def _say_epoch(self, event: EpochEnded) -> None:
        figures = ", ".join(f"{name} {value:.4g}" for name, value in event.row.items() if isinstance(value, float))
        self.say(f"epoch  {self.labels.get(event.id, event.id)}: {event.phase} {event.epoch}: {figures}")

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
            place = "" if is_plain(outcome.where) else f" on {outcome.where}"
            self.say(f"done   {outcome.label}: {outcome.summary} ({outcome.seconds:.1f} s{place}){self._time_left()}")

    def _time_left(self) -> str:
        if not self.epochs or self.live:
            return ""
        spent = time.monotonic() - self.start
        return f", about {spent / self.epochs * (self.total_epochs - self.epochs):.0f} s left"
