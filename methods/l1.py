"""L1-norm filter pruning (Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, arXiv 1608.08710).

Section 3.1: the filters of a layer are ranked by the sum of their absolute weights, s_j = Σ|W_j|, and the smallest
are removed together with their feature maps and the next layer's kernels.

Published: the score, the ranking within a layer, one-shot pruning followed by retraining.
Reconstructed: the paper sets pruning ratios by hand from a sensitivity scan; here one ratio for all groups is solved
to the budget. Channels that must go together are scored by the sum over all their filters, where the paper leaves
layers joined by a shortcut unpruned. `scope = "global"` is a common variant and not the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from bench.adapters import Context, Found, Task
from bench.cell import Recovery

if TYPE_CHECKING:
    from torch import nn

    from bench.budget import Budget
    from bench.graph import PruningGraph


@dataclass(frozen=True)
class L1:
    """Remove the filters with the smallest L1 norms."""

    scope: Literal["layer", "global"] = "layer"
    """`layer`: one ratio for all groups; `global`: one threshold over scores divided by their group's mean."""

    searches: ClassVar[bool] = False
    needs_dense: ClassVar[bool] = True
    recovery: ClassVar[Recovery] = "finetune"
    standing: ClassVar[str] = "published; the ratio per layer is solved to the budget instead of set by hand"

    def search(self, model: nn.Module, graph: PruningGraph, task: Task, budget: Budget, ctx: Context) -> Found:
        return Found(scores=graph.channel_scores(model, p=1), scope=self.scope)
