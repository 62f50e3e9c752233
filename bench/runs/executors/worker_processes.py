"""Runs jobs side by side in worker processes of this machine, which share its cores."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing.context import BaseContext
from multiprocessing.managers import SyncManager
from typing import Any

from bench.runs.events import Emit
from bench.runs.job import Job, Outcome, Settings


class WorkerProcesses:
    """`workers` processes. Each job has one to itself, so that a process that dies takes no other job with it."""

    retries_alone = True
    """A worker that was killed for want of memory may succeed once its neighbours are gone."""

    def __init__(self, workers: int) -> None:
        self.at_once: int | None = workers
        self._workers = workers

    def start(self, settings: Settings, emit: Emit) -> Emit:
        from bench.runs.run_job import run_job  # loads torch

        self._run = run_job
        threads = settings.threads or max(1, (os.cpu_count() or 1) // self._workers)
        self._settings = replace(settings, threads=threads)
        # Torch is imported once, by a server that forks the workers before anything runs in it.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([run_job.__module__])
        self._manager = SyncManager(ctx=context)
        self._manager.start(_end_with_parent)
        self._events: Any = self._manager.Queue()
        self._forwarder = threading.Thread(target=_forward, args=(self._events, emit), daemon=True)
        self._forwarder.start()
        self._processes = [_Worker(context) for _ in range(self._workers)]
        return self._events.put

    def submit(self, jobs: Sequence[Job]) -> list[Future[Outcome]]:
        return [self._submit(job) for job in jobs]

    def _submit(self, job: Job) -> Future[Outcome]:
        worker = next(worker for worker in self._processes if worker.free)
        return worker.submit(self._run, job, self._settings, self._events.put)

    def reason(self, error: Exception) -> str:
        if isinstance(error, BrokenProcessPool):
            return "its worker process died (out of memory, or killed from outside)"
        return f"its worker process failed: {type(error).__name__}: {error}"

    def stop(self) -> None:
        for worker in self._processes:
            worker.stop()
        with contextlib.suppress(OSError, EOFError):  # the queue's process may have been killed
            self._events.put(None)
        self._forwarder.join(timeout=5)
        self._manager.shutdown()


@dataclass
class _Worker:
    """One process at a time: when it has died, the next job gets another."""

    context: BaseContext
    _pool: ProcessPoolExecutor | None = None
    _last: Future[Outcome] | None = None

    @property
    def free(self) -> bool:
        return self._last is None or self._last.done()

    def submit(self, function: Callable[..., Outcome], *arguments: Any) -> Future[Outcome]:
        if self._pool is None:
            self._pool = self._new_pool()
        try:
            self._last = self._pool.submit(function, *arguments)
        except BrokenProcessPool:
            self._pool.shutdown(wait=False)
            self._pool = self._new_pool()
            self._last = self._pool.submit(function, *arguments)
        return self._last

    def stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _new_pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, self.context, _end_with_parent)


def _end_with_parent() -> None:
    """End this process when the one that asked for it is gone, so that its job can be taken up again."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        while parent is not None and parent.is_alive():
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _forward(events: Any, emit: Emit) -> None:
    """Emit what workers put into the queue, in order, up to a None."""
    while True:
        try:
            event = events.get()
        except (EOFError, OSError):
            return
        if event is None:
            return
        emit(event)
