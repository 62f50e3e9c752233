"""Control: a uniformly thinner network trained from scratch, for as many epochs as all the others cost together.

Li et al. 2017 (section 4.4) and Liu et al., "Rethinking the Value of Network Pruning", ICLR 2019, train it as the
baseline that pruning must beat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.interface.cell import Recovery
from bench.interface.method import Context, Found
from bench.interface.task import Task

if TYPE_CHECKING:
    from torch import nn

    from bench.interface.method import Budget
    from bench.structure.graph import PruningGraph


@dataclass(frozen=True)
class UniformScratch:
    """The same architecture at a smaller width, from a fresh initialisation."""

    searches: ClassVar[bool] = False
    needs_dense: ClassVar[bool] = False
    recovery: ClassVar[Recovery] = "scratch"
    standing: ClassVar[str] = "control"

    def search(self, model: nn.Module, graph: PruningGraph, task: Task, budget: Budget, ctx: Context) -> Found:
        from bench.search.ranking import first_channels

        # Which channels stay is of no consequence, since every weight is drawn anew: the first ones.
        return Found(scores=first_channels(graph))
