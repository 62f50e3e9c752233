"""How many CPU threads a latency can be measured with on this machine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bench.errors import RequestError
from bench.interface.cell import Cell
from bench.processes import cores

if TYPE_CHECKING:
    import torch


def require_cores(cells: Iterable[Cell], device: torch.device) -> None:
    """Refuse latencies at more CPU threads than this machine has cores; on a GPU threads mean nothing.

    Raises:
        RequestError: naming the workload.
    """
    if device.type == "cuda":
        return
    for cell in cells:
        most = max(cell.latency.threads, default=0) if cell.latency else 0
        if most > cores():
            raise RequestError(
                f"workload {cell.workload.name}: latency.threads = {most} is not allowed on this machine, which has "
                f"{cores()} core{'s' * (cores() != 1)}"
            )
