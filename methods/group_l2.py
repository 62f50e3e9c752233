"""Group norms: DepGraph without its sparse training (Fang et al., CVPR 2023, arXiv 2301.12900).

Section 3.3: what goes with a channel is one group of parameters, through all layers that are coupled: the rows that
make it, the scales that it runs through, the columns that read it. Its importance is the sum over all of them, brought
to one measure for groups of any size by the mean of the N highest::

    I_k = Σ_{w in group} ‖w[k]‖₂²,   Î_k = N · I_k / Σ TopN(I)

Published: both equations; the ranking of all groups together. Reconstructed: N is a share of the group's channels here.
With all of them Î divides by the mean, the default of the released library (Torch-Pruning); with one, by the largest.
Shifts (biases) are left out, as they are there. The regulariser that makes groups sparse while they train is left out:
this is the paper's "without sparse learning". The threshold is solved to the budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from bench.interface.cell import Recovery
from bench.interface.method import Context, Found
from bench.interface.task import Task

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bench.interface.method import Budget
    from bench.structure.graph import PruningGraph
    from bench.structure.groups import Member


@dataclass(frozen=True)
class GroupL2:
    """Remove the channels whose squared norms are smallest, added up over all layers that they take part in."""

    top: Annotated[float, Field(gt=0, le=1)] = 1.0
    """N, as a share of the group's channels; at least one."""

    searches: ClassVar[bool] = False
    needs_dense: ClassVar[bool] = True
    dead_lowest: ClassVar[bool] = True
    recovery: ClassVar[Recovery] = "finetune"
    standing: ClassVar[str] = "published, without its sparse training; threshold solved to the budget"

    def search(self, model: nn.Module, graph: PruningGraph, task: Task, budget: Budget, ctx: Context) -> Found:
        from bench.search.coupled import channel_sums, coupled_scores
        from bench.structure.layers import require_rule

        modules = dict(model.named_modules())

        def squares(member: Member) -> Tensor | None:
            layer = modules[member.module]
            weight = getattr(layer, "weight", None)
            if weight is None or not require_rule(layer).takes_factor:
                return None  # a norm without scales, or the slopes of a PReLU
            return channel_sums(layer, weight.square(), member.kind)

        sums = coupled_scores(graph, squares)
        return Found(scores={name: relative(scores, self.top) for name, scores in sums.items()}, scope="raw")


def relative(scores: Tensor, top: float) -> Tensor:
    """Î of a group: [n] -> [n]."""
    highest = scores.topk(max(1, round(top * len(scores)))).values
    return scores / highest.mean().clamp(min=1e-30)
