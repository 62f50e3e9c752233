"""DCSS: "Differentiable Channel Sparsity Search via Weight Sharing within Filters" (Zhao and Lee 2020, arXiv
2010.14714).

The combination of the layers' sparsities is relaxed as in DARTS: a group g of coupled channels has K candidate
widths n_1 < … < n_K, and p = softmax(α_g / τ) says how much of each. A mixture of K branches would need K shapes and
K times the memory; *weight sharing within filters* removes both. The numbers below are this file's own:

    candidate k is the first n_k filters of the one full kernel                                      (1)
    Σ_k p_k pad(y[:n_k]) = y ⊙ m,  m[c] = Σ_{k: n_k > c} p_k                                         (2)
    min over α of L_B(w, α) + λ |log(E / R)|,  E = E[MACs],  outside of a band about R               (3)
    min over w of L_A(w, α), alternating with (3), first order                                       (4)

A and B are halves of the training split, R the budget. λ weighs gradients: the cost's is made λ times as long as the
task's. m never rises along the channels, so the channels are first put in the order of falling L1 norms, which changes
nothing but their labels.

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
class DCSS:
    """Soft masks from a distribution over widths, by weight sharing within filters."""

    candidates: Annotated[int, Field(ge=2)] = 8
    """K: the widths are 1/K, 2/K, … 1 of a group's."""
    cost_weight: Annotated[float, Field(ge=0)] = 2.0
    """λ of equation (3): length of the cost's gradient, in units of the task's."""
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
    order: Order = "l1"
    """By what the channels are ranked whose first n are a candidate of n."""

    searches: ClassVar[bool] = True
    needs_dense: ClassVar[bool] = True
    weight_share: ClassVar[float] = 0.5  # bi-level: the weights learn on one half of the data
    recovery: ClassVar[Recovery] = "finetune"
    standing: ClassVar[str] = "published idea; candidates, cost, rates and discretisation reconstructed"

    def search(self, model: nn.Module, graph: PruningGraph, task: Task, budget: Budget, ctx: Context) -> Found:
        from bench.search.ranking import channel_ranking, falling_order, first_channels
        from bench.structure.surgery import permute
        from bench.training.context import search_steps

        ranking = channel_ranking(self.order, graph, model, task, ctx)
        model = permute(model, graph, falling_order(graph, ranking)).to(ctx.device)
        search = SparsitySearch(self, model, graph, budget, search_steps(ctx, bilevel=True))
        # (4) on one half of the training split, (3) on the other.
        ctx.train(model, Search.of(search, bilevel=True))
        widths, E = search.discretise()
        dense = search.dense
        ctx.note(f"DCSS: E[MACs] {E / dense:.4f}, discretised {graph.macs(widths) / dense:.4f} of dense")
        return Found(scores=first_channels(graph), widths=widths, model=model.cpu())

    def widths(self, group: ChannelGroup) -> Tensor:
        """n_1 … n_K of a group, whole bundles, at least one; small groups have candidates that are alike."""
        shares = torch.arange(1, self.candidates + 1, dtype=torch.float64) / self.candidates
        return (shares * group.n_bundles).round().clamp(min=1).long() * group.bundle

    def width(self, group: ChannelGroup, p: Tensor, n: Tensor) -> int:
        """The discretised width of a group."""
        if self.discretise == "argmax":
            return int(n[p.argmax()])
        return max(1, round(float((p * n).sum()) / group.bundle)) * group.bundle

    def temperature(self, progress: float) -> float:
        """τ, geometric from its start to its end."""
        return self.temperature_start * (self.temperature_end / self.temperature_start) ** progress


class SparsitySearch:
    """One search: α of every group, the optimiser that moves it, and the soft masks (2) that it sets in the network."""

    def __init__(self, method: DCSS, model: nn.Module, graph: PruningGraph, budget: Budget, steps: int) -> None:
        from bench.search.balance import Balance
        from bench.search.gates import Gates
        from bench.search.widths import ExpectedMacs

        self.method, self.graph, self.steps = method, graph, steps
        self.dense = int(graph.macs())
        self.R = budget.ratio * self.dense
        device = next(model.parameters()).device
        self.n = {g.name: method.widths(g).to(device) for g in graph.groups}
        shares = torch.arange(1, method.candidates + 1) / method.candidates
        self.alpha = nn.Parameter((method.slope * shares).repeat(len(graph.groups), 1).to(device))  # [groups, K]
        self.progress = nn.Parameter(torch.zeros((), dtype=torch.float64), requires_grad=False)
        self.optimizer = torch.optim.Adam([self.alpha], lr=1.0, betas=(0.5, 0.999), weight_decay=method.weight_decay)
        self.balance = Balance([self.alpha])
        self.state = {"alpha": nn.ParameterList([self.alpha, self.progress, self.balance.square])}
        self.expected_macs = ExpectedMacs(graph)
        self.gates = Gates(model, graph)

    @property
    def tau(self) -> float:
        return self.method.temperature(float(self.progress))

    def p(self) -> dict[str, Tensor]:
        """Probabilities of each group's candidates, [K] by group name."""
        rows = torch.softmax(self.alpha / self.tau, 1)
        return {g.name: row for g, row in zip(self.graph.groups, rows, strict=True)}

    def E(self, p: Mapping[str, Tensor]) -> Tensor:
        """E[MACs], a scalar."""
        return self.expected_macs({name: (row, self.n[name]) for name, row in p.items()})

    def use(self, p: Mapping[str, Tensor]) -> None:
        """The network computes with these soft masks from now on."""
        self.gates.set({name: soft_mask(row, self.n[name]) for name, row in p.items()})

    @no_grad
    def before(self, progress: float) -> None:
        self.progress.fill_(progress)
        rate = self.method.travel / self.steps * (1 + math.cos(math.pi * progress))
        self.optimizer.param_groups[0]["lr"] = rate
        self.use(self.p())

    def before_architecture(self, progress: float) -> None:
        self.use(self.p())  # with gradients to α

    def penalty(self) -> Tensor:
        """The second term of (3)."""
        miss = cost(self.E(self.p()), self.R, self.method.band)
        return self.balance.penalty(miss, self.method.cost_weight)

    @no_grad
    def after(self, progress: float) -> None:
        self.balance.observe()
        self.use(self.p())

    @no_grad
    def metrics(self) -> dict[str, float]:
        p = self.p()
        argmax = {name: int(self.n[name][row.argmax()]) for name, row in p.items()}
        entropy = torch.special.entr(torch.stack(list(p.values()))).sum(1).mean()
        return {
            "expected_macs_ratio": float(self.E(p)) / self.dense,
            "argmax_macs_ratio": self.graph.macs(argmax) / self.dense,
            "temperature": self.tau,
            "entropy": float(entropy) / math.log(self.method.candidates),
        }

    @no_grad
    def snapshot(self) -> dict[str, list[float]]:
        return {"widths": [float((row * self.n[name]).sum()) for name, row in self.p().items()]}

    @no_grad
    def discretise(self) -> tuple[dict[str, int], float]:
        """Widths, and E[MACs] before. What is left of the soft masks goes into the weights; leading channels stay."""
        p = self.p()
        self.use(p)
        self.gates.bake()
        return {g.name: self.method.width(g, p[g.name], self.n[g.name]) for g in self.graph.groups}, float(self.E(p))


def soft_mask(p: Tensor, n: Tensor) -> Tensor:
    """Equation (2): m[c] = Σ_{k: n_k > c} p_k, [n_K]."""
    channels = torch.arange(int(n[-1]), device=p.device)
    return (n[:, None] > channels).to(p.dtype).T @ p


def cost(E: Tensor, R: float, band: float) -> Tensor:
    """|log(E / R)| outside of a band about R (equation 3)."""
    miss = torch.log(E / R).abs()
    return miss if abs(float(E.detach()) / R - 1) > band else 0.0 * miss
