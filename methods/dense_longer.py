"""Control: the dense network, unpruned, trained for all epochs of a workload in one schedule.

The ceiling beside which pruned networks stand: part of what "pruning improves accuracy" tables show is that the pruned
network was trained for longer (Blalock et al., "What is the State of Neural Network Pruning?", MLSys 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.interface.cell import Recovery
from bench.interface.method import Context, Found
from bench.interface.task import Task
from bench.lazy import torch

if TYPE_CHECKING:
    from torch import nn

    from bench.interface.method import Budget
    from bench.structure.graph import PruningGraph


@dataclass(frozen=True)
class DenseLonger:
    """The dense network, trained from fresh weights for as many epochs as all the others cost together."""

    searches: ClassVar[bool] = False
    needs_dense: ClassVar[bool] = False
    prunes: ClassVar[bool] = False
    recovery: ClassVar[Recovery] = "scratch"
    standing: ClassVar[str] = "control"

    def search(self, model: nn.Module, graph: PruningGraph, task: Task, budget: Budget, ctx: Context) -> Found:
        whole = {g.name: g.size for g in graph.groups}
        return Found(scores={g.name: torch.zeros(g.size) for g in graph.groups}, widths=whole)
