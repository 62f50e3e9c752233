"""Runs jobs side by side in worker processes of this machine, which share its cores."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from typing import Any

from bench.errors import RequestError, reason_of
from bench.processes import end_with_parent, importing
from bench.runs.events import Emit, Event
from bench.runs.executors.lost import RankLostError
from bench.runs.executors.server import environment, serving
from bench.runs.job import Job, Outcome, Settings
from bench.runs.place import VISIBLE, shared_out

STARTS = 10
"""How often a process is tried to be started whose server is killed meanwhile."""


class WorkerLostError(Exception):
    """A worker process is gone, and the job that it had is not done; the message says how it ended."""


class WorkerProcesses:
    """`workers` processes, one job at a time in each, so that a process that dies takes no other job with it.

    Each has a pipe of its own and nothing else is shared: no lock that a killed process could hold, no process in
    between whose loss would end the run.
    """

    retries_alone = True
    """A worker that was killed for want of memory may succeed once its neighbours are gone."""

    def __init__(self, workers: int) -> None:
        self.at_once: int | None = workers
        self._workers = workers

    def load(self, settings: Settings) -> None:
        """Let the server that forks the workers load PyTorch already, while this process does."""
        if not shared_out(self._workers, settings):
            serving()

    def start(self, settings: Settings, emit: Emit) -> Emit:
        threads = settings.threads or max(1, (os.cpu_count() or 1) // self._workers)
        self._settings = replace(settings, threads=threads)
        gpus = shared_out(self._workers, self._settings)
        # CUDA reads which GPUs a process sees as soon as some import asks for them: then workers begin from nothing.
        context = multiprocessing.get_context("spawn") if gpus else serving()
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._forwarder = threading.Thread(target=_forward, args=(self._events, emit), daemon=True)
        self._forwarder.start()
        self._processes = [
            _Worker(context, self._events.put, gpus[number] if gpus else None) for number in range(self._workers)
        ]
        return self._events.put

    def submit(self, jobs: Sequence[Job]) -> list[Future[Outcome]]:
        return [next(w for w in self._processes if w.free).submit(job, self._settings) for job in jobs]

    def reason(self, error: Exception) -> str:
        if isinstance(error, WorkerLostError):
            return f"its worker process {error}"
        if isinstance(error, RankLostError):
            return str(error)
        return f"its worker process failed: {type(error).__name__}: {error}"

    def stop(self) -> None:
        for worker in self._processes:
            worker.stop()
        self._events.put(None)
        self._forwarder.join(timeout=5)


@dataclass
class _Worker:
    """One process at a time: when it has died, the next job gets another."""

    context: ForkServerContext | SpawnContext
    emit: Emit
    gpus: str | None = None
    """What its CUDA_VISIBLE_DEVICES says; None: what that of this process says."""
    _process: Any = None
    _pipe: Connection | None = None
    _last: Future[Outcome] | None = None

    @property
    def free(self) -> bool:
        return self._last is None or self._last.done()

    def submit(self, job: Job, settings: Settings) -> Future[Outcome]:
        """Hand the job to the process; the future raises WorkerLostError where the process dies."""
        try:
            self._connected().send((job, settings))
        except OSError:  # it died while it had nothing to do
            self._bury()
            self._connected().send((job, settings))
        self._last = Future()
        threading.Thread(target=self._attend, args=(self._last,), daemon=True).start()
        return self._last

    def stop(self) -> None:
        """Let the process end, once its job is done; one that does not end in a second is ended."""
        if self._pipe is None:
            return
        if self.free:
            with contextlib.suppress(OSError):
                self._pipe.send(None)
            self._process.join(timeout=1)
        self._bury()

    def _connected(self) -> Connection:
        tries = 0
        while self._pipe is None:
            pipe, theirs = self.context.Pipe()
            self._process = self.context.Process(target=_serve, args=(theirs,))
            try:
                with environment(VISIBLE, self.gpus):
                    self._process.start()
                self._pipe = pipe
            except (EOFError, OSError) as error:  # the server that forks was killed; another one is started
                pipe.close()
                tries += 1
                if tries == STARTS:
                    raise RequestError(f"no worker process can be started: {reason_of(error)}") from error
                time.sleep(0.2 * tries)  # a killed server takes a moment to be gone
            finally:
                theirs.close()
        return self._pipe

    def _attend(self, future: Future[Outcome]) -> None:
        """Pass on what the process tells of its job, up to its end."""
        assert self._pipe is not None
        while True:
            try:
                told = self._pipe.recv()
            except (EOFError, OSError):
                how = self._how_it_ended()
                self._bury()
                future.set_exception(WorkerLostError(how))
                return
            if isinstance(told, Outcome):
                future.set_result(told)
                return
            if isinstance(told, Exception):
                future.set_exception(told)
                return
            self.emit(told)

    def _how_it_ended(self) -> str:
        self._process.join(timeout=1)
        code = self._process.exitcode
        if code is None or code == -signal.SIGKILL:
            return "died (out of memory, or killed from outside)"
        if code >= 0:
            return f"died (it left with exit code {code})"
        try:
            return f"died (by {signal.Signals(-code).name})"
        except ValueError:
            return f"died (by signal {-code})"

    def _bury(self) -> None:
        """See to it that the process is gone: its job may be given to another."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)


def _serve(pipe: Connection) -> None:
    """A worker process: run the jobs that come, tell what happens, and end when there are no more."""
    with importing():
        from bench.runs.run_job import run_job

    end_with_parent()
    # Ctrl-C reaches every process of a terminal, and the one that asked for this one says so.
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        while (work := pipe.recv()) is not None:
            job, settings = work
            try:
                told: Any = run_job(job, settings, pipe.send)
            except Exception as error:
                told = error
            try:
                pipe.send(told)
            except (TypeError, AttributeError, ValueError):  # an error that cannot be pickled
                pipe.send(RuntimeError(f"{type(told).__name__}: {told}"))


def _forward(events: queue.SimpleQueue[Event | None], emit: Emit) -> None:
    """Emit what is in the queue, in order, up to a None."""
    while (event := events.get()) is not None:
        emit(event)
