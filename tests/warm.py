"""Programs that start in a hundredth of a second: copies of a process that has imported what takes seconds.

`warm_server` imports the project's packages once and is copied (forked) for each program. Such a program has its own
arguments, folder, environment, module search path and streams, ends as every Python program does, and is killed when
whoever waits for it is. Tests of starting up, of what is imported, of what is installed and of signals start Python
themselves.
"""

from __future__ import annotations

import functools
import os
import socket
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = dict(os.environ)
"""That of the tests, before any of them changes it."""


def python(*arguments: str, drawn: bool = True) -> list[str]:
    """The command that does what `python ARGUMENTS` does; plain Python where processes cannot be watched like this.

    Args:
        drawn: False: reports have dots in place of figures, and latencies are of ten measurements.
    """
    if not hasattr(os, "pidfd_open"):
        return [sys.executable, *arguments]
    client = [sys.executable, "-I", "-S", str(ROOT / "tests" / "warm_client.py"), _socket()]
    return [*client, *([] if drawn else ["undrawn"]), *arguments]


@functools.cache
def _socket() -> str:
    """Where the server of these tests listens, which the first of their processes to come here starts."""
    tests = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    folder = Path(f"/tmp/prunebench-warm-{os.getuid()}")  # sockets' paths are short
    folder.mkdir(mode=0o700, exist_ok=True)
    assert folder.stat().st_uid == os.getuid() and not folder.is_symlink(), f"{folder} is somebody else's"
    path = folder / str(tests)
    with FileLock(f"{path}.lock"):
        if not _listened_to(path):
            path.unlink(missing_ok=True)  # of a server that was killed, for tests that had this process number
            environment = {**ENVIRONMENT, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
            command = [sys.executable, "-m", "tests.warm_server", str(path), str(tests)]
            server = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                start_new_session=True,
            )  # fmt: skip
            assert server.stdout is not None and server.stdout.readline() == b"ready\n"
    return str(path)


def _listened_to(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(path)) == 0
