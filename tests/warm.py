"""Programs that start in a hundredth of a second: copies of a process that has imported what takes seconds.

`warm_server` imports the project's packages once for each process of the tests and is copied (forked) for each program.
Such a program has its own arguments, folder, environment, module search path and streams, ends as every Python program
does, and is killed when whoever waits for it is. Tests of starting up, of what is imported, of what is installed and of
signals start Python themselves.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = dict(os.environ)
"""That of the tests, before any of them changes it."""
_servers: list[subprocess.Popen[bytes]] = []
"""Kept, since a server ends when its standard input does."""


def python(*arguments: str) -> list[str]:
    """The command that does what `python ARGUMENTS` does; plain Python where processes cannot be watched like this."""
    if not hasattr(os, "pidfd_open"):
        return [sys.executable, *arguments]
    return [sys.executable, "-I", "-S", str(ROOT / "tests" / "warm_client.py"), _socket(), *arguments]


@functools.cache
def _socket() -> str:
    """Where the server of this process listens."""
    path = Path(tempfile.mkdtemp(prefix="warm-", dir="/tmp")) / "socket"  # sockets' paths are short
    environment = {**ENVIRONMENT, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.warm_server", str(path)]
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    _servers.append(server)
    assert server.stdout is not None and server.stdout.readline() == b"ready\n"
    return str(path)
