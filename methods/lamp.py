"""LAMP: layer-adaptive sparsity for magnitude-based pruning (Lee et al., ICLR 2021, arXiv 2010.07611).

Section 3: a weight's square, divided by the squares of all weights of its layer that are not smaller. One threshold
over all layers then gives each its own share. W in ascending order of magnitude::

    score(u; W) = W[u]² / Σ_{v ≥ u} W[v]²

Published: the score, for single weights, and the one threshold. Reconstructed: the method is one of unstructured
pruning; here W[u]² is the squared L2 norm of what makes a channel, added up over all layers that make it, and the group
stands for the layer. The threshold is on multiply-adds in place of the number of weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.interface.cell import Recovery
from bench.interface.method import Context, Found
from bench.interface.task import Task
from bench.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bench.interface.method import Budget
    from bench.structure.graph import PruningGraph


@dataclass(frozen=True)
class LAMP:
    """One threshold over squared norms, each divided by those of its group that are not smaller."""

    searches: ClassVar[bool] = False
    needs_dense: ClassVar[bool] = True
    dead_lowest: ClassVar[bool] = True
    recovery: ClassVar[Recovery] = "finetune"
    standing: ClassVar[str] = "published for single weights; reconstructed for channels"

    def search(self, model: nn.Module, graph: PruningGraph, task: Task, budget: Budget, ctx: Context) -> Found:
        scores, norms = {}, graph.channel_scores(model, p=2)
        for group in graph.groups:
            scores[group.name] = lamp_scores(norms[group.name][:: group.bundle]).repeat_interleave(group.bundle)
        return Found(scores=scores, scope="raw")


def lamp_scores(squares: Tensor) -> Tensor:
    """The score of each entry: squares [n] -> [n]; 1 for the largest, 0 where all are 0."""
    ascending, order = squares.detach().double().sort(stable=True)
    rest = ascending.flip(0).cumsum(0).flip(0)
    return torch.zeros_like(ascending).index_copy(0, order, ascending / rest.clamp(min=1e-300))
