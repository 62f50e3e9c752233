"""Processes that work for another one, and what they need to start and to end fast. Imports no torch."""

from __future__ import annotations

import atexit
import contextlib
import gc
import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator

USUAL = gc.get_threshold()
"""How often garbage is searched for where nothing else was set."""

RARELY = (100_000, 10, 10)

_kept = False
"""Whether `keep` was called: asking Python takes a tenth of a second for each million objects."""


def cores() -> int:
    """Cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1


def end_with_parent() -> None:
    """End this process when the one that asked for it is gone, which need not be the one that forked it."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """No search for garbage while packages or records are loaded, which make none: it takes a quarter of their time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not _kept:
            with settled():
                pass  # what was loaded counts as old now: the search that is due would go through all of it
        if collecting:
            gc.enable()


@contextlib.contextmanager
def settled() -> Iterator[None]:
    """Search for garbage among what is made from now on, and not among what is there, which stays."""
    before = _kept or gc.get_freeze_count() > 0
    gc.freeze()
    try:
        yield
    finally:
        if not before:
            gc.unfreeze()


def keep() -> None:
    """Never again search for garbage among what is there now, which stays as long as this process."""
    global _kept
    if not _kept:
        _kept = True
        atexit.register(gc.unfreeze)  # extensions that count what is left at the end would call it leaked
    gc.freeze()


def collect_as_usual() -> None:
    """Search for garbage as often as Python does, but not among what a program of ours has loaded by now."""
    if gc.get_threshold() == RARELY:
        keep()
        gc.set_threshold(*USUAL)


def run_as_program(main: Callable[[], object]) -> None:
    """Run `main`, which leaves by SystemExit, as all that this process does.

    Garbage is rarely searched for, until `collect_as_usual`. At the end threads are waited for and what is registered
    for the exit is run as ever, but modules are not taken down piece by piece, which took a second once PyTorch and
    MLflow were loaded.
    """
    gc.set_threshold(*RARELY)
    code = 0

    def leave() -> None:
        failed = code
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):  # nobody reads it any more; Python leaves with this code
                failed = failed or 120
        os._exit(failed)

    atexit.register(leave)  # called last, since it is registered first
    try:
        main()
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
            code = 1
        else:
            code = end.code or 0
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    except BaseException:
        atexit.unregister(leave)
        raise
