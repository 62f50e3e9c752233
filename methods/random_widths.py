"""Control: widths drawn at random and fitted to the budget, the standard control of architecture search.

Each group's share is drawn uniformly from (0, 1], and all shares are multiplied by one factor, solved to the budget; a
share ends at 1, and a group keeps one bundle at least. Which channels stay is decided by their L1 norms, as in `l1`. A
search that does not beat it has found no widths that are better than others of the same cost (Li and Talwalkar, "Random
Search and Reproducibility for Neural Architecture Search", UAI 2019).
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
class RandomWidths:
    """Draw every group's width at random; keep the channels with the largest L1 norms."""

    searches: ClassVar[bool] = False
    needs_dense: ClassVar[bool] = True
    recovery: ClassVar[Recovery] = "rewind"
    standing: ClassVar[str] = "control"

    def search(self, model: nn.Module, graph: PruningGraph, task: Task, budget: Budget, ctx: Context) -> Found:
        import numpy as np

        drawn = 1 - np.random.default_rng(ctx.seed).random(len(graph.groups))  # in (0, 1]
        shares = {group.name: float(share) for group, share in zip(graph.groups, drawn, strict=True)}
        return Found(scores=graph.channel_scores(model), widths=scaled_widths(graph, shares, budget.ratio))


def scaled_widths(graph: PruningGraph, shares: dict[str, float], ratio: float) -> dict[str, int]:
    """Widths in the proportions of `shares`, by group, whose MACs come nearest to `ratio` of the dense network's."""
    from bench.search.bisection import nearest
    from bench.search.widths import width_of

    def at(factor: float) -> dict[str, int]:
        return {group.name: width_of(group, min(1.0, factor * shares[group.name])) for group in graph.groups}

    dense = int(graph.macs())
    return at(nearest(lambda factor: int(graph.macs(at(factor))), ratio * dense, 0.0, 1 / min(shares.values())))
