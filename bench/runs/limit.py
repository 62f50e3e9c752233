"""A time limit: jobs that cannot end before it are not started. Imports no torch."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from bench.errors import RequestError
from bench.runs.job import Job

_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_TEXT = re.compile(r"(?:\d+(?:\.\d+)?[dhms])+")
_PART = re.compile(r"(\d+(?:\.\d+)?)([dhms])")


def seconds_of(text: str) -> float:
    """`8h`, `90m`, `1h30m` or `2d` in seconds.

    Raises:
        RequestError: it is no such text, or no time at all.
    """
    plain = "".join(text.split()).lower()
    parts = _PART.findall(plain) if _TEXT.fullmatch(plain) else []
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not seconds:
        raise RequestError(f"--time-limit {text!r} is not allowed; use a time such as 8h, 90m, 1h30m or 2d")
    return seconds


class TimeLimit:
    """Tells which jobs may still be started.

    Args:
        seconds: from now.
        estimate: seconds that a job takes, or None where that is not known: such a job is started while time is left.
        clock: seconds that only grow.
    """

    def __init__(
        self, seconds: float, estimate: Callable[[Job], float | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._estimate, self._clock = estimate, clock
        self._end = clock() + seconds

    @property
    def left(self) -> float:
        """Seconds until the limit; negative after it."""
        return self._end - self._clock()

    def allows(self, job: Job) -> bool:
        """Whether the job can be started now and end in time."""
        return self.left > (self._estimate(job) or 0.0)
