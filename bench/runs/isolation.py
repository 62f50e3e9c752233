"""What an adapter changes in its process, and whether it leaves by another door, concerns no other cell."""

from __future__ import annotations

import gc
import io
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.modules import module as modules


@contextmanager
def interrupts_told_apart() -> Iterator[Callable[[], bool]]:
    """Tell Ctrl-C and SIGTERM from a KeyboardInterrupt that an adapter raised: gives whether such a signal came.

    A SIGTERM that nobody handles in Python ends the process, and is left alone.
    """
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came.is_set  # signals are handled in the main thread: none can come here
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handler(number: int, frame: Any) -> None:
        came.set()
        handle = before[signal.Signals(number)]
        if callable(handle):
            handle(number, frame)

    caught = [number for number, handle in before.items() if callable(handle) or number == signal.SIGINT]
    for number in caught:
        signal.signal(number, handler)
    try:
        yield came.is_set
    finally:
        for number in caught:
            signal.signal(number, before[number])


@contextmanager
def process_kept(told: Callable[[str], None]) -> Iterator[None]:
    """Put back at the end what was changed of the process: working directory, umask, streams, torch's modes, hooks.

    Args:
        told: gets one sentence that names what was changed, where anything was, and one that names threads that were
            left running, which cannot be ended. The state of random numbers is put back without a word, since drawing
            some is no offence.
    """
    kept = [(part, part.read()) for part in _PARTS]
    streams, threads = _Streams(), set(threading.enumerate())
    try:
        yield
    finally:
        changed = streams.put_back()
        for part, before in kept:
            if _differs(part, before):
                part.write(before)
                if not part.silent:
                    changed.append(part.name)
        left = [t.name for t in threading.enumerate() if t not in threads and not t.daemon]
        if left:
            told(f"threads were started that go on, and hold up the end of the process: {', '.join(left)}")
        if changed:
            told(f"the state of the process was changed and put back: {', '.join(changed)}")


@dataclass(frozen=True)
class _Part:
    """One piece of a process's state."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], Any]
    silent: bool = False


def _differs(part: _Part, before: Any) -> bool:
    with suppress(OSError):  # the working directory may have been deleted
        now = part.read()
        if part.silent:
            return True
        return now != before
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _directory() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it was deleted
        return os.sep


def _put_environment(before: dict[str, str]) -> None:
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def _hooks() -> list[dict[Any, Any]]:
    names = sorted(name for name in vars(modules) if name.startswith("_global_") and name.endswith("_hooks"))
    return [getattr(modules, name) for name in names]


def _put_hooks(before: list[dict[Any, Any]]) -> None:
    for now, earlier in zip(_hooks(), before, strict=True):
        now.clear()
        now.update(earlier)


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _put_device(before: torch.device) -> None:
    # Where a default is set, the processor too, each of torch's operations takes a detour through Python.
    torch.set_default_device(None if before.type == "cpu" else before)


def _put_warnings(before: list[Any]) -> None:
    warnings.filters[:] = before  # pyright: ignore[reportIndexIssue]


def _put_path(before: list[str]) -> None:
    sys.path[:] = before


_PARTS = (
    _Part("working directory", _directory, os.chdir),
    _Part("umask", _umask, os.umask),
    _Part("environment variables", lambda: dict(os.environ), _put_environment),
    _Part("sys.path", lambda: list(sys.path), _put_path),
    _Part("sys.excepthook", lambda: sys.excepthook, lambda hook: setattr(sys, "excepthook", hook)),
    _Part("recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    _Part("garbage collection", gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
    _Part("logging", lambda: logging.root.manager.disable, logging.disable),
    _Part("warnings", lambda: list(warnings.filters), _put_warnings, silent=True),
    _Part("numpy's error handling", np.geterr, lambda modes: np.seterr(**modes)),
    _Part("number of threads", torch.get_num_threads, torch.set_num_threads),
    _Part("autograd mode", torch.is_grad_enabled, torch.set_grad_enabled),
    _Part("anomaly detection", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    _Part(
        "autocast",
        lambda: [torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")],
        lambda on: [torch.set_autocast_enabled(kind, flag) for kind, flag in zip(("cpu", "cuda"), on, strict=True)],
    ),
    _Part("default dtype", torch.get_default_dtype, torch.set_default_dtype),
    _Part("default device", torch.get_default_device, _put_device),
    _Part(
        "deterministic algorithms", _deterministic, lambda b: torch.use_deterministic_algorithms(b[0], warn_only=b[1])
    ),
    _Part("matmul precision", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    _Part(
        "cudnn.benchmark",
        lambda: torch.backends.cudnn.benchmark,
        lambda on: setattr(torch.backends.cudnn, "benchmark", on),
    ),
    _Part("global module hooks", lambda: [dict(hooks) for hooks in _hooks()], _put_hooks),
    _Part("random", random.getstate, random.setstate, silent=True),
    _Part("numpy.random", np.random.get_state, np.random.set_state, silent=True),
    _Part("torch's random numbers", torch.get_rng_state, torch.set_rng_state, silent=True),
)


class _Streams:
    """Standard output and error as they are, with copies of their file descriptors in case they are closed."""

    def __init__(self) -> None:
        self._streams = {name: getattr(sys, name) for name in ("stdout", "stderr")}
        self._copies: dict[int, int] = {}
        for number in (1, 2):
            with suppress(OSError):
                self._copies[number] = os.dup(number)

    def put_back(self) -> list[str]:
        """Open again what was closed, put back what was replaced; the names of those streams."""
        broken = [number for number in self._copies if not _is_open(number)]
        for number in broken:
            os.dup2(self._copies[number], number)
        changed: list[str] = []
        for number, (name, stream) in enumerate(self._streams.items(), start=1):
            if stream is not None and stream.closed:
                fresh = io.TextIOWrapper(io.FileIO(number, "w", closefd=False), "utf-8", "backslashreplace")
                fresh.reconfigure(line_buffering=True)
                setattr(sys, name, fresh)
                changed.append(f"sys.{name}")
            elif getattr(sys, name) is not stream or number in broken:
                setattr(sys, name, stream)
                changed.append(f"sys.{name}")
        for copy in self._copies.values():
            os.close(copy)
        return changed


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
