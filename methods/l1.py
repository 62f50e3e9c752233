"""L1-norm filter pruning (Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, arXiv 1608.08710).

Section 3.1: the filters of a layer are ranked by the sum of their absolute weights, s_j = Σ|W_j|, and the smallest
are removed together with their feature maps and the next layer's kernels. Section 3.2: layers differ in how much of
this they bear, which a scan shows: each layer alone is pruned to several shares and the network evaluated. Section 3.3:
of a residual block only the layers whose maps stay inside it are pruned.

Published: the score, the ranking within a layer, the sensitivity scan, residual streams left whole (`scope = "inner"`),
one-shot pruning followed by retraining at a constant rate of 1e-3 for 40 epochs on CIFAR (protocol `paper`).
Reconstructed: the paper sets ratios by hand after looking at the scan; here one ratio for all groups is solved to the
budget (`scope = "layer"` and `"inner"`), or the ratios are read off the scan at one loss that is allowed to every
group, and that loss is solved to the budget (`scope = "sensitivity"`). Where a residual stream is pruned as well, its
channels are scored by the sum over all their filters. `scope = "global"` is a common variant and not the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from bench.interface.cell import Recovery
from bench.interface.method import Context, Found, PaperRecipe
from bench.interface.task import Task
from bench.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bench.interface.method import Budget
    from bench.structure.graph import PruningGraph

SHARES = (0.9, 0.7, 0.5, 0.3, 0.1)
"""Kept shares of a group's channels that the scan tries."""
SLOPE = 0.01
"""Least loss that a group is charged for all of its channels, as a share of the dense metric. It spreads the pruning
over groups that lose nothing."""
SCANNED = 1000
"""Validation samples that are enough for the scan, which passes over them once for every share of every group. A split
of twice as many or more is halved at random until it is smaller than that."""


@dataclass(frozen=True)
class L1:
    """Remove the filters with the smallest L1 norms."""

    scope: Literal["layer", "inner", "global", "sensitivity"] = "layer"
    """`layer`: one ratio for all groups; `inner`: one ratio for the groups inside residual blocks, the others whole, or
    as `layer` in a network that has no such blocks; `global`: one threshold over scores divided by their group's mean;
    `sensitivity`: ratios from a scan on the validation split (section 3.2)."""

    searches: ClassVar[bool] = False
    needs_dense: ClassVar[bool] = True
    dead_lowest: ClassVar[bool] = True
    recovery: ClassVar[Recovery] = "finetune"
    paper: ClassVar[dict[str, object]] = {"scope": "inner"}
    paper_recipe: ClassVar[PaperRecipe] = PaperRecipe(
        search_epochs=0,
        recovery_epochs=40,
        recovery={"optimizer": "sgd", "lr": 1e-3, "schedule": "constant", "warmup_epochs": 0.0},
    )
    standing: ClassVar[str] = "published; the ratio per layer is solved to the budget instead of set by hand"

    def left_whole(self, graph: PruningGraph) -> frozenset[str]:
        """With scope `inner` the groups that a shortcut joins; none in a network without residual blocks."""
        from bench.search.residual import inner_groups

        inner = inner_groups(graph) if self.scope == "inner" else ()
        return frozenset(g.name for g in graph.groups if g.name not in inner) if inner else frozenset()

    def search(self, model: nn.Module, graph: PruningGraph, task: Task, budget: Budget, ctx: Context) -> Found:
        scores = graph.channel_scores(model, p=1)
        if self.scope == "inner":
            whole = self.left_whole(graph)
            ctx.note(f"L1: {len(whole)} of {len(graph.groups)} groups stay whole, since a shortcut joins them")
            return Found(scores=scores, fixed=whole)
        if self.scope != "sensitivity":
            return Found(scores=scores, scope=self.scope)
        dense, scan = sensitivity(model, graph, scores, task, ctx)
        losses = {
            name: [dense - value if task.higher_is_better else value - dense for value in metrics]
            for name, metrics in scan.items()
        }
        return Found(scores=scores, widths=widths_by_loss(graph, losses, abs(dense), budget.ratio))


def sensitivity(
    model: nn.Module, graph: PruningGraph, scores: Mapping[str, Tensor], task: Task, ctx: Context
) -> tuple[float, dict[str, list[float]]]:
    """The scan of section 3.2: the metric on validation samples as one group at a time keeps its best channels.

    Returns the dense network's metric and, per group, one value for each of `SHARES`. Recorded as the snapshot
    `sensitivity`, from which the report draws.
    """
    from bench.search.fit import highest, unit_scores
    from bench.search.gates import Gates
    from bench.search.widths import width_of

    gates = Gates(model.to(ctx.device), graph)
    seen = ctx.data.val
    while len(seen) >= 2 * SCANNED:
        seen, _ = seen.halves(ctx.seed)
    scan: dict[str, list[float]] = {}
    steps = len(SHARES) * len(graph.groups)

    def evaluated(masks: Mapping[str, Tensor]) -> float:
        gates.set(masks)
        return task.evaluate(model, seen, ctx.device, ctx.recipe)[task.metric]

    try:
        dense = evaluated({})
        for group in graph.groups:
            values = scan[group.name] = []
            units = unit_scores(group, scores)
            ctx.log.add_snapshot("sensitivity", {"group": group.name, "kept": 1.0, "metric": dense})
            for share in SHARES:
                mask = highest(group, units, width_of(group, share))
                value = evaluated({group.name: mask.to(ctx.device, torch.float32)})
                values.append(value)
                ctx.log.add_snapshot("sensitivity", {"group": group.name, "kept": share, "metric": value})
                done = len(SHARES) * (len(scan) - 1) + len(values)
                ctx.observer.step("search", done, steps, abs(dense - value))
    finally:
        gates.remove()
    ctx.note(
        f"L1: the sensitivity scan evaluated {len(seen)} validation samples {steps + 1} times, which no epoch counts"
    )
    return dense, scan


def widths_by_loss(graph: PruningGraph, losses: Mapping[str, list[float]], most: float, ratio: float) -> dict[str, int]:
    """Each group's width at the loss, one for all groups, that brings the MACs to `ratio` of the dense network's.

    Args:
        losses: per group, what the metric lost at each of `SHARES`; between them losses are interpolated.
        most: the loss of a group without channels.
    """
    import numpy as np

    from bench.search.bisection import nearest
    from bench.search.widths import width_of

    shares = np.array([1.0, *SHARES, 0.0])
    curves = {}
    for name, lost in losses.items():
        finite = [loss if math.isfinite(loss) else most for loss in lost]
        # A thinner group cannot be worth more than a wider one. Where the scan says so, it is noise.
        worst = np.maximum.accumulate([0.0, *finite, max(most, *finite)])
        curves[name] = worst + SLOPE * most * (1 - shares)

    def at(loss: float) -> dict[str, int]:
        return {g.name: width_of(g, float(np.interp(loss, curves[g.name], shares))) for g in graph.groups}

    largest = max(float(curve[-1]) for curve in curves.values())
    return at(nearest(lambda loss: graph.macs(at(loss)), ratio * int(graph.macs()), 0.0, largest))
