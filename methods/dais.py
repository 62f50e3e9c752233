"""DAIS: Differentiable Annealing Indicator Search (Guan et al., TNNLS, arXiv 2011.02166).

Every channel carries a binary indicator that is relaxed to be continuous; indicators and weights are learned jointly
by bi-level optimisation, and an annealed relaxation drives the indicators to binary, so that the network that is cut
is the network that was searched::

    min_α  L_val(w*(α), I(α)) + λ_s R_sparsity + λ_F R_flops + λ_m R_symmetry     with  I = sigmoid(α / T)      (1)
    s.t.   w*(α) = argmin_w L_train(w, I(α))                                                                    (2)

    R_sparsity = mean |I|                                                                                       (3)
    R_flops    = log(E/F)  if E > F,   -log(E/F)  if E < (1 - t) F,   else 0                                    (4)
    R_symmetry = mean over pairs (i, j) of one stage of (ΣI_i / C_i - ΣI_j / C_j)²                              (5)

E = macs(ΣI) are the expected MACs, F the budget's, C_i a group's channels. The numbers are this file's own.

Published: binary indicators relaxed to continuous ones, learned with the weights by bi-level optimisation; annealing
that closes the gap between the searched and the final network; several regularisers; a constraint on the cost.
Second-hand: the sigmoid over T, T from 1 to about 0.02, the three regularisers, discretisation at I > 0.5 and
fine-tuning from the searched weights. Reconstructed: E by the groups' widths, what a stage is in (5), the geometric
fall of T, the start of α, its rate in terms of the number of steps, every λ. `docs/methods.md` says why.
"""

# ruff: noqa: E741 - I is the paper's symbol
from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from bench.interface.cell import Recovery
from bench.interface.method import Context, Found
from bench.interface.task import Task
from bench.lazy import nn, no_grad, torch

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
    """λ_F of equation (1)."""
    flops_band: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """t of equation (4): how far below its target E may be, as a share of it."""
    sparsity_weight: Annotated[float, Field(ge=0)] = 0.01
    """λ_s of equation (1)."""
    symmetry_weight: Annotated[float, Field(ge=0)] = 0.1
    """λ_m of equation (1)."""
    start: Annotated[float, Field(gt=0.5, lt=1)] = 0.9
    """Mean indicator of the first step."""
    spread: Annotated[float, Field(ge=0)] = 1.0
    """α starts up to this far from the mean, in the order of the channels' L1 norms; 0: all alike."""
    travel: Annotated[float, Field(gt=0)] = 16.0
    """How far Adam may move α in the whole search: its rate is travel / steps."""
    floor: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of a group's channels whose indicators are kept from going off, so that no group collapses."""

    searches: ClassVar[bool] = True
    needs_dense: ClassVar[bool] = True
    recovery: ClassVar[Recovery] = "finetune"
    standing: ClassVar[str] = (
        "published idea; temperature, regularisers and discretisation second-hand; rates and weights reconstructed"
    )

    def search(self, model: nn.Module, graph: PruningGraph, task: Task, budget: Budget, ctx: Context) -> Found:
        from bench.interface.method import Search
        from bench.search.gates import Gates
        from bench.training.evaluate import recalibrate

        dense = int(graph.macs())
        F = budget.ratio * dense
        units = [g.n_bundles for g in graph.groups]
        floors = [max(1, math.ceil(min(self.floor, budget.ratio / 2) * n)) for n in units]
        stages = same_stage([g.name for g in graph.groups], [g.size for g in graph.groups])
        alpha = nn.Parameter(self.initial(graph, model).to(ctx.device))  # one entry a bundle: [Σ bundles]
        T = self.temperature_start
        steps = ctx.epochs * max(1, len(ctx.data.train) // 2 // ctx.recipe.batch_size)
        gates = Gates(model, graph)

        def by_group(values: Tensor) -> Iterator[tuple[ChannelGroup, Tensor]]:
            return zip(graph.groups, values.split(units), strict=True)

        def indicators() -> Tensor:
            return torch.sigmoid(alpha / T)

        def use(I: Tensor) -> None:
            gates.set({g.name: part.repeat_interleave(g.bundle) for g, part in by_group(I)})

        def macs(I: Tensor) -> Tensor:
            return graph.macs({g.name: part.sum() * g.bundle for g, part in by_group(I)})

        def before(progress: float) -> None:
            nonlocal T
            T = self.temperature(progress)
            use(indicators().detach())

        def penalty() -> Tensor:
            """The regularisers of equation (1)."""
            I = indicators()
            loss = self.sparsity_weight * sparsity_loss(I) + self.flops_weight * flops_loss(macs(I), F, self.flops_band)
            return loss + self.symmetry_weight * symmetry_loss([part.mean() for _, part in by_group(I)], stages)

        @torch.no_grad()
        def after(progress: float) -> None:
            for (_, part), floor in zip(by_group(alpha), floors, strict=True):
                best = part.topk(floor).indices
                part[best] = part[best].clamp(min=0.1)
            if progress > self.anneal_until:
                settle(alpha, graph, F, self.flops_band, floors)
            use(indicators())

        @torch.no_grad()
        def metrics() -> dict[str, float]:
            I = indicators()
            return {
                "expected_macs_ratio": float(macs(I)) / dense,
                "nonzero_macs_ratio": float(macs((I > 0.5).double())) / dense,
                "temperature": T,
                "lambda": self.flops_weight,
                "decided": decided(I),
                "off": float((I <= 0.5).double().mean()),
                "exact_zeros": float((I == 0).double().mean()),
            }

        @torch.no_grad()
        def snapshot() -> dict[str, list[float]]:
            I = indicators()
            return {"gates": I.tolist(), "widths": [float(part.sum()) * g.bundle for g, part in by_group(I)]}

        ctx.train(
            model,
            Search(
                # The weights learn on one half of the training split (2), the indicators on the other (1).
                optimizer=torch.optim.Adam([alpha], lr=self.travel / max(1, steps), betas=(0.5, 0.999)),
                bilevel=True,
                penalty=penalty,
                before=before,
                before_architecture=lambda progress: use(indicators()),
                after=after,
                metrics=metrics,
                snapshot=snapshot,
                state={"alpha": nn.ParameterList([alpha])},
            ),
        )

        # Discretise. Kept factors are 1 to within a fraction of a percent by now: they are dropped, not absorbed.
        def judged(I: Tensor) -> float:
            use(I)
            recalibrate(model, ctx.data.train, ctx.device, seed=ctx.seed, recipe=ctx.recipe)
            return task.evaluate(model, ctx.data.val, ctx.device, ctx.recipe)[task.metric]

        T = self.temperature(1.0)
        I = indicators().detach()
        binary = (I > 0.5).to(I)
        ctx.note(
            f"DAIS: {task.metric} on the validation split {judged(I):.2f} with continuous, {judged(binary):.2f} with "
            f"binarised indicators, {100 * decided(I):.1f} % of them decided; both with recalibrated norms"
        )
        gates.remove()
        keep = {g.name: part.repeat_interleave(g.bundle).bool().cpu() for g, part in by_group(binary)}
        scores = {g.name: part.repeat_interleave(g.bundle).cpu() for g, part in by_group(alpha.detach())}
        return Found(scores=scores, keep=keep, model=model)

    def temperature(self, progress: float) -> float:
        """T: geometric from its start to its end, then constant."""
        done = min(1.0, progress / self.anneal_until)
        return self.temperature_start * (self.temperature_end / self.temperature_start) ** done

    def initial(self, graph: PruningGraph, model: nn.Module) -> Tensor:
        """α of the first step, [Σ bundles]: logit(start) ± spread by the rank of the L1 norm within the group."""
        centre = self.temperature_start * math.log(self.start / (1 - self.start))
        parts: list[Tensor] = []
        for name, scores in graph.channel_scores(model).items():
            bundles = graph.group(name).n_bundles
            rank = scores.view(bundles, -1).sum(1).argsort().argsort().float().cpu()
            parts.append(centre + self.spread * (2 * rank / max(1, bundles - 1) - 1))
        return torch.cat(parts)


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
    return float(((I <= 0.05) | (I >= 0.95)).double().mean())


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
