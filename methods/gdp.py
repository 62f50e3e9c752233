"""GDP: Gates with Differentiable Polarization (Guo et al., ICCV 2021, arXiv 2109.02220).

Gates stand right before regular convolutions; one gate vector serves all convolutions that a skip connection joins,
and every removable block has a gate of its own. A gate is a smoothed L0 norm, in [0, 1], with exact zeros::

    g(φ) = φ² / (φ² + ε)                                                                                        (1)
    min_{w, φ} L(w, g(φ))   s.t.   R(g) <= F,   R(g) = Σ_l c_l (Σ g_in) (Σ g_out)                               (2)

g' vanishes at 0, so that zeros absorb, and for large φ, so that survivors saturate: while ε falls the gates polarize.
The two parts of (2) alternate::

    (w, φ) <- SGD step on L                                                                                     (3)
    φ <- sign(φ) max(|φ| - η λ, 0)                                                                              (4)

With the neighbours' sums held fixed R is linear in each gate, and λ is the least that brings R down to the present
target, to first order::

    η λ = min(cap, (R(g) - R*)+ / Σ_i (∂R/∂g_i) g'(φ_i))                                                        (5)

R* falls to F over the first part of training; once the multiply-adds of the non-zero gates are F, φ is frozen and
training ends with the survivors, which are absorbed into the succeeding kernels. The numbers are this file's own.

Published: where gates stand and are shared, polarization with exact zeros, a bilinear cost met by an alternating
relaxation, extraction without damage and without fine-tuning. Second-hand: (1). Reconstructed: ε's fall, the
proximal step (4) with one length for all gates, λ by (5), φ's start, its normalised gradient, a gate for a block in
place of its inner gate's zeros: each group keeps a gate at least, so that a block can go by its own gate alone.
`docs/methods.md` says why. Not the "GDP" of Lin et al. 2018.
"""

from __future__ import annotations

import math
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


@dataclass(frozen=True)
class GDP:
    """Polarizing gates before convolutions and on blocks, trained with the weights."""

    epsilon_start: Annotated[float, Field(gt=0)] = 0.1
    """ε of the first step."""
    epsilon_end: Annotated[float, Field(gt=0)] = 1e-6
    """ε from `anneal_until` on."""
    anneal_until: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of the search over which ε falls: beyond the last zero, so that all survivors end near 1."""
    prune_from: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the search after which R* begins to fall."""
    prune_until: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """Share of the search at which R* is the budget."""
    deadline: Annotated[float, Field(gt=0, le=1)] = 0.75
    """Share of the search after which whatever still exceeds the budget is removed, lowest gates first."""
    spread: Annotated[float, Field(ge=0, lt=1)] = 0.35
    """φ starts up to this far from 1, by the channels' rank in their group, so that gates do not fall in step."""
    order: Order = "l1"
    """By what the channels are ranked."""
    rate: Annotated[float, Field(gt=0)] = 5.0
    """η times the number of steps: how far a gradient of steady sign may move φ in the whole search."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest gradient of φ, in units of the root mean square over all gates."""
    cap: Annotated[float, Field(gt=0)] = 20.0
    """Largest ηλ times the number of steps."""
    band: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """How far the final multiply-adds may be from the budget, as a share of it, where channels are fine enough."""
    floor: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of a group's gates that are never shrunk, so that no group collapses."""

    searches: ClassVar[bool] = True
    needs_dense: ClassVar[bool] = True
    recovery: ClassVar[Recovery] = "none"
    standing: ClassVar[str] = "published idea; gate second-hand; proximal step, controller and schedules reconstructed"

    def search(self, model: nn.Module, graph: PruningGraph, task: Task, budget: Budget, ctx: Context) -> Found:
        from bench.search.ranking import channel_ranking, ranks
        from bench.training.context import search_steps

        start = self.initial(graph, model, ranks(graph, channel_ranking(self.order, graph, model, task, ctx)))
        steps = search_steps(ctx, bilevel=False)
        search = Polarization(self, model.to(ctx.device), graph, budget, start=start, steps=steps, device=ctx.device)
        # (3) and (4) follow one batch.
        ctx.train(model, Search.of(search, bilevel=False))
        groups, blocks = search.absorb()
        return Found(
            scores=groups,
            keep={name: phi > 0 for name, phi in groups.items()},
            drop_blocks=tuple(name for name, phi in blocks.items() if phi == 0),
            model=model,
        )

    def epsilon(self, progress: float) -> float:
        """ε: geometric from its start to its end, then constant."""
        return self.epsilon_start * (self.epsilon_end / self.epsilon_start) ** min(1.0, progress / self.anneal_until)

    def initial(self, graph: PruningGraph, model: nn.Module, ranks: Tensor) -> Tensor:
        """φ of the first step, [Σ bundles + blocks]: 1 ± spread by the rank in the group, a block's by its branch.

        A block whose last affine layer is zero starts as low as the lowest channels.

        Args:
            ranks: [Σ bundles], from -1 to 1.
        """
        channels = 1 + self.spread * ranks
        if not graph.blocks:
            return channels
        branch = torch.stack([model.get_parameter(f"{b.gate}.weight").detach().abs().mean() for b in graph.blocks])
        return torch.cat([channels, (branch / branch.median().clamp(min=1e-12)).clamp(1 - self.spread, 1).cpu()])


class Polarization:
    """One search: φ, the optimiser that moves it, and the gates that it sets in the network."""

    def __init__(
        self,
        method: GDP,
        model: nn.Module,
        graph: PruningGraph,
        budget: Budget,
        *,
        start: Tensor,
        steps: int,
        device: torch.device,
    ) -> None:
        from bench.search.gates import Gates

        self.method, self.steps, self.cost = method, steps, Cost(graph)
        self.ratio, self.F = budget.ratio, budget.ratio * self.cost.dense
        self.start = start.to(device)
        self.phi = nn.Parameter(self.start.clone())
        self.square = nn.Parameter(torch.zeros_like(self.phi), requires_grad=False)
        """Running mean of φ's squared gradients."""
        self.frozen = nn.Parameter(torch.zeros(()), requires_grad=False)
        """1 once the budget is met."""
        self.epsilon, self.eta_lambda, self.before_step = method.epsilon_start, 0.0, self.start
        # Momentum would carry φ past its zeros.
        self.optimizer = torch.optim.SGD([self.phi], lr=method.rate / steps)
        self.state = {"gates": nn.ParameterList([self.phi, self.square, self.frozen])}
        # The succeeding kernels are divided by the first gates: the search starts from the dense network's function.
        gates = Gates(model, graph, side="consumer")
        gates.set(*self.cost.split(1 / gate(self.start, self.epsilon)))
        gates.bake()
        self.gates = Gates(model, graph, side="consumer")

    def use(self) -> None:
        """The network computes with the present gates from now on."""
        self.gates.set(*self.cost.split(gate(self.phi, self.epsilon)))

    def R(self, phi: Tensor, epsilon: float) -> float:
        return float(self.cost.R(gate(phi, epsilon)))

    def before(self, progress: float) -> None:
        self.epsilon = self.method.epsilon(progress)
        self.use()  # with gradients to φ

    @no_grad
    def before_architecture(self, progress: float) -> None:
        """φ's gradient for step (3), in units of its root mean square; channels and blocks apart."""
        phi, square = self.phi, self.square
        self.before_step = phi.detach().clone()
        if self.frozen or phi.grad is None:
            phi.grad = None
            return
        square.lerp_(phi.grad**2, 0.05 if square.any() else 1.0)
        for part in (slice(0, self.cost.channels), slice(self.cost.channels, None)):
            scale = (square[part].sum() / (phi[part] > 0).sum().clamp(min=1)).sqrt().clamp(min=1e-30)
            phi.grad[part] = (phi.grad[part] / scale).clamp(-self.method.clip, self.method.clip)

    @no_grad
    def after(self, progress: float) -> None:
        """Steps (4) and (5) behind step (3), until the budget is met."""
        self.eta_lambda = 0.0
        if not self.frozen:
            self.phi.copy_(torch.where(self.phi < 0, 1e-8, self.phi))  # the proximal step alone makes zeros
            target = self.target(progress)
            self.shorten(target)
            self.eta_lambda, refused = self.proximal_step(target)
            self.freeze(at_once=refused or progress >= self.method.deadline)
        self.use()

    def target(self, progress: float) -> float:
        """R* of equation (5)."""
        method, last = self.method, max(0.0, progress - 2 / self.steps)
        ramp = min(1.25, max(0.0, (progress - method.prune_from) / (method.prune_until - method.prune_from)))
        # Relative to the first gates at the present ε, since g alone rises while ε falls.
        target = (1 - ramp * (1 - self.ratio)) * self.R(self.start, self.epsilon)
        # From one step to the next R falls at most half as fast again as its target: where many gates stand at the
        # edge, the gradient's noise could take them over it together.
        fall = 1.5 * (1 - self.ratio) * self.cost.dense / ((method.prune_until - method.prune_from) * self.steps)
        return max(target, self.R(self.before_step, method.epsilon(last)) - fall)

    @no_grad
    def shorten(self, target: float) -> None:
        """Take back as much of step (3) as made R fall below its target: by halves, then whole."""
        for share in (0.5, 0.5, 0.5, 0.5, 1.0):
            if self.R(self.phi, self.epsilon) < target:
                self.phi.lerp_(self.before_step, share)

    def proximal_step(self, target: float) -> tuple[float, bool]:
        """Equations (4) and (5): ηλ, and whether a channel was kept because MACs would fall below F."""
        phi, epsilon, cost, band = self.phi.detach(), self.epsilon, self.cost, self.method.band
        g = gate(phi, epsilon).requires_grad_()
        with torch.enable_grad():
            R = cost.R(g)
            (slope,) = torch.autograd.grad(R, g)  # ∂R/∂g: the neighbours' sums
        excess = float(R) - target
        if excess <= 0:
            return 0.0, False
        free = (phi > 0) & ~cost.strongest(phi, self.method.floor, self.F)
        room = cost.nonzero(phi) - (1 - band) * self.F
        free[cost.channels :] &= slope[cost.channels :] <= room  # a block goes whole or not at all
        cap = self.method.cap / self.steps
        step = min(cap, excess / max(float((slope * gate_slope(phi, epsilon))[free].sum()), 1e-30))
        shrunk = torch.where(free, prox(phi, step), phi)
        while step > cap / 1000:
            # The first order is not enough where many gates stand at the edge; but one may always go, however dear.
            going = slope * (g.detach() - gate(shrunk, epsilon))
            if self.R(shrunk, epsilon) >= target - max(excess / 10, float(going.max())):
                break
            step /= 2
            shrunk = torch.where(free, prox(phi, step), phi)
        dying = (shrunk == 0) & (phi > 0)
        phi.copy_(torch.where(dying, phi, shrunk))
        zero_lowest(phi, dying, cost, self.F, band)
        return step, bool((dying & (phi > 0))[: cost.channels].any())

    def freeze(self, *, at_once: bool) -> None:
        """φ is frozen when the MACs of its non-zero gates are F; `at_once` zeroes the lowest gates until they are."""
        phi, cost, band = self.phi.detach(), self.cost, self.method.band
        over = cost.nonzero(phi) > (1 + band) * self.F
        if over and at_once:
            channels = torch.arange(len(phi), device=phi.device) < cost.channels
            zero_lowest(phi, channels & ~cost.strongest(phi, self.method.floor, self.F), cost, self.F, band)
        self.frozen.fill_(at_once or not over)

    @no_grad
    def metrics(self) -> dict[str, float]:
        g = gate(self.phi, self.epsilon)
        return {
            "expected_macs_ratio": float(self.cost.R(g)) / self.cost.dense,
            "nonzero_macs_ratio": self.cost.nonzero(self.phi) / self.cost.dense,
            "epsilon": self.epsilon,
            "lambda": self.eta_lambda * self.steps / self.method.rate,
            "decided": float(((g <= 0.05) | (g >= 0.95)).cpu().double().mean()),
            "exact_zeros": float((g == 0).cpu().double().mean()),
        }

    @no_grad
    def snapshot(self) -> dict[str, list[float]]:
        present, _ = self.cost.split(self.phi != 0)
        gates = gate(self.phi, self.epsilon).tolist()
        return {"gates": gates, "widths": [float(part.sum()) for part in present.values()]}

    @no_grad
    def absorb(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The surviving gates go into the succeeding kernels; φ by group, [size], and by block, a scalar."""
        self.epsilon = self.method.epsilon(1.0)
        self.use()
        self.gates.bake()
        return self.cost.split(self.phi.detach().cpu())


def gate(phi: Tensor, epsilon: float) -> Tensor:
    """Equation (1)."""
    return phi**2 / (phi**2 + epsilon)


def gate_slope(phi: Tensor, epsilon: float) -> Tensor:
    """g'(φ) of equation (1)."""
    return 2 * epsilon * phi / (phi**2 + epsilon) ** 2


def prox(phi: Tensor, eta_lambda: float) -> Tensor:
    """Equation (4)."""
    return phi.sign() * (phi.abs() - eta_lambda).clamp(min=0)


class Cost:
    """R(g) of equation (2), for flat vectors of units."""

    def __init__(self, graph: PruningGraph) -> None:
        from bench.search.units import Units

        self.graph, self.units = graph, Units(graph)
        self.channels = self.units.channels
        self.dense = int(graph.macs())

    def split(self, values: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """By group, one value a channel: [size]; by block, a scalar."""
        return self.units.by_channel(values), self.units.by_block(values)

    def R(self, g: Tensor) -> Tensor:
        return self.graph.macs_at(self.units.sums(g), g[self.channels :])

    def nonzero(self, phi: Tensor) -> int:
        """Multiply-adds of the gates that are not zero: of the network that extraction would make."""
        return self.macs(self.counts(phi))

    def counts(self, phi: Tensor) -> list[int]:
        """How many gates are not zero: of each group, and of each block."""
        there = (phi != 0).cpu()
        return [*(int(part.sum()) for part in self.units.parts(there)), *there[self.channels :].int().tolist()]

    def macs(self, counts: list[int]) -> int:
        """Multiply-adds of a network with so many gates."""
        groups, blocks = self.graph.groups, self.graph.blocks
        widths = {g.name: n * g.bundle for g, n in zip(groups, counts[: len(groups)], strict=True)}
        return self.graph.macs(widths, {b.name: n for b, n in zip(blocks, counts[len(groups) :], strict=True)})

    def strongest(self, phi: Tensor, share: float, F: float) -> Tensor:
        """Marks the largest φ of each group: a share of them, less where F is very low, and at least one."""
        share = min(share, F / self.dense / 2)
        marks = torch.zeros_like(phi, dtype=torch.bool)
        for part, mark in zip(self.units.parts(phi), self.units.parts(marks), strict=True):
            mark[part.topk(max(1, math.ceil(share * len(part)))).indices] = True
        return marks


def zero_lowest(phi: Tensor, among: Tensor, cost: Cost, F: float, band: float) -> None:
    """Zero gates in ascending order, in place, until the MACs are F, but none that would take them below the band."""
    order, there, counts = phi.argsort(), (phi != 0).tolist(), cost.counts(phi)
    place = [part for part, n in enumerate((*cost.units.counts, *[1] * len(cost.graph.blocks))) for _ in range(n)]
    gone: list[int] = []
    for i in order[among[order]].tolist():
        counts[place[i]] -= there[i]
        macs = cost.macs(counts)
        if macs < (1 - band) * F:
            counts[place[i]] += there[i]
            continue
        gone.append(i)
        if macs <= (1 + band) * F:
            break
    phi[torch.tensor(gone, dtype=torch.long, device=phi.device)] = 0
