"""Ends a training as a killed process would, behind the checkpoint of an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.interface.log import Observer


class Killed(Exception):
    """Raised in the middle of a training."""


@dataclass
class Kill(Observer):
    """Raises `Killed` behind an epoch."""

    after: int

    def epoch(self, phase: str, epoch: int, row: Mapping[str, Any]) -> None:
        if epoch == self.after:
            raise Killed
