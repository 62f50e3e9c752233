"""DCSS: Differentiable Channel Sparsity Search (Zhao and Lee, "DCSS: A Differentiable Architecture Search Framework
for Channel Sparsity", 2020, arXiv 2010.14714).

The combination of the layers' sparsities is relaxed as in DARTS: a group g of coupled channels has K candidate
widths n_1 < … < n_K, and p = softmax(α_g / τ) says how much of each. A mixture of K branches would need K shapes and
K times the memory; *weight sharing within filters* removes both. The numbers below are this file's own:

    candidate k is the first n_k filters of the one full kernel                                      (1)
    Σ_k p_k pad(y[:n_k]) = y ⊙ m,  m[c] = Σ_{k: n_k > c} p_k                                         (2)
    min over α of L_B(w, α) + λ |log(E / R)|,  E = E[MACs],  outside of a band about R               (3)
    min over w of L_A(w, α), alternating with (3), first order                                       (4)

A and B are halves of the training split, R the budget. m never rises along the channels, so the channels are first
put in the order of falling L1 norms, which changes nothing but their labels.

Published: the relaxation, weight sharing within filters, a gradient that balances cost against the task's metric,
searching on the task itself. Reconstructed, since neither code nor those details could be found: the candidates, the
form of (2), the cost in (3), every rate and temperature, the order of the channels, and the discretisation.
`docs/methods.md` says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from bench.interface.cell import Recovery
from bench.interface.method import Context, Found
from bench.interface.task import Task
from bench.lazy import nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from bench.interface.method import Budget
    from bench.structure.graph import ChannelGroup, PruningGraph


@dataclass(frozen=True)
class DCSS:
    """Soft masks from a distribution over widths, by weight sharing within filters."""

    candidates: Annotated[int, Field(ge=2)] = 8
    """K: the widths are 1/K, 2/K, … 1 of a group's."""
    cost_weight: Annotated[float, Field(ge=0)] = 2.0
    """λ of equation (3)."""
    band: Annotated[float, Field(ge=0, lt=1)] = 0.005
    """How far E may be from R at no cost, as a share of R."""
    slope: float = 4.0
    """α starts as slope·k/K: towards the full width where positive, all candidates alike where 0."""
    temperature_start: Annotated[float, Field(gt=0)] = 1.0
    """τ of the first step."""
    temperature_end: Annotated[float, Field(gt=0)] = 0.1
    """τ of the last step; it falls geometrically."""
    travel: Annotated[float, Field(gt=0)] = 8.0
    """How far Adam may move α in the whole search: its rate falls along a half cosine from 2·travel / steps."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-3
    """Of α, as in DARTS."""
    discretise: Literal["expectation", "argmax"] = "expectation"
    """`expectation`: a group's width is E[n] rounded, so that the network costs what the search aimed at."""

    searches: ClassVar[bool] = True
    needs_dense: ClassVar[bool] = True
    recovery: ClassVar[Recovery] = "finetune"
    standing: ClassVar[str] = "published idea; candidates, cost, rates and discretisation reconstructed"

    def search(self, model: nn.Module, graph: PruningGraph, task: Task, budget: Budget, ctx: Context) -> Found:
        from bench.interface.method import Search
        from bench.search.gates import Gates
        from bench.search.widths import ExpectedMacs, order_by_l1
        from bench.structure.surgery import permute

        dense = int(graph.macs())
        R = budget.ratio * dense
        model = permute(model, graph, order_by_l1(graph, model)).to(ctx.device)
        n = {g.name: self.widths(g).to(ctx.device) for g in graph.groups}
        K = torch.arange(1, self.candidates + 1) / self.candidates
        alpha = nn.Parameter((self.slope * K).repeat(len(graph.groups), 1).to(ctx.device))  # [groups, K]
        optimizer = torch.optim.Adam([alpha], lr=1.0, betas=(0.5, 0.999), weight_decay=self.weight_decay)
        steps = max(1, ctx.epochs * (len(ctx.data.train) // 2 // ctx.recipe.batch_size))
        expected = ExpectedMacs(graph)
        gates = Gates(model, graph)
        tau = self.temperature_start

        def p() -> dict[str, Tensor]:
            return {g.name: row for g, row in zip(graph.groups, torch.softmax(alpha / tau, 1), strict=True)}

        def E(p: Mapping[str, Tensor]) -> Tensor:
            return expected({name: (row, n[name]) for name, row in p.items()})

        def use(p: Mapping[str, Tensor]) -> None:
            gates.set({name: soft_mask(row, n[name]) for name, row in p.items()})

        def before(progress: float) -> None:
            nonlocal tau
            tau = self.temperature(progress)
            optimizer.param_groups[0]["lr"] = self.travel / steps * (1 + math.cos(math.pi * progress))
            with torch.no_grad():
                use(p())

        @torch.no_grad()
        def after(progress: float) -> None:
            use(p())

        @torch.no_grad()
        def metrics() -> dict[str, float]:
            now = p()
            argmax = {name: int(n[name][row.argmax()]) for name, row in now.items()}
            rows = torch.stack(list(now.values()))
            return {
                "expected_macs_ratio": float(E(now)) / dense,
                "argmax_macs_ratio": graph.macs(argmax) / dense,
                "temperature": tau,
                "entropy": float(torch.special.entr(rows).sum(1).mean()) / math.log(self.candidates),
            }

        @torch.no_grad()
        def snapshot() -> dict[str, list[float]]:
            return {"widths": [float((row * n[name]).sum()) for name, row in p().items()]}

        before(0.0)
        ctx.train(
            model,
            Search(
                optimizer=optimizer,
                bilevel=True,  # (4) on one half of the training split, (3) on the other
                penalty=lambda: self.cost_weight * cost(E(p()), R, self.band),
                before=before,
                before_architecture=lambda progress: use(p()),
                after=after,
                metrics=metrics,
                snapshot=snapshot,
                state={"alpha": nn.ParameterList([alpha])},
            ),
        )

        # Discretise. What is left of the soft mask goes into the weights, and the leading channels stay.
        with torch.no_grad():
            final = p()
            use(final)
            gates.bake()
            widths = {g.name: self.width(g, final[g.name], n[g.name]) for g in graph.groups}
        ctx.note(f"DCSS: E[MACs] {float(E(final)) / dense:.4f}, discretised {graph.macs(widths) / dense:.4f} of dense")
        scores = {g.name: -torch.arange(g.size, dtype=torch.float32) for g in graph.groups}
        return Found(scores=scores, widths=widths, model=model.cpu())

    def widths(self, group: ChannelGroup) -> Tensor:
        """n_1 … n_K of a group, whole bundles, at least one; small groups have candidates that are alike."""
        shares = torch.arange(1, self.candidates + 1, dtype=torch.float64) / self.candidates
        return (shares * group.bundles).round().clamp(min=1).long() * group.bundle

    def width(self, group: ChannelGroup, p: Tensor, n: Tensor) -> int:
        """The discretised width of a group."""
        if self.discretise == "argmax":
            return int(n[p.argmax()])
        return max(1, round(float((p * n).sum()) / group.bundle)) * group.bundle

    def temperature(self, progress: float) -> float:
        """τ, geometric from its start to its end."""
        return self.temperature_start * (self.temperature_end / self.temperature_start) ** progress


def soft_mask(p: Tensor, n: Tensor) -> Tensor:
    """Equation (2): m[c] = Σ_{k: n_k > c} p_k, [n_K]."""
    channels = torch.arange(int(n[-1]), device=p.device)
    return (n[:, None] > channels).to(p.dtype).T @ p


def cost(E: Tensor, R: float, band: float) -> Tensor:
    """|log(E / R)| outside of a band about R (equation 3)."""
    miss = torch.log(E / R).abs()
    return miss if abs(float(E.detach()) / R - 1) > band else 0.0 * miss
