"""Taylor expansion at gates (Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019).

Section 3.1: what the loss changes by when a set of parameters is set to zero, squared, to first order, is

    I_S = (Σ_{s in S} g_s w_s)²,   g = ∂L/∂w

Section 3.2 puts a gate z = 1 on every channel. There S is the gate alone, and I = (∂L/∂z)² = (Σ g w)² over all
parameters whose product with z the network computes with. This is the variant here, with the gate behind the norm,
"Taylor-FO-BN": the paper's best, and the only one of (Σ g w)² that says something of a filter in front of a norm,
where Σ g w is zero because the norm undoes the filter's scale. Behind a norm it is (γ g_γ + β g_β)². A network without
norms has the gate behind the layer, and then it is (Σ g w + b g_b)² of the filter itself.

Published: the score, squared in each batch and averaged over batches; one threshold over all layers; one gate where a
shortcut joins layers, its square divided by their number (released code). Reconstructed: the paper removes a few
channels at a time and trains in between, with a running mean of the scores; here the trained network is scored once on
ten batches, norms keep their statistics, and the threshold is solved to the budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.interface.cell import Recovery
from bench.interface.method import Context, Found
from bench.interface.task import Task

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bench.interface.method import Budget
    from bench.structure.graph import PruningGraph


@dataclass(frozen=True)
class Taylor:
    """Remove the channels whose gates the loss depends on least, to first order."""

    searches: ClassVar[bool] = False
    needs_dense: ClassVar[bool] = True
    dead_lowest: ClassVar[bool] = True
    recovery: ClassVar[Recovery] = "finetune"
    standing: ClassVar[str] = "published score (gate behind the norm); one-shot, threshold solved to the budget"

    def search(self, model: nn.Module, graph: PruningGraph, task: Task, budget: Budget, ctx: Context) -> Found:
        from bench.search.ranking import gate_gradients

        total: dict[str, Tensor] = {}
        batches = 0
        for slopes in gate_gradients(graph, model, task, ctx):
            batches += 1
            for group in graph.groups:
                square = slopes[group.name].square().cpu() / len(group.at(group.side("producer")))
                total[group.name] = total.get(group.name, 0) + square
        ctx.note(f"Taylor: gradients of {batches} training batches, which no epoch counts")
        mean = {g.name: (total[g.name] / batches).repeat_interleave(g.bundle) for g in graph.groups}
        return Found(scores=mean, scope="raw")
