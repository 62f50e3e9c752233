"""DAIS: Differentiable Annealing Indicator Search (Guan et al., TNNLS, arXiv 2011.02166).

Every channel carries a binary indicator that is relaxed to be continuous; indicators and weights are learned jointly
by bi-level optimisation, and an annealed relaxation drives the indicators to binary, so that the network that is cut
is the network that was searched::

    min_α  L_val(w*(α), I(α)) + λ_s R_sparsity + λ_F R_flops + λ_m R_symmetry     with  I = sigmoid(α / T)      (1)
    s.t.   w*(α) = argmin_w L_train(w, I(α))                                                                    (2)

    R_sparsity = mean |I|                                                                                       (3)
    R_flops    = log(E/F)  if E > F,   -log(E/F)  if E < (1 - t) F,   else 0                                    (4)
    R_symmetry = mean over pairs (i, j) of one stage of (ΣI_i / C_i - ΣI_j / C_j)²                              (5)

E = macs(ΣI) are the expected MACs, F the budget's, C_i a group's channels. λ_F is in units of the task's gradient, the
others weigh losses. The numbers are this file's own.

Published: binary indicators relaxed to continuous ones, learned with the weights by bi-level optimisation; annealing
that closes the gap between the searched and the final network; several regularisers; a constraint on the cost.
Second-hand (Broggi 2024, an unofficial implementation that cites the paper's equations): the sigmoid over T (7), T from
1 to about 0.02, the sum of ‖I‖₁ over layers (8; ours is a mean), E = Σ_l P_l (ΣI_l)(ΣI_{l+1}) (9), ± log E (10), the
symmetry of residual blocks (11), discretisation at I > 0.5 and fine-tuning from the searched weights. Reconstructed:
what a stage is in (5), the geometric fall of T, the start of α, its rate in terms of the number of steps, every λ.
`docs/methods.md` says why.
"""

# ruff: noqa: E741, E743 - I is the paper's symbol
from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from bench.interface.cell import Recovery
from bench.interface.method import Context, Found, Search
from bench.interface.task import Task
from bench.lazy import nn, no_grad, torch
from bench.search.ranking import Order

if TYPE_CHECKING:
    from torch import Tensor

    from bench.interface.method import Budget
    from bench.structure.graph import PruningGraph
    from bench.structure.groups import ChannelGroup


@dataclass(frozen=True)
class DAIS:
    """Indicators on the groups' outputs, annealed to binary while they are learned."""

    temperature_start: Annotated[float, Field(gt=0)] = 1.0
    """T of the first step."""
    temperature_end: Annotated[float, Field(gt=0)] = 0.02
    """T of the last step; equal to `temperature_start`, annealing is off."""
    anneal_until: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of the search over which T falls; what follows trains the weights with settled indicators."""
    flops_weight: Annotated[float, Field(ge=0)] = 2.0
    """λ_F of equation (1): length of the cost's gradient, in units of the task's."""
    flops_band: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """t of equation (4): how far below its target E may be, as a share of it."""
    sparsity_weight: Annotated[float, Field(ge=0)] = 0.01
    """λ_s of equation (1)."""
    symmetry_weight: Annotated[float, Field(ge=0)] = 0.1
    """λ_m of equation (1)."""
    start: Annotated[float, Field(gt=0.5, lt=1)] = 0.9
    """Mean indicator of the first step."""
    spread: Annotated[float, Field(ge=0)] = 1.0
    """α starts up to this far from the mean, by the channels' rank in their group; 0: all alike."""
    order: Order = "l1"
    """By what the channels are ranked."""
    travel: Annotated[float, Field(gt=0)] = 16.0
    """How far Adam may move α in the whole search: its rate is travel / steps."""
    floor: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of a group's channels whose indicators are kept from going off, so that no group collapses."""

    searches: ClassVar[bool] = True
    needs_dense: ClassVar[bool] = True
    weight_share: ClassVar[float] = 0.5  # bi-level: the weights learn on one half of the data
    recovery: ClassVar[Recovery] = "finetune"
    standing: ClassVar[str] = (
        "published idea; temperature, regularisers and discretisation second-hand; rates and weights reconstructed"
    )

    def search(self, model: nn.Module, graph: PruningGraph, task: Task, budget: Budget, ctx: Context) -> Found:
        from bench.search.ranking import channel_ranking, ranks
        from bench.training.context import search_steps

        start = self.initial(ranks(graph, channel_ranking(self.order, graph, model, task, ctx)))
        steps = search_steps(ctx, bilevel=True)
        search = IndicatorSearch(self, model, graph, budget, start=start, steps=steps, device=ctx.device)
        # (2) on one half of the training split, (1) on the other.
        ctx.train(model, Search.of(search, bilevel=True))
        # Discretise. Kept factors are 1 to within a fraction of a percent by now: they are dropped, not absorbed.
        search.T = self.temperature(1.0)
        I = search.I().detach()
        binary = (I > 0.5).to(I)
        continuous, binarised = (search.judged(factors, model, task, ctx) for factors in (I, binary))
        ctx.note(
            f"DAIS: {task.metric} on the validation split {continuous:.2f} with continuous, {binarised:.2f} with "
            f"binarised indicators, {100 * decided(I):.1f} % of them decided; both with recalibrated norms"
        )
        search.gates.remove()
        by_channel = search.units.by_channel
        return Found(scores=by_channel(search.alpha.detach().cpu()), keep=by_channel(binary.bool().cpu()), model=model)

    def temperature(self, progress: float) -> float:
        """T: geometric from its start to its end, then constant."""
        done = min(1.0, progress / self.anneal_until)
        return self.temperature_start * (self.temperature_end / self.temperature_start) ** done

    def initial(self, ranks: Tensor) -> Tensor:
        """α of the first step, [Σ bundles]: logit(start) ± spread by the rank in the group, from -1 to 1."""
        return self.temperature_start * math.log(self.start / (1 - self.start)) + self.spread * ranks


class IndicatorSearch:
    """One search: α, the optimiser that moves it, and the indicators that it sets in the network; both [Σ bundles]."""

    def __init__(
        self,
        method: DAIS,
        model: nn.Module,
        graph: PruningGraph,
        budget: Budget,
        *,
        start: Tensor,
        steps: int,
        device: torch.device,
    ) -> None:
        from bench.search.balance import Balance
        from bench.search.gates import Gates
        from bench.search.units import Units

        self.method, self.graph = method, graph
        self.dense = int(graph.macs())
        self.F = budget.ratio * self.dense
        self.units = Units(graph)
        self.floors = [max(1, math.ceil(min(method.floor, budget.ratio / 2) * n)) for n in self.units.counts]
        self.stages = same_stage([g.name for g in graph.groups], [g.size for g in graph.groups])
        self.T = method.temperature_start
        self.alpha = nn.Parameter(start.to(device))
        self.optimizer = torch.optim.Adam([self.alpha], lr=method.travel / steps, betas=(0.5, 0.999))
        self.balance = Balance([self.alpha])
        self.state = {"alpha": nn.ParameterList([self.alpha, self.balance.square])}
        self.gates = Gates(model, graph)

    def I(self) -> Tensor:
        return torch.sigmoid(self.alpha / self.T)

    def by_group(self, values: Tensor) -> Iterator[tuple[ChannelGroup, Tensor]]:
        """Each group with its part of a flat vector, [bundles]."""
        return zip(self.graph.groups, self.units.parts(values), strict=True)

    def use(self, I: Tensor) -> None:
        """The network computes with these indicators from now on."""
        self.gates.set(self.units.by_channel(I))

    def E(self, I: Tensor) -> Tensor:
        """Expected MACs, a scalar."""
        return self.graph.macs_at(self.units.sums(I))

    @no_grad
    def before(self, progress: float) -> None:
        self.T = self.method.temperature(progress)
        self.use(self.I())

    def before_architecture(self, progress: float) -> None:
        self.use(self.I())  # with gradients to α

    def penalty(self) -> Tensor:
        """The regularisers of equation (1)."""
        I, method = self.I(), self.method
        R_sparsity = sparsity_loss(I)
        R_flops = flops_loss(self.E(I), self.F, method.flops_band)
        R_symmetry = symmetry_loss([part.mean() for _, part in self.by_group(I)], self.stages)
        weighted = method.sparsity_weight * R_sparsity + method.symmetry_weight * R_symmetry
        return weighted + self.balance.penalty(R_flops, method.flops_weight).to(weighted)

    @no_grad
    def after(self, progress: float) -> None:
        self.balance.observe()
        for (_, part), floor in zip(self.by_group(self.alpha), self.floors, strict=True):
            best = part.topk(floor).indices
            part[best] = part[best].clamp(min=0.1)
        if progress > self.method.anneal_until:
            settle(self.alpha, self.graph, self.F, self.method.flops_band, self.floors)
        self.use(self.I())

    @no_grad
    def metrics(self) -> dict[str, float]:
        I = self.I()
        return {
            "expected_macs_ratio": float(self.E(I)) / self.dense,
            "nonzero_macs_ratio": float(self.E((I > 0.5).float())) / self.dense,
            "temperature": self.T,
            "lambda": self.method.flops_weight,
            "decided": decided(I),
            "off": float((I <= 0.5).cpu().double().mean()),
            "exact_zeros": float((I == 0).cpu().double().mean()),
        }

    @no_grad
    def snapshot(self) -> dict[str, list[float]]:
        I = self.I()
        return {"gates": I.tolist(), "widths": [float(part.sum()) * g.bundle for g, part in self.by_group(I)]}

    def judged(self, factors: Tensor, model: nn.Module, task: Task, ctx: Context) -> float:
        """The task's metric on the validation split with these factors as indicators and recalibrated norms."""
        from bench.training.evaluate import recalibrate

        self.use(factors)
        recalibrate(model, ctx.data.train, ctx.device, seed=ctx.seed, recipe=ctx.recipe)
        return task.evaluate(model, ctx.data.val, ctx.device, ctx.recipe)[task.metric]


def sparsity_loss(I: Tensor) -> Tensor:
    """Equation (3)."""
    return I.abs().mean()


def flops_loss(E: Tensor, F: float, band: float) -> Tensor:
    """Equation (4)."""
    ratio = torch.log(E / F)
    if ratio > 0:
        return ratio
    return -ratio if (1 - band) * F > E else 0.0 * ratio


def symmetry_loss(rates: Sequence[Tensor], stages: Sequence[Sequence[int]]) -> Tensor:
    """Equation (5). `rates`: mean indicator of each group; `stages`: numbers of the groups that belong together."""
    total, pairs = torch.zeros_like(rates[0]), 0
    for stage in stages:
        r, n = torch.stack([rates[i] for i in stage]), len(stage)
        total = total + n * (r * r).sum() - r.sum() ** 2  # = Σ over pairs of (r_i - r_j)²
        pairs += n * (n - 1) // 2
    return total / max(1, pairs)


def same_stage(names: Sequence[str], sizes: Sequence[int]) -> list[list[int]]:
    """Groups whose names differ in numbers alone (layer1.0.conv1, layer1.1.conv1) and that are of one size."""
    stages: dict[tuple[str, int], list[int]] = {}
    for i, (name, size) in enumerate(zip(names, sizes, strict=True)):
        stages.setdefault((re.sub(r"(?<![^.])\d+(?![^.])", "#", name), size), []).append(i)
    return [stage for stage in stages.values() if len(stage) > 1]


def decided(I: Tensor) -> float:
    """Share of indicators within 0.05 of 0 or 1."""
    return float(((I <= 0.05) | (I >= 0.95)).cpu().double().mean())


@no_grad
def settle(alpha: Tensor, graph: PruningGraph, F: float, band: float, floors: Sequence[int]) -> int:
    """Flip the indicators nearest to the threshold until the MACs are inside the band; returns how many.

    The gradient of (4) vanishes as indicators saturate, and can leave the last few channels off the target.
    """
    on = (alpha > 0).tolist()
    owner = [i for i, g in enumerate(graph.groups) for _ in range(g.n_bundles)]
    width = {g.name: 0 for g in graph.groups}
    for i, present in zip(owner, on, strict=True):
        width[graph.groups[i].name] += graph.groups[i].bundle * present
    miss, flipped = graph.macs(width) - F, 0
    for index in alpha.abs().argsort().tolist():
        if abs(miss) <= band * F:
            break
        g = graph.groups[owner[index]]
        if on[index] != (miss > 0) or (on[index] and width[g.name] <= floors[owner[index]] * g.bundle):
            continue
        changed = {**width, g.name: width[g.name] - g.bundle if on[index] else width[g.name] + g.bundle}
        if abs(graph.macs(changed) - F) < abs(miss):
            width, miss, flipped = changed, graph.macs(changed) - F, flipped + 1
            alpha[index] = -1.0 if on[index] else 1.0
    return flipped
