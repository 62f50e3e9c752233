"""TAS: Transformable Architecture Search (Dong and Yang, "Network Pruning via Transformable Architecture Search",
NeurIPS 2019, arXiv 1905.09717; their code: D-X-Y/AutoDL-Projects).

Width and depth are searched at once. Section 3.1: a group has candidate widths n_k ∈ {0.3, 0.4, …, 1.0}·C and a
distribution softmax(α); two candidates are drawn per step, their outputs brought to one width and added up:

    p'_k = softmax((log p_k + o_k) / τ),  o_k Gumbel noise                                      (eqs. 2 and 3)
    I = two candidates drawn from p' without replacement; their weights: softmax over I         (eq. 3)
    O = Σ_{j ∈ I} p'_j · CWI(O_j, max n_I),  O_j the first n_j channels                          (eq. 4)
    CWI: adaptive average pooling along the channels                                             (eqs. 5 and 6)
    a stage's output: the same sum over the outputs of its blocks, for its candidate depths      (eq. 7)

Section 3.2: weights are trained on one half of the data, α on the other, with L = CE + λ·L_cost and

    L_cost = log E[F] if F > R,  0 if (1 - t)·R ≤ F ≤ R,  -log E[F] if F < (1 - t)·R              (eqs. 9 and 10)

F are the MACs of the argmax architecture, R the budget, E under softmax(α). The argmax of widths and depths is then
trained from scratch with distillation from the dense network (section 3.3; recovery `scratch-distil`).

Published: all of the above; norms with an affine of their own for each width (released code); t = 5 %, λ = 2, τ from
5 to 0.1 along a cosine, Adam 1e-3 (0.5, 0.999). Reconstructed: one distribution for each group of coupled channels
instead of one for each convolution; CWI as one linear map behind the norm; the search starts from the dense weights,
channels in the order of their L1 norms; a larger architecture rate for short searches. The defaults depart from the
paper in `sign` (and `settle`) and `sharpen`, without which F and E part ways in short searches; protocol `paper` puts
them back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from bench.interface.cell import Recovery
from bench.interface.method import Context, Found, Search
from bench.interface.task import Task
from bench.lazy import nn, no_grad, torch

if TYPE_CHECKING:
    from torch import Tensor

    from bench.interface.method import Budget
    from bench.structure.graph import PruningGraph


@dataclass(frozen=True)
class TAS:
    """Widths and depths from distributions, two candidates sampled a step, interpolated along channels."""

    space: Literal["both", "width", "depth"] = "both"
    """What is searched."""
    aggregate: Literal["cwi", "pad"] = "cwi"
    """How fragments are brought to one width: interpolated along channels, or padded with zeros."""
    sampled: Literal["two", "all"] = "two"
    """How many candidates each step mixes."""
    narrowest: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """The smallest candidate; the others follow in steps of 0.1."""
    cost_weight: Annotated[float, Field(ge=0)] = 2.0
    """λ."""
    band: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """t of equation (10)."""
    sign: Literal["argmax", "expected"] = "expected"
    """What decides the sign of the cost: F of the argmax architecture (published), or E[F] within a tenth of t, the
    argmax then being settled within half of t."""
    sharpen: Annotated[float, Field(ge=1)] = 10.0
    """Factor on α at the end of the search, from 1 at its start: what E promises, the argmax keeps. 1: published."""
    temperature_start: Annotated[float, Field(gt=0)] = 5.0
    """τ of the first step."""
    temperature_end: Annotated[float, Field(gt=0)] = 0.1
    """τ of the last step; a half cosine lies between them."""
    rate: Annotated[float, Field(gt=0)] = 1e-3
    """Adam's rate on α where a search has steps enough for it."""
    travel: Annotated[float, Field(ge=0)] = 8.0
    """How far Adam may move α in shorter searches: a rate that falls along a half cosine from 2·travel / steps."""

    searches: ClassVar[bool] = True
    needs_dense: ClassVar[bool] = True
    weight_share: ClassVar[float] = 0.5  # bi-level: the weights learn on one half of the data
    recovery: ClassVar[Recovery] = "scratch-distil"
    paper: ClassVar[dict[str, object]] = {"sign": "argmax", "sharpen": 1.0}
    standing: ClassVar[str] = "published, with code; one distribution a group and the rates of short searches are ours"

    def search(self, model: nn.Module, graph: PruningGraph, task: Task, budget: Budget, ctx: Context) -> Found:
        from bench.search.widths import first_channels, order_by_l1
        from bench.structure.surgery import permute
        from bench.training.context import search_steps

        model = permute(model, graph, order_by_l1(graph, model)).to(ctx.device)
        search = ArchitectureSearch(self, model, graph, budget, steps=search_steps(ctx, bilevel=True), seed=ctx.seed)
        ctx.train(
            model,
            Search(
                optimizer=search.optimizer,
                bilevel=True,  # section 3.2: weights on one half of the training split, α on the other
                penalty=search.penalty,
                before=search.before,
                before_architecture=search.before_architecture,
                after=search.after,
                metrics=search.metrics,
                snapshot=search.snapshot,
                state=search.state,
            ),
        )
        E, argmax, chosen = float(search.E().detach()), search.argmax(), search.decide()
        net, dense = search.net, search.dense
        widths, dropped = net.architecture(chosen)
        net.finish(chosen)
        ctx.note(
            f"TAS: E[MACs] {E / dense:.4f}, argmax {net.macs(argmax) / dense:.4f}, settled "
            f"{net.macs(chosen) / dense:.4f} of dense, {len(dropped)} of {len(graph.blocks)} removable blocks dropped"
        )
        return Found(scores=first_channels(graph), widths=widths, drop_blocks=dropped, model=model.cpu())

    def widths(self, size: int) -> list[int]:
        """n_k of a group of `size` bundles, at least one; those of small groups may be alike."""
        tenths = range(round(10 * self.narrowest), 11)
        return [max(1, round(size * tenth / 10)) for tenth in tenths]

    def temperature(self, progress: float) -> float:
        """τ: a half cosine from its start to its end."""
        span = self.temperature_start - self.temperature_end
        return self.temperature_end + span * 0.5 * (1 + math.cos(math.pi * progress))


class ArchitectureSearch:
    """One search: α of every width and depth, the optimiser that moves it, and the mixtures (4), (7) in the network."""

    def __init__(
        self, method: TAS, model: nn.Module, graph: PruningGraph, budget: Budget, *, steps: int, seed: int
    ) -> None:
        from bench.search.supernet import Supernet
        from bench.search.widths import ExpectedMacs
        from bench.training.device import stage_seed

        self.method, self.graph, self.steps, self.seed = method, graph, steps, seed
        self.dense = int(graph.macs())
        self.R = budget.ratio * self.dense
        widths = {g.name: method.widths(g.n_bundles) for g in graph.groups} if method.space != "depth" else {}
        resize = interpolation if method.aggregate == "cwi" else padding
        self.net = Supernet(model, graph, widths, depth=method.space != "width", resize=resize)
        self.random = torch.Generator().manual_seed(stage_seed(seed, "tas", "alpha"))
        self.alpha = [nn.Parameter(0.01 * torch.randn(K, generator=self.random)) for K in self.net.candidates]
        self.progress = nn.Parameter(torch.zeros((), dtype=torch.float64), requires_grad=False)
        self.optimizer = torch.optim.Adam(self.alpha, lr=method.rate, betas=(0.5, 0.999), weight_decay=1e-3)
        self.state = {"alpha": nn.ParameterList([*self.alpha, self.progress])}
        self.expected_macs = ExpectedMacs(graph)

    @property
    def tau(self) -> float:
        return self.method.temperature(float(self.progress))

    def logits(self) -> list[Tensor]:
        """α of each decision, sharpened: [K]."""
        sharpness = self.method.sharpen ** float(self.progress)
        return [sharpness * a for a in self.alpha]

    def argmax(self) -> list[int]:
        """The most probable candidate of each decision."""
        return [int(a.argmax()) for a in self.alpha]

    def E(self) -> Tensor:
        """E[F], a scalar."""
        return self.expected_macs(*self.net.distributions([a.softmax(0) for a in self.logits()]))

    def drawn(self, step: str) -> list[tuple[Tensor, Tensor]]:
        """Equation (3) for each decision: what this iteration's `step` (weights or architecture) mixes."""
        from bench.training.device import stage_seed

        self.random.manual_seed(stage_seed(self.seed, "tas", step, float(self.progress)))
        return [sample(a, self.tau, self.method.sampled, self.random) for a in self.logits()]

    def before(self, progress: float) -> None:
        self.progress.fill_(progress)
        fast = self.method.travel / self.steps * (1 + math.cos(math.pi * progress))
        self.optimizer.param_groups[0]["lr"] = max(self.method.rate, fast)
        self.net.use([(index, weights.detach()) for index, weights in self.drawn("weights")])

    def before_architecture(self, progress: float) -> None:
        self.net.use(self.drawn("architecture"))  # with gradients to α

    def penalty(self) -> Tensor:
        """λ·L_cost, equations (9) and (10)."""
        method, R, cost = self.method, self.R, self.E()
        if method.sign == "argmax":
            weight, F, low, high = method.cost_weight, self.net.macs(self.argmax()), (1 - method.band) * R, R
        else:
            # The gradient through equation (3) grows as 1 / τ, and would leave the cost behind. The cost must win, the
            # sooner the farther E is off, or E stays where the distributions settle.
            F = float(cost.detach())
            miss = max(1.0, abs(math.log(F / R)) / method.band) if method.band else 1.0
            weight = method.cost_weight * (miss / min(1.0, self.tau)) ** 2
            low, high = (1 - method.band / 10) * R, (1 + method.band / 10) * R
        sign = (F > high) - (F < low)  # noqa: SIM300 - F is the paper's symbol
        return weight * sign * torch.log(cost / R)

    def after(self, progress: float) -> None:
        self.net.choose(self.argmax())

    @no_grad
    def metrics(self) -> dict[str, float]:
        p = [a.softmax(0) for a in self.logits()]
        entropy = [float(torch.special.entr(row).sum()) / math.log(len(row)) for row in p]
        return {
            "expected_macs_ratio": float(self.E()) / self.dense,
            "argmax_macs_ratio": self.net.macs(self.argmax()) / self.dense,
            "temperature": self.tau,
            "entropy": sum(entropy) / len(entropy),
        }

    @no_grad
    def snapshot(self) -> dict[str, list[float]]:
        widths, _ = self.net.distributions([a.softmax(0) for a in self.logits()])
        whole = {g.name: float(g.size) for g in self.graph.groups}
        means = {name: float((p * n).sum()) for name, (p, n) in widths.items()}
        return {"widths": list({**whole, **means}.values())}

    def decide(self) -> list[int]:
        """One candidate of each decision: the argmax, settled where the sign of the cost is E's."""
        if self.method.sign == "argmax":
            return self.argmax()
        log_p = [a.detach().log_softmax(0) for a in self.logits()]
        return settle(self.argmax(), log_p, self.net.macs, self.R, self.method.band / 2)


def sample(
    alpha: Tensor, tau: float, sampled: Literal["two", "all"], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Equation (3): (indices, weights) of two candidates drawn from p' without replacement, or of all: each [S]."""
    logits = (torch.log_softmax(alpha, 0) + gumbel(alpha.shape, generator)) / tau
    index = torch.arange(len(alpha))
    if sampled == "two" and len(alpha) > 2:
        # The largest two of logits + Gumbel noise are a draw without replacement from their softmax.
        index = (logits.detach() + gumbel(alpha.shape, generator)).topk(2).indices
    return index, logits[index].softmax(0)


def gumbel(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """-log(-log u) of uniform u."""
    return -torch.log(-torch.log(torch.rand(shape, generator=generator).clamp(1e-9, 1 - 1e-7)))


def settle(
    choice: Sequence[int], log_p: Sequence[Tensor], macs: Callable[[Sequence[int]], int], R: float, band: float
) -> list[int]:
    """The argmax, with decisions changed where its MACs leave the band about R: what costs the least probability.

    A distribution with two modes can hold E at R between them, where neither of them costs R.
    """
    chosen = list(choice)
    while abs(macs(chosen) / R - 1) > band:
        miss, options = abs(macs(chosen) - R), []
        for i, row in enumerate(log_p):
            for k in range(len(row)):
                left = abs(macs([*chosen[:i], k, *chosen[i + 1 :]]) - R)
                if left < miss:
                    lost = float(row[chosen[i]] - row[k])
                    options.append((left > band * R, lost / (1 if left <= band * R else miss - left), i, k))
        if not options:
            break
        *_, i, k = min(options)
        chosen[i] = k
    return chosen


@lru_cache(maxsize=128)
def interpolation(size: int, n: int, m: int, device: torch.device) -> Tensor:
    """CWI of the first n of `size` channels to m, equations (5) and (6), as one linear map: [size, size].

    Row i < m averages the channels from ⌊i·n/m⌋ up to ⌈(i+1)·n/m⌉; the rows from m on are zero.
    """
    i, c = torch.arange(size, device=device)[:, None], torch.arange(size, device=device)
    window = (c >= i * n // m) & (c < -(-(i + 1) * n // m)) & (i < m)
    return window / window.sum(1, keepdim=True).clamp(min=1)


def padding(size: int, n: int, m: int, device: torch.device) -> Tensor:
    """The ablation of CWI: the first n of `size` channels, then zeros: [size, size]."""
    return torch.diag((torch.arange(size, device=device) < n).float())
