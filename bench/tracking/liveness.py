"""Whether the process behind a run that is marked as running is alive.

On the machine of the process, the system is asked. From another one, a run is held by a lease: its process changes
the run's heartbeat every `BEAT` seconds, and who has watched it for `LAPSE` seconds of its own clock without seeing a
change may take the run over. No two clocks are compared for that: neither a wrong one nor one that jumps matters.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from bench.tracking.states import TAG, RunState

BEAT = 10.0
"""Seconds between two signs of life of a run."""
LAPSE = 90.0
"""Seconds of watching without a sign of life after which another machine's run is taken over."""
GAP = 5.0
"""Seconds that one look adds to the watching at most: while the store was away, nobody was watching."""
STALE_AFTER = 15 * 60
"""Seconds by the clocks of two machines after which one look takes a run for dead: for displays alone."""


def is_dead(state: RunState) -> bool:
    """Whether the process behind a running run seems gone, at one look: good enough to show, and for what is certain
    see `is_gone` and `Watch`."""
    return is_gone(state) if _is_here(state) else silence(state) > STALE_AFTER


def is_gone(state: RunState) -> bool:
    """Whether the process behind a running run is known to be gone: it was one of this machine's, and there is none."""
    if not _is_here(state):
        return False
    try:
        pid = int(state.tags.get(TAG + "pid", "0"))
    except ValueError:
        return True
    start = process_start(pid)
    return not start or start != state.tags.get(TAG + "process_start")


def why_dead(state: RunState) -> str:
    """Why the run of a process that is gone, or that was watched for long enough, is taken over."""
    return "its process was gone" if is_gone(state) else f"it gave no sign of life for {LAPSE:g} seconds"


def silence(state: RunState) -> float:
    """Seconds between the last sign of life and now, by the clocks of two machines; a later one counts as well."""
    try:
        return abs(time.time() - float(state.tags.get(TAG + "heartbeat", "0").partition(" ")[0]))
    except ValueError:
        return float("inf")


class Watch:
    """Watches runs of other machines, look by look, and says which of them show no sign of life.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[str, float, float]] = {}
        """By run: its heartbeat, when it was looked at last, and for how long it has been the same."""
        self._moved: set[str] = set()

    def has_lapsed(self, state: RunState) -> bool:
        """Whether the lease of a running run is over: its process is gone, or was silent for long enough.

        Each call is a look; looks that are further apart than `GAP` count as that.
        """
        if _is_here(state):
            return is_gone(state)
        beat, now = state.tags.get(TAG + "heartbeat", ""), self._clock()
        before, last, silent = self._seen.get(state.run_id, (beat, now, 0.0))
        if before != beat:
            self._moved.add(state.run_id)
            silent = 0.0
        else:
            silent += min(now - last, GAP)
        self._seen[state.run_id] = (beat, now, silent)
        return silent >= LAPSE

    def is_doubtful(self, state: RunState) -> bool:
        """Whether a running run looks dead at one look and was never seen alive: watching it would tell."""
        return not _is_here(state) and state.run_id not in self._moved and silence(state) > LAPSE


def _is_here(state: RunState) -> bool:
    """Whether the run's process numbers are this machine's; runs of earlier releases name their host alone."""
    known = state.tags.get(TAG + "machine")
    return known == machine() if known else state.tags.get(TAG + "host") == socket.gethostname()


@lru_cache(maxsize=1)
def machine() -> str:
    """What process numbers are numbers of: a host since it was started, and in it a container's own processes."""
    parts = [socket.gethostname()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    except OSError:
        pass  # no Linux: the host's name has to do
    return "/".join(parts)


def process_start(pid: int) -> str:
    """When a process of this machine started, in the kernel's own unit; empty where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    except (OSError, IndexError):
        try:
            os.kill(pid, 0)
        except (OSError, OverflowError):
            return ""
        return "alive"
