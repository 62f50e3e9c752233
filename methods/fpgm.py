"""FPGM: filter pruning via geometric median (He et al., CVPR 2019, arXiv 1811.00250).

Section 3.4: the filters of a layer that are nearest to the layer's geometric median can be replaced by the others, and
go. The median is sought among the filters themselves, so that what is ranked is the sum of a filter's Euclidean
distances to all filters of its layer::

    g(x) = Σ_j ‖x - F_j‖₂,   lowest first

Published: the distances, whole layers compared, one ratio for all layers. Reconstructed: the paper sets the filters to
zero after every epoch of training and lets them recover (Algorithm 1), here the trained network is cut once; the ratio
is solved to the budget; distances of channels that must go together are added up over the layers that make them, where
the paper leaves residual streams whole.
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
    from bench.structure.groups import Member


@dataclass(frozen=True)
class FPGM:
    """Remove the filters nearest to their layer's geometric median."""

    searches: ClassVar[bool] = False
    needs_dense: ClassVar[bool] = True
    recovery: ClassVar[Recovery] = "finetune"
    standing: ClassVar[str] = "score published; one-shot, its ratio solved to the budget, coupled layers summed"

    def search(self, model: nn.Module, graph: PruningGraph, task: Task, budget: Budget, ctx: Context) -> Found:
        from bench.search.coupled import coupled_scores
        from bench.structure.layers import makes_channels, require_rule

        modules = dict(model.named_modules())

        def distances(member: Member) -> Tensor | None:
            layer = modules[member.module]
            if member.kind == "in" or not makes_channels(layer):
                return None
            return distance_sums(require_rule(layer).rows(layer).detach().flatten(1))

        return Found(scores=coupled_scores(graph, distances))


def distance_sums(filters: Tensor) -> Tensor:
    """g of each filter: filters [n, k] -> [n]."""
    return torch.cdist(filters, filters, compute_mode="donot_use_mm_for_euclid_dist").sum(1)
