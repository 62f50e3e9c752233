"""What a run prints where its output is piped."""

from __future__ import annotations

import io
import re
import socket
import sys

import pytest

from bench.runs.display import Busy, Display
from bench.runs.events import Ended, EpochEnded, StageReached, Started, StepTaken, Waiting
from bench.runs.job import Outcome


def outcome(status: str, **facts: str) -> Outcome:
    return Outcome(id="a", label="l1 0.5", kind="cell", status=status, **facts)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("end", "line"),
    [
        (outcome("finished", summary="accuracy 90"), "done   l1 0.5: accuracy 90 (0.0 s), about "),
        (outcome("failed", error="it broke"), "FAILED l1 0.5: it broke"),
        (outcome("elsewhere", error="run 7"), "left   l1 0.5: another process is running it (run 7)"),
    ],
)
def test_a_job_has_a_line_at_its_start_and_at_its_end(
    end: Outcome, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for quiet in (False, True):
        with Display("s: 1 cells", jobs=1, epochs=2, quiet=quiet) as display:
            display(Started(id="a", label="l1 0.5"))
            display(StageReached(id="a", stage="search"))
            display(StepTaken(id="a", phase="search", step=1, steps=2, loss=0.5))
            display(EpochEnded(id="a", phase="search", epoch=1, row={}))
            display(Ended(id="a", outcome=end))
        lines = capsys.readouterr().err.splitlines()
        if quiet:
            assert lines == []
        else:
            assert lines[:2] == ["s: 1 cells", "start  l1 0.5"] and lines[2].startswith(line) and len(lines) == 3


def test_a_device_is_named_but_for_the_cpu_of_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    here = socket.gethostname()
    for place, at_start, at_end in (
        (f"cuda:2 of {here}", f" (cuda:2 of {here})", f" on cuda:2 of {here}"),
        ("cpu of another", " (cpu of another)", " on cpu of another"),
        (f"cpu of {here}", "", ""),
    ):
        with Display("s: 1 cells", jobs=1, epochs=2) as display:
            display(Started(id="a", label="l1 0.5", where=place))
            display(Ended(id="a", outcome=outcome("finished", summary="accuracy 90", where=place)))
        assert capsys.readouterr().err.splitlines()[1:] == [
            f"start  l1 0.5{at_start}",
            f"done   l1 0.5: accuracy 90 (0.0 s{at_end})",
        ]


def test_a_job_that_is_waited_for_and_then_run_here_counts_once(capsys: pytest.CaptureFixture[str]) -> None:
    with Display("s: 1 cells", jobs=1, epochs=2) as display:
        display(Ended(id="a", outcome=outcome("elsewhere", error="run 7")))
        display(Waiting(id="a", label="l1 0.5", run="run 7 on h"))
        display(Ended(id="a", outcome=outcome("finished", summary="accuracy 90")))
    assert capsys.readouterr().err.splitlines()[2] == (
        "wait   for l1 0.5, which another process is running (run 7 on h)"
    )
    assert display.progress.tasks[0].fields["note"] == "1/1 done"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_columns_say_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    stopped: list[str] = []
    with Display("s: 1 cells", jobs=1, epochs=2, before=lambda: stopped.append(screen.getvalue())) as display:
        assert stopped == [""]
        display(Started(id="a", label="l1 0.5"))
        display.progress.refresh()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert re.search(r"epochs .*0/2 0/1 done elapsed 0:00:0\d left -:--:--", shown), shown


def test_a_terminal_gets_a_line_that_changes_and_a_pipe_one_a_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Busy("tiny: reading what is recorded") as busy:
        assert capsys.readouterr().err == "tiny: reading what is recorded …\n"
        busy.say("tiny: reading data of [a]")
        busy.stop()
    assert capsys.readouterr().err == "tiny: reading data of [a] …\n"
    with Busy("tiny: reading", quiet=True) as busy:
        busy.say("tiny: reading data")
    assert capsys.readouterr().err == ""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with Busy("tiny: reading what is recorded") as busy:
        assert "tiny: reading what is recorded …" in screen.getvalue()
        busy.stop()
        busy.stop()
    with Busy("tiny: reading", quiet=True):
        pass
    assert "tiny: reading …" not in screen.getvalue()


def test_epochs_are_told_where_they_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with Display("s: 1 cells", jobs=1, epochs=2, verbose=True) as display:
        display(Started(id="a", label="l1 0.5"))
        display(EpochEnded(id="a", phase="search", epoch=1, row={"loss": 0.5, "phase": "search", "samples": 7}))
    assert capsys.readouterr().err.splitlines()[2] == "epoch  l1 0.5: search 1: loss 0.5"
