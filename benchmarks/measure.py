"""Sides that are measured in turn, and what they are in units of each other."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def in_turn(sides: Mapping[str, Callable[[], float]], rounds: int, *, warm: int = 1) -> dict[str, list[float]]:
    """What each side gives in each round, after some rounds that do not count; the sides take turns."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for index in range(warm + rounds):
        for name, run in sides.items():
            value = run()
            if index >= warm:
                found[name].append(value)
    return found


def medians(found: Mapping[str, Sequence[float]], digits: int = 4) -> dict[str, float]:
    return {name: round(statistics.median(values), digits) for name, values in found.items()}


def ratio(found: Mapping[str, Sequence[float]], one: str, other: str) -> float:
    """The median of one side over that of another."""
    return round(statistics.median(found[one]) / statistics.median(found[other]), 3)


def timed(run: Callable[[], Any]) -> float:
    """Wall seconds."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def processor_time(run: Callable[[], Any]) -> float:
    """Seconds of this process alone."""
    start = time.process_time()
    run()
    return time.process_time() - start


def python(code: str, *, cwd: Path | None = None) -> str:
    """What a process of its own writes to stderr.

    Raises:
        RuntimeError: it failed.
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd)
    if done.returncode:
        raise RuntimeError(f"a benchmark's process failed:\n{done.stderr[-2000:]}")
    return done.stderr


PEAK = """
import sys, time
def highest():  # getrusage would count what the process that started this one had
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
{setup}
before, start = highest(), time.perf_counter()
{work}
spent, peak = time.perf_counter() - start, highest()
print(spent, before / 1024, peak / 1024, file=sys.stderr)
"""


def measured(work: str, setup: str = "", cwd: Path | None = None) -> tuple[float, float, float]:
    """Seconds of some work in a process of its own, and the peak of its memory in MiB before and after."""
    seconds, before, after = map(float, python(PEAK.format(work=work, setup=setup), cwd=cwd).split()[-3:])
    return seconds, before, after


def calling(*arguments: str) -> str:
    """Code of a call of the command line that must succeed."""
    return (
        f"sys.argv = {['prunebench', *arguments]}\nfrom bench.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code"
    )
