"""Runs one job with several processes of this machine, a device each: torch's elastic launcher starts them.

Each process runs the same job; the first one alone writes and tells (`bench.training.parallel`). Where one is lost the
launcher ends the others, and the job counts as one whose worker was lost.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from bench.errors import reason_of
from bench.processes import end_with_parent
from bench.runs.events import Emit
from bench.runs.executors.lost import RankLostError
from bench.runs.executors.server import serving
from bench.runs.job import Job, Outcome, Settings
from bench.runs.place import device_of_rank, require_devices
from bench.training import parallel
from bench.training.device import resolve_device

Work = Callable[[Job, Settings, Emit], Outcome | None]
GRACE = 20.0
"""Seconds in which the processes of a job end by themselves, once one of them is done or has failed."""

LINGER = 2.0
"""Seconds that a process waits to be ended which has lost another."""


def run_together(work: Work, job: Job, settings: Settings, emit: Emit) -> Outcome:
    """Run `work` in `settings.resources.devices_per_cell` processes; what it gives in the first of them.

    Raises:
        RequestError: this machine has not so many devices.
        RankLostError: with what is known of the process that was lost.
        Exception: what `work` raises in the first process.
    """
    require_devices(settings)
    count = settings.resources.devices_per_cell
    pipes = [Pipe() for _ in range(count)]
    listener = _Listener([ours for ours, _ in pipes], emit)
    listener.start()
    failure: Exception | None = None
    try:
        with _own_signals():
            _launch(count, work, job, settings, [theirs for _, theirs in pipes])
    except Exception as error:
        failure = error
    finally:
        for _, theirs in pipes:
            theirs.close()
        listener.join()
    if isinstance(listener.end, Outcome):
        return listener.end
    if listener.end is not None:
        raise listener.end
    said = "; ".join(listener.errors) or (_failure_words(failure) if failure is not None else "it gave no result")
    raise RankLostError(f"one of its {count} processes was lost: {said}")


def _launch(count: int, work: Work, job: Job, settings: Settings, pipes: Sequence[Connection]) -> None:
    """Start the processes and wait until all have ended.

    Raises:
        ChildFailedError: one has failed, or was killed.
    """
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("torch.distributed.elastic", "torch.distributed.launcher"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what it would log is in the job's own record
    # Where the processes meet: at a free port, whose server the launcher's own store shares. The launcher's way of
    # finding one is for many machines, and looks through the whole call stack at every step.
    meeting = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, multi_tenant=True)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="static",
        rdzv_endpoint=f"127.0.0.1:{meeting.port}",
        rdzv_configs={"rank": 0},
        local_addr="127.0.0.1",
        max_restarts=0,  # whoever handed the job out runs it again, from its last checkpoint
        start_method=_start_method(settings.device),
    )
    elastic_launch(config, _rank)(work, job, settings, pipes)


def _start_method(device: str) -> str:
    """How processes begin: from nothing where GPUs may be used, else from a server that has torch imported already."""
    if resolve_device(device).type != "cpu":
        return "spawn"
    serving()
    return "forkserver"


def _rank(work: Work, job: Job, settings: Settings, pipes: Sequence[Connection]) -> None:
    """One of the processes."""
    end_with_parent()
    rank, pipe = int(os.environ["RANK"]), pipes[int(os.environ["RANK"])]
    over = threading.Event()
    threading.Thread(target=_end_when_told, args=(pipe, over), daemon=True).start()
    threads = max(1, (settings.threads or os.cpu_count() or 1) // len(pipes))
    settings = replace(settings, device=device_of_rank(rank, settings), threads=threads)
    parallel.join(resolve_device(settings.device))
    try:
        told = work(job, settings, pipe.send if rank == 0 else _silent)
    except parallel.PeerLostError:
        time.sleep(LINGER)  # the launcher, which names the first that it misses, ends this one as well
        os._exit(1)
    except Exception as error:
        told = error
    if rank == 0:
        try:
            pipe.send(told)
        except (TypeError, AttributeError, ValueError):  # an error that cannot be pickled
            pipe.send(RuntimeError(f"{type(told).__name__}: {told}"))
        parallel.leave()
    elif isinstance(told, Exception):
        # The first process may meet the same error, and then it records it.
        pipe.send(f"process {rank}: {type(told).__name__}: {reason_of(told)}")
        parallel.leave()
        if not over.wait(GRACE):
            os._exit(1)


def _silent(event: object) -> None:
    """Progress of all processes but the first."""


def _end_when_told(pipe: Connection, over: threading.Event) -> None:
    """End this process some time after the first one has ended the job, whatever it waits for."""
    with contextlib.suppress(EOFError, OSError):
        pipe.recv()
        over.set()
        time.sleep(GRACE)
        os._exit(1)


class _Listener(threading.Thread):
    """Hands on what the processes tell, until each has closed its end."""

    def __init__(self, pipes: Sequence[Connection], emit: Emit) -> None:
        super().__init__(daemon=True)
        self.pipes, self.emit = list(pipes), emit
        self.end: Outcome | Exception | None = None
        self.errors: list[str] = []

    def run(self) -> None:
        open_ = list(self.pipes)
        while open_:
            for pipe in wait(open_):
                assert isinstance(pipe, Connection)
                try:
                    told = pipe.recv()
                except (EOFError, OSError):
                    open_.remove(pipe)
                    continue
                self._take(told)

    def _take(self, told: Any) -> None:
        if isinstance(told, str):
            self.errors.append(told)
        elif isinstance(told, Outcome | Exception):
            self.end = told
            for pipe in self.pipes:
                with contextlib.suppress(OSError):
                    pipe.send(None)
        else:
            self.emit(told)


def _failure_words(error: Exception) -> str:
    """What the launcher knows of a process that ended by itself."""
    failures = getattr(error, "failures", None)
    if not failures:
        return reason_of(error)
    rank, failure = min(failures.items())
    code = failure.exitcode
    return f"process {rank} was killed by signal {-code}" if code < 0 else f"process {rank} ended with code {code}"


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """The launcher's handlers for signals end with it; a signal that it took is sent on to ours."""
    from torch.distributed.elastic.multiprocessing.api import SignalException

    names = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    here = threading.current_thread() is threading.main_thread()
    before = {name: signal.getsignal(name) for name in names} if here else {}
    taken: signal.Signals | None = None
    try:
        yield
    except SignalException as error:
        taken = error.sigval
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
    if taken is not None:
        signal.raise_signal(taken)
