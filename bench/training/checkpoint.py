"""Checkpoints: files that are replaced whole, carry a checksum, and are read without running code.

The file before the last one is kept beside it. A file that is damaged, that belongs to another job (its checksum holds
for its folder and its name alone), or that does not fit what it is read for, is set aside as `NAME.damaged`, and the
one before it is taken; where there is none, the phase starts again.
"""

from __future__ import annotations

import copy
import hashlib
import io
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from bench.interface.log import TrainingLog
from bench.interface.method import Stateful
from bench.training import parallel

logger = logging.getLogger("prunebench")
T = TypeVar("T")

CHECKPOINTS = {"dense": "train.pt", "search": "search.pt", "recovery": "recovery.pt"}
"""Names of the files that training replaces after each epoch, by phase."""
_MAGIC = b"prunebench checkpoint 1 "
_DIGEST = 64
"""Hexadecimal digits of a SHA-256, which stand between the first words and a line feed."""


class _DamagedError(Exception):
    """What is wrong with a checkpoint."""


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values) so that a reader finds the old file or the new one, never a part.

    Of processes that train one network together the first one alone writes.
    """
    if not parallel.first():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    partial = path.with_name(path.name + ".partial")
    for place in (partial, path, _previous(path)):
        if place.is_dir():
            _set_aside(place)
    try:
        with partial.open("wb") as file:
            file.write(_MAGIC + _checksum(path, content) + b"\n")
            file.write(content)
    except OSError:  # a full disk, say: the checkpoint before it stays, and the part of this one takes no room
        partial.unlink(missing_ok=True)
        raise
    if path.is_file():
        path.replace(_previous(path))
    partial.replace(path)


def restore(path: Path, use: Callable[[dict[str, Any]], T], log: TrainingLog | None = None) -> T | None:
    """What `use` makes of the last checkpoint that it can use, or None where there is none.

    A checkpoint holds tensors and plain values only, never code. Of processes that train one network together the
    first one reads it, and the others use the same.

    Args:
        use: raises KeyError, TypeError, ValueError, AttributeError or RuntimeError for a state that is not its own.
        log: gets a note where a file was set aside.
    """
    if not parallel.first():
        state = parallel.agreed(None)
        return None if state is None else use(state)
    state, made = _first_usable(path, use, log) or (None, None)
    parallel.agreed(state)
    return made


def _first_usable(
    path: Path, use: Callable[[dict[str, Any]], T], log: TrainingLog | None
) -> tuple[dict[str, Any], T] | None:
    """The state of the last checkpoint that can be used, and what `use` makes of it."""
    for file in (path, _previous(path)):
        if not file.exists():
            continue
        try:
            state = _read(file, path)
            return state, use(state)
        except (_DamagedError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            _set_aside(file)
            reason = str(error) if isinstance(error, _DamagedError) else "it holds the state of something else"
            text = f"checkpoint {file.name} was set aside: {reason}; what it held was computed again"
            logger.warning("%s", text)
            if log is not None:
                log.note(text)
    return None


def save_epoch(path: Path, parts: Mapping[str, Stateful], log: TrainingLog, phase: str, epoch: int) -> None:
    """Write the state after `epoch` epochs of a phase."""
    state = {name: part.state_dict() for name, part in parts.items()}
    save_state(path, {"phase": phase, "epoch": epoch, "state": state, "log": log.state()})


def restore_epoch(path: Path | None, parts: Mapping[str, Stateful], log: TrainingLog, phase: str) -> int:
    """Load a checkpoint of this phase into `parts` and `log`; the number of epochs already done."""
    if path is None or not parallel.agreed(path.exists() or _previous(path).exists()):
        return 0
    untouched = {name: copy.deepcopy(part.state_dict()) for name, part in parts.items()}

    def load(saved: dict[str, Any]) -> int:
        if saved["phase"] != phase:
            raise KeyError(phase)
        try:
            for name, part in parts.items():
                part.load_state_dict(saved["state"][name])
        except Exception:
            for name, part in parts.items():
                part.load_state_dict(untouched[name])
            raise
        log.restore(saved["log"])
        return int(saved["epoch"])

    return restore(path, load, log) or 0


def epochs_in(path: Path) -> int:
    """How many epochs of its phase the last checkpoint there that is whole has behind it; 0 where there is none."""
    found = _first_usable(path, lambda saved: int(saved["epoch"]), None)  # asked of the first process alone
    return found[1] if found else 0


def _previous(path: Path) -> Path:
    return path.with_name(path.name + ".previous")


def _checksum(path: Path, content: memoryview) -> bytes:
    """Of the content and of the place that it was written for: job and name."""
    digest = hashlib.sha256(f"{path.parent.name}/{path.name}\n".encode("utf-8", "surrogateescape"))
    digest.update(content)
    return digest.hexdigest().encode()


def _read(file: Path, written_as: Path) -> dict[str, Any]:
    """The state in a file.

    Args:
        written_as: the name under which it was written.

    Raises:
        _DamagedError: it is no checkpoint, or not as it was written.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise _DamagedError(f"it cannot be read ({error.strerror})") from None
    head, body = len(_MAGIC) + _DIGEST + 1, memoryview(content)
    if not content:
        raise _DamagedError("it is empty")
    if not content.startswith(_MAGIC) or len(content) < head:
        raise _DamagedError("it is no checkpoint of this version")
    if _checksum(written_as, body[head:]) != content[len(_MAGIC) : head - 1]:
        raise _DamagedError("its checksum does not hold")
    try:
        state = torch.load(io.BytesIO(body[head:]), map_location="cpu", weights_only=True)
    except Exception as error:  # torch refuses what is no tensor in many ways
        raise _DamagedError(f"torch cannot read it ({type(error).__name__})") from None
    if not isinstance(state, dict):
        raise _DamagedError("it holds no state")
    return state


def _set_aside(file: Path) -> None:
    """Rename a file or folder to `NAME.damaged`, in place of an earlier one."""
    aside = file.with_name(file.name + ".damaged")
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside)
    else:
        aside.unlink(missing_ok=True)
    file.rename(aside)
