"""How many processes read streamed data: a setting of an invocation, which changes no batch. Imports no torch."""

from __future__ import annotations

import os

from bench.errors import RequestError

MOST = 128
"""Processes that may be asked for."""
_workers: int | None = None


def require_workers(count: int | None) -> None:
    """Refuse a number of processes that is not allowed.

    Raises:
        RequestError: with the numbers that are.
    """
    if count is not None and not 0 <= count <= MOST:
        raise RequestError(f"workers = {count} is not allowed; use 0 to {MOST}")


def set_workers(count: int | None) -> None:
    """Have this process read with `count` processes beside it from now on; 0: by itself; None: as many as it has cores,
    eight at most.

    Raises:
        RequestError: the count is not allowed.
    """
    global _workers
    require_workers(count)
    _workers = count


def workers() -> int:
    """How many processes read for this one."""
    return min(8, os.cpu_count() or 1) if _workers is None else _workers
