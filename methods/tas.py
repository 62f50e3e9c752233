"""TAS: Transformable Architecture Search (Dong and Yang, "Network Pruning via Transformable Architecture Search",
NeurIPS 2019, arXiv 1905.09717; their code: D-X-Y/AutoDL-Projects, lib/models/shape_searchs).

Width and depth are searched at once. Section 3.1: a group has candidate widths n_k = ⌊{0.3, 0.4, …, 1.0}·C⌋ and a
distribution softmax(α); two candidates are drawn per step, their outputs brought to one width and added up:

    p'_k = softmax((log p_k + o_k) / τ),  o_k Gumbel noise                                      (eq. 3)
    O = Σ_{j ∈ I} p'_j · CWI(O_j, max n_I),  O_j the first n_j channels                          (eq. 4)

I are two candidates drawn from p' without replacement, their weights the softmax over I; CWI is adaptive average
pooling along the channels. A stage's output is the sum over the outputs of its blocks at *all* of its candidate depths
(1, 3, 5, … and n; all of them up to n = 3), weighed by p' (eq. 5).

Section 3.2: weights are trained on one half of the data, α on the other, with L = CE + λ·L_cost and

    L_cost = log E[F] if F > R,  0 if R - t·F_dense ≤ F ≤ R,  -log E[F] if F < R - t·F_dense

F are the MACs of the argmax architecture, R the budget, E under softmax(α). The argmax of widths and depths is then
trained from scratch with distillation from the dense network (section 3.3, eq. 10; recovery `scratch-distil`): the
weights of the search are thrown away, here as well, and recoveries that keep weights keep the dense network's.

Published: all of the above, the lower edge R - t·F_dense and the rounding of widths and depths by the released code;
norms with an affine of their own for each width (released code); t = 5 %, λ = 2, τ from 5 to 0.1 along a cosine, epoch
by epoch, Adam 1e-3 (0.5, 0.999), decay 1e-3. Reconstructed: one distribution for each group of coupled channels instead
of one for each convolution; CWI as one linear map behind the norm; a larger architecture rate for short searches. The
defaults depart from the paper in `weigh`, `sign`, `settle`, `sharpen`, `anneal`, `travel` and `start`, for searches of
a few hundred steps; protocol `paper` puts the paper's choices back. `docs/methods.md` says why.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from bench.errors import RequestError
from bench.interface.cell import Recovery
from bench.interface.method import Context, Found, PaperRecipe, Search
from bench.interface.task import Task
from bench.lazy import nn, no_grad, torch
from bench.search.ranking import Order

if TYPE_CHECKING:
    from torch import Tensor

    from bench.interface.method import Budget
    from bench.structure.graph import PruningGraph


SGD = {
    "optimizer": "sgd",
    "lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "batch_size": 256,
    "schedule": "cosine",
    "label_smoothing": 0.0,
    "grad_clip": 0.0,
}
"""Of the released configurations, for the search and for recovery alike."""


@dataclass(frozen=True)
class TAS:
    """Widths and depths from distributions, two widths sampled a step, interpolated along channels."""

    space: Literal["both", "width", "depth"] = "both"
    """What is searched."""
    aggregate: Literal["cwi", "pad"] = "cwi"
    """How fragments are brought to one width: interpolated along channels, or padded with zeros."""
    sampled: Literal["two", "all"] = "two"
    """How many candidate widths each step mixes."""
    start: Literal["dense", "fresh"] = "dense"
    """Weights that the search starts from: the dense network's, or fresh ones (published)."""
    order: Order = "l1"
    """By what the channels are ranked whose first n are a candidate of n."""
    narrowest: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """The smallest candidate; the others follow in steps of 0.1."""
    cost_weight: Annotated[float, Field(ge=0)] = 2.0
    """λ."""
    band: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """t: how far below R the MACs may be at no cost, as a share of the dense network's."""
    weigh: Literal["gradient", "loss"] = "gradient"
    """What λ weighs: `loss` adds λ·L_cost (published), `gradient` makes L_cost's gradient λ times as long as the
    task's."""
    sign: Literal["argmax", "expected"] = "expected"
    """What decides the sign of L_cost: F of the argmax architecture (published), or E[F]."""
    settle: bool = True
    """Whether an argmax more than t / 2 off R is changed where that costs the least probability."""
    sharpen: Annotated[float, Field(ge=1)] = 10.0
    """Factor on α at the end of the search, from 1 at its start: what E promises, the argmax keeps. 1: published."""
    temperature_start: Annotated[float, Field(gt=0)] = 5.0
    """τ at the start."""
    temperature_end: Annotated[float, Field(gt=0)] = 0.1
    """τ that the search runs towards along a half cosine."""
    anneal: Literal["step", "epoch"] = "step"
    """How often τ falls: with each step, or with each epoch (published)."""
    rate: Annotated[float, Field(gt=0)] = 1e-3
    """Adam's rate on α where a search has steps enough for it."""
    travel: Annotated[float, Field(ge=0)] = 8.0
    """How far Adam may move α in shorter searches: a rate that falls along a half cosine from 2·travel / steps.
    0: the rate is constant (published)."""

    searches: ClassVar[bool] = True
    needs_dense: ClassVar[bool] = True
    weight_share: ClassVar[float] = 0.5  # bi-level: the weights learn on one half of the data
    recovery: ClassVar[Recovery] = "scratch-distil"
    paper: ClassVar[dict[str, object]] = {
        "start": "fresh",
        "weigh": "loss",
        "sign": "argmax",
        "settle": False,
        "sharpen": 1.0,
        "anneal": "epoch",
        "travel": 0.0,
    }
    paper_recipe: ClassVar[PaperRecipe] = PaperRecipe(  # search-shape-cifar.sh and its configurations
        search_epochs=600,
        recovery_epochs=305,  # 300 and 5 of warm-up
        search={**SGD, "warmup_epochs": 0.0},
        recovery={**SGD, "warmup_epochs": 5.0},
    )
    standing: ClassVar[str] = "published, with code; one distribution a group and the rates of short searches are ours"

    def search(self, model: nn.Module, graph: PruningGraph, task: Task, budget: Budget, ctx: Context) -> Found:
        from bench.search.ranking import channel_ranking, falling_order
        from bench.structure.surgery import permute
        from bench.training.context import search_steps

        scores = channel_ranking(self.order, graph, model, task, ctx)
        net = fresh_weights(model, ctx.seed) if self.start == "fresh" else model
        net = permute(net, graph, falling_order(graph, scores)).to(ctx.device)
        steps = search_steps(ctx, bilevel=True)
        search = ArchitectureSearch(self, net, graph, budget, steps=steps, epochs=ctx.epochs, seed=ctx.seed)
        # Section 3.2: weights on one half of the training split, α on the other.
        ctx.train(net, Search.of(search, bilevel=True))
        E, argmax, chosen = float(search.E().detach()), search.argmax(), search.decide()
        dense, macs = search.dense, search.net.macs
        widths, dropped = search.net.architecture(chosen)
        ctx.note(
            f"TAS: E[MACs] {E / dense:.4f}, argmax {macs(argmax) / dense:.4f}, settled {macs(chosen) / dense:.4f} "
            f"of dense, {len(dropped)} of {len(graph.blocks)} removable blocks dropped"
        )
        return Found(scores=scores, widths=widths, drop_blocks=dropped)

    def widths(self, size: int) -> list[int]:
        """n_k of a group of `size` bundles, at least one; those of small groups may be alike."""
        tenths = range(round(10 * self.narrowest), 11)
        return [max(1, size * tenth // 10) for tenth in tenths]

    def depths(self, blocks: int) -> list[int]:
        """Candidate depths of a stage of so many blocks."""
        every = range(1, blocks + 1)
        return list(every) if blocks <= 3 else sorted({*every[::2], blocks})

    def temperature(self, progress: float) -> float:
        """τ: a half cosine from its start to its end."""
        span = self.temperature_start - self.temperature_end
        return self.temperature_end + span * 0.5 * (1 + math.cos(math.pi * progress))


class ArchitectureSearch:
    """One search: α of every width and depth, the optimiser that moves it, and the mixtures (4), (7) in the network."""

    def __init__(
        self,
        method: TAS,
        model: nn.Module,
        graph: PruningGraph,
        budget: Budget,
        *,
        steps: int,
        epochs: int,
        seed: int,
    ) -> None:
        from bench.search.balance import Balance
        from bench.search.supernet import Supernet
        from bench.search.widths import ExpectedMacs
        from bench.training.device import stage_seed

        self.method, self.graph, self.steps, self.epochs, self.seed = method, graph, steps, epochs, seed
        self.dense = int(graph.macs())
        self.R = budget.ratio * self.dense
        widths = {g.name: method.widths(g.n_bundles) for g in graph.groups} if method.space != "depth" else {}
        resize = interpolation if method.aggregate == "cwi" else padding
        depths = method.depths if method.space != "width" else None
        self.net = Supernet(model, graph, widths, depths=depths, resize=resize)
        if not self.net.candidates:
            raise RequestError(
                f"TAS: with space = {method.space!r} there is nothing to choose in this network, which has "
                f"{len(graph.blocks)} blocks that can be removed; use 'width' or 'both'"
            )
        self.random = torch.Generator().manual_seed(stage_seed(seed, "tas", "alpha"))
        self.alpha = [nn.Parameter(0.01 * torch.randn(K, generator=self.random)) for K in self.net.candidates]
        self.progress = nn.Parameter(torch.zeros((), dtype=torch.float64), requires_grad=False)
        self.optimizer = torch.optim.Adam(self.alpha, lr=method.rate, betas=(0.5, 0.999), weight_decay=1e-3)
        self.balance = Balance(self.alpha)
        self.state = {"alpha": nn.ParameterList([*self.alpha, self.progress, self.balance.square])}
        self.expected_macs = ExpectedMacs(graph)

    @property
    def tau(self) -> float:
        progress = float(self.progress)
        if self.method.anneal == "epoch":
            progress = math.floor(progress * self.epochs + 1e-9) / self.epochs
        return self.method.temperature(progress)

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
        """Equation (3) for each decision: what this iteration's `step` (weights or architecture) mixes.

        Of widths two candidates; of depths all of them, equation (5).
        """
        from bench.training.device import stage_seed

        self.random.manual_seed(stage_seed(self.seed, "tas", step, float(self.progress)))
        logits, widths = self.logits(), len(self.net.groups)
        drawn = [sample(a, self.tau, self.method.sampled, self.random) for a in logits[:widths]]
        return drawn + [sample(a, self.tau, "all", self.random) for a in logits[widths:]]

    def before(self, progress: float) -> None:
        self.progress.fill_(progress)
        fast = self.method.travel / self.steps * (1 + math.cos(math.pi * progress))
        self.optimizer.param_groups[0]["lr"] = max(self.method.rate, fast)
        self.net.use([(index, weights.detach()) for index, weights in self.drawn("weights")])

    def before_architecture(self, progress: float) -> None:
        self.net.use(self.drawn("architecture"))  # with gradients to α

    def penalty(self) -> Tensor:
        """λ·L_cost of section 3.2."""
        method, R, cost = self.method, self.R, self.E()
        F = self.net.macs(self.argmax()) if method.sign == "argmax" else float(cost.detach())
        sign = (F > R) - (F < R - method.band * self.dense)  # noqa: SIM300 - F is the paper's symbol
        L_cost = sign * torch.log(cost / R)
        if method.weigh == "loss":
            return method.cost_weight * L_cost
        return self.balance.penalty(L_cost, method.cost_weight)

    def after(self, progress: float) -> None:
        self.balance.observe()
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
        """One candidate of each decision: the argmax, settled at the budget."""
        if not self.method.settle:
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


@no_grad
def fresh_weights(model: nn.Module, seed: int) -> nn.Module:
    """A copy of the network with every layer initialised anew, as its class does by default.

    Raises:
        ValueError: a module with parameters of its own that cannot be initialised.
    """
    from bench.training.device import stage_seed

    fresh = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stage_seed(seed, "tas", "weights"))
        for name, module in fresh.named_modules():
            if any(True for _ in module.parameters(recurse=False)):
                reset = getattr(module, "reset_parameters", None)
                if reset is None:
                    raise ValueError(f"{name or 'the network'} has parameters and no reset_parameters: start = 'dense'")
                reset()
    return fresh


def interpolation(size: int, n: int, m: int, device: torch.device) -> Tensor:
    """CWI of the first n of `size` channels to m, as one linear map: [size, size] of torch's default type.

    Row i < m averages the channels from ⌊i·n/m⌋ up to ⌈(i+1)·n/m⌉; the rows from m on are zero.
    """
    return known_interpolation(size, n, m, device, torch.get_default_dtype())


@lru_cache(maxsize=128)
def known_interpolation(size: int, n: int, m: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """`interpolation` in this type, made once."""
    i, c = torch.arange(size, device=device)[:, None], torch.arange(size, device=device)
    window = (c >= i * n // m) & (c < -(-(i + 1) * n // m)) & (i < m)
    return window.to(dtype) / window.sum(1, keepdim=True).clamp(min=1)


def padding(size: int, n: int, m: int, device: torch.device) -> Tensor:
    """The ablation of CWI: the first n of `size` channels, then zeros: [size, size]."""
    return torch.diag((torch.arange(size, device=device) < n).to(torch.get_default_dtype()))
