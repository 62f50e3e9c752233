"""Whether the process behind a run that is marked as running is alive."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from bench.tracking.states import TAG, RunState

STALE_AFTER = 15 * 60
"""Seconds without a sign of life after which another machine's run is taken for dead."""


def is_dead(state: RunState) -> bool:
    """Whether the process behind a running run is gone: looked up on this machine, else judged by its silence."""
    if state.tags.get(TAG + "host") == socket.gethostname():
        pid = int(state.tags.get(TAG + "pid", "0"))
        start = process_start(pid)
        return not start or start != state.tags.get(TAG + "process_start")
    return time.time() - float(state.tags.get(TAG + "heartbeat", "0")) > STALE_AFTER


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
