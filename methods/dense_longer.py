"""Control: the dense network, unpruned, trained for as many epochs as all the others cost together.

What pruned networks are compared to must have been trained as long: part of what "pruning improves accuracy" tables
show is the recovery's epochs (Blalock et al., "What is the State of Neural Network Pruning?", MLSys 2020).
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
    """The dense network with the epochs that the others spend on search and recovery."""

    searches: ClassVar[bool] = False
    needs_dense: ClassVar[bool] = True
    prunes: ClassVar[bool] = False
    recovery: ClassVar[Recovery] = "finetune"
    standing: ClassVar[str] = "control"

    def search(self, model: nn.Module, graph: PruningGraph, task: Task, budget: Budget, ctx: Context) -> Found:
        whole = {g.name: g.size for g in graph.groups}
        return Found(scores={g.name: torch.zeros(g.size) for g in graph.groups}, widths=whole)
