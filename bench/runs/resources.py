"""`[resources]` of a suite, and `--resource`: what a cell is computed on. No part of any identity. Imports no torch."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from typing import Annotated, Any

import pydantic
from pydantic import Field, field_validator

from bench.errors import RequestError, choices
from bench.interface.cell import Frozen

Word = Annotated[str, Field(pattern=r"^[\w.,:@+-]+$")]
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_MINUTES = {"m": 1, "h": 60, "d": 24 * 60}


class Resources(Frozen):
    """What each cell is computed on; no part of any identity. Nothing given: what the executor does by itself."""

    devices_per_cell: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that train one network together, a device each."""
    gpus: Annotated[float, Field(ge=0)] | None = None
    """GPUs of each cell on Ray or SLURM; Ray takes fractions below 1, so that cells share a GPU."""
    cpus: Annotated[int, Field(ge=1)] | None = None
    """CPU cores of each cell on Ray or SLURM."""
    memory: str | None = None
    """Main memory of each cell on Ray or SLURM: a number with K, M, G or T, as `16G`."""
    time: str | None = None
    """How long SLURM lets a cell run: `90m`, `8h`, `2d`, or as SLURM writes it, `HH:MM:SS` or `D-HH:MM:SS`."""
    partition: Word | None = None
    """SLURM's partition."""
    account: Word | None = None
    """SLURM's account."""

    @field_validator("memory")
    @classmethod
    def _memory(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"\d+(\.\d+)?[KMGT]", value):
            raise ValueError("use a number with K, M, G or T, as 16G")
        return value

    @field_validator("time")
    @classmethod
    def _time(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[1-9]\d*[mhd]|(\d+-)?\d+:\d\d:\d\d", value):
            raise ValueError("use 90m, 8h, 2d, HH:MM:SS or D-HH:MM:SS")
        return value

    @field_validator("gpus")
    @classmethod
    def _gpus(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value != int(value):
            raise ValueError("use a whole number, or a fraction below 1")
        return value

    @property
    def memory_bytes(self) -> int | None:
        """`memory` in bytes."""
        return int(float(self.memory[:-1]) * _UNITS[self.memory[-1]]) if self.memory else None

    @property
    def minutes(self) -> int | None:
        """`time` in minutes, rounded up."""
        if self.time is None:
            return None
        if self.time[-1] in _MINUTES:
            return int(self.time[:-1]) * _MINUTES[self.time[-1]]
        days, _, clock = self.time.rpartition("-")
        hours, minutes, seconds = (int(part) for part in clock.split(":"))
        return int(days or 0) * _MINUTES["d"] + hours * 60 + minutes + (seconds > 0)

    def gpus_for(self, device: str) -> float | None:
        """GPUs of each cell on a cluster; None where the executor decides.

        Raises:
            RequestError: `gpus` and `devices_per_cell` do not go together.
        """
        if device == "cpu":
            return 0
        if self.devices_per_cell == 1:
            return self.gpus
        if self.gpus not in (None, self.devices_per_cell):
            raise RequestError(
                f"gpus = {self.gpus:g} does not go with devices_per_cell = {self.devices_per_cell}: leave gpus out, or "
                "use --device cpu"
            )
        return self.devices_per_cell

    def changed(self, items: Sequence[str]) -> Resources:
        """These with `KEY=VALUE` of the command line in their place.

        Raises:
            RequestError: naming the item and what is allowed.
        """
        given = self.model_dump()
        for item in items:
            key, equals, text = item.partition("=")
            key = key.strip()
            if not equals or key not in given:
                raise RequestError(f"--resource {item!r} is not allowed{choices(key, list(given), word='allowed')}")
            given[key] = text.strip() if _is_text(key) else _number(text)
        try:
            return Resources.model_validate(given)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False)[0]
            reason = first["msg"].removeprefix("Value error, ")
            raise RequestError(f"--resource {first['loc'][0]}={first['input']} is not allowed: {reason}") from None


def _is_text(key: str) -> bool:
    return key in ("memory", "time", "partition", "account")


def _number(text: str) -> Any:
    """A number as TOML writes it, else the text, which the check then refuses."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
