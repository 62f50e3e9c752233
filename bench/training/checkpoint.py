"""Checkpoints: files that are replaced whole, and read without running code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from bench.interface.log import TrainingLog
from bench.interface.method import Stateful


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values) so that a reader finds the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    torch.save(state, partial)
    partial.replace(path)


def load_state(path: Path) -> dict[str, Any] | None:
    """What `save_state` wrote, or None where there is nothing; tensors and plain values only, never code."""
    if not path.exists():
        return None
    return torch.load(path, map_location="cpu", weights_only=True)


def save_epoch(path: Path, parts: Mapping[str, Stateful], log: TrainingLog, phase: str, epoch: int) -> None:
    """Write the state after `epoch` epochs of a phase."""
    state = {name: part.state_dict() for name, part in parts.items()}
    save_state(path, {"phase": phase, "epoch": epoch, "state": state, "log": log.state()})


def restore_epoch(path: Path | None, parts: Mapping[str, Stateful], log: TrainingLog, phase: str) -> int:
    """Load a checkpoint of this phase into `parts` and `log`; the number of epochs already done."""
    saved = load_state(path) if path is not None else None
    if saved is None or saved["phase"] != phase:
        return 0
    for name, part in parts.items():
        part.load_state_dict(saved["state"][name])
    log.restore(saved["log"])
    return int(saved["epoch"])
