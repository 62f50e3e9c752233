"""Progress: a live display on a terminal, plain lines where output is piped."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as Remaining


class Display:
    """Shows what the runner emits. Use as a context manager.

    Args:
        total_epochs: of all jobs, for the estimate of the time left.
    """

    def __init__(self, jobs: int, total_epochs: int, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.quiet, self.live = quiet, sys.stderr.isatty() and not quiet
        self.jobs, self.total_epochs = jobs, max(1, total_epochs)
        self.done = self.epochs = 0
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
        self.labels: dict[str, str] = {}

    def __enter__(self) -> Display:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def say(self, text: str) -> None:
        """A line above the live display, or a plain line."""
        if not self.quiet:
            self.console.print(text, markup=False, soft_wrap=True)

    def __call__(self, event: dict[str, Any]) -> None:
        identity = event["id"]
        match event["event"]:
            case "start":
                self.labels[identity] = event["label"]
                if self.live:
                    self.tasks[identity] = self.progress.add_task(event["label"], total=None, note="")
                else:
                    self.say(f"start  {event['label']}")
            case "step" if self.live and identity in self.tasks:
                note = f"{event['phase']}, loss {event['loss']:.4f}"
                self.progress.update(self.tasks[identity], total=event["steps"], completed=event["step"], note=note)
            case "stage" if self.live and identity in self.tasks:
                self.progress.update(self.tasks[identity], note=event["stage"])
            case "epoch":
                self.epochs += 1
                self.progress.update(self.overall, completed=self.epochs)
            case "end":
                self._end(event)

    def _end(self, event: dict[str, Any]) -> None:
        outcome = event["outcome"]
        self.done += 1
        task = self.tasks.pop(event["id"], None)
        if task is not None:
            self.progress.remove_task(task)
        self.progress.update(self.overall, note=f"{self.done}/{self.jobs} done")
        left = ""
        if self.epochs and not self.live:
            spent = time.monotonic() - self.start
            left = f", about {spent / self.epochs * (self.total_epochs - self.epochs):.0f} s left"
        if outcome.status == "failed":
            self.say(f"FAILED {outcome.label}: {outcome.error}")
        else:
            self.say(f"done   {outcome.label}: {outcome.summary} ({outcome.seconds:.1f} s){left}")
