"""Why a job did not succeed, in a sentence; and whether it is the job that failed, or the machine it ran on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

from bench.errors import DISK_FULL, CellError, RequestError, message_of

_FULL_WORDS = ("no space left on device", "database or disk is full", "disk quota exceeded")
"""How libraries say it that pass on no error number: safetensors, SQLite."""
_NO_MEMORY_WORDS = ("can't allocate memory", "cannot allocate memory", "not enough memory")


class DiskFullError(RequestError):
    """Nothing more can be written: no job can go on, and none is to blame."""


def reason_of_failure(error: BaseException) -> str:
    """What an error that ended a job says, in one line of at most 500 characters."""
    kind, text = type(error).__name__, message_of(error)
    if isinstance(error, torch.OutOfMemoryError):
        return f"out of memory on the GPU: use a smaller train.batch_size, or fewer jobs on each GPU ({text})"[:500]
    if isinstance(error, MemoryError) or _says(error, RuntimeError, _NO_MEMORY_WORDS):
        advice = "out of memory: use a smaller train.batch_size, or fewer --jobs"
        return (f"{advice} ({kind}: {text})" if text else f"{advice} ({kind})")[:500]
    sentence = text if text and isinstance(error, CellError | RequestError) else f"{kind}: {text}" if text else kind
    return sentence[:500]


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, says that there is no room left on a disk."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if (isinstance(error, OSError) and error.errno in DISK_FULL) or _says(error, Exception, _FULL_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def full_disk_told(where: object) -> Iterator[None]:
    """Turn what says that a disk is full into a DiskFullError.

    Args:
        where: the place that is named where the error names none.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, DiskFullError) or not is_disk_full(error):
            raise
        raise disk_full(error, where) from error


def disk_full(error: BaseException, where: object) -> DiskFullError:
    """The sentence about a full disk."""
    file = error.filename if isinstance(error, OSError) and error.filename else where
    return DiskFullError(
        f"no space is left on the disk of {os.fspath(file) if isinstance(file, os.PathLike) else file}: make room, and "
        "the same command goes on; no cell was recorded as failed for that"
    )


def _says(error: BaseException, kind: type[BaseException], words: tuple[str, ...]) -> bool:
    text = ""
    with suppress(Exception):  # a foreign error may be unable to say anything
        text = str(error).lower()
    return isinstance(error, kind) and any(word in text for word in words)
