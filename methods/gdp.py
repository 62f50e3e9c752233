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
place of its inner gate's zeros. `docs/methods.md` says why. Not the "GDP" of Lin et al. 2018.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from bench.interface.cell import Recovery
from bench.interface.method import Context, Found
from bench.interface.task import Task
from bench.lazy import nn, torch

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
    """φ starts up to this far from 1, in the order of the channels' L1 norms, so that gates do not fall in step."""
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
        from bench.interface.method import Search
        from bench.search.gates import Gates

        cost = Cost(graph)
        F = budget.ratio * cost.dense
        steps = max(1, ctx.epochs * (len(ctx.data.train) // ctx.recipe.batch_size))
        start = self.initial(graph, model).to(ctx.device)
        phi = nn.Parameter(start.clone())  # one entry a bundle, then one a block: [Σ bundles + blocks]
        square = nn.Parameter(torch.zeros_like(phi), requires_grad=False)  # running mean of φ's squared gradients
        frozen = nn.Parameter(torch.zeros(()), requires_grad=False)  # 1 once the budget is met
        epsilon, eta_lambda, before_step = self.epsilon_start, 0.0, start

        # The succeeding kernels are divided by the first gates: the search starts from the dense network's function.
        gates = Gates(model, graph, side="consumer")
        gates.set(*cost.split(1 / gate(start, epsilon)))
        gates.bake()
        gates = Gates(model, graph, side="consumer")

        def before(progress: float) -> None:
            nonlocal epsilon
            epsilon = self.epsilon(progress)
            gates.set(*cost.split(gate(phi, epsilon)))

        @torch.no_grad()
        def normalise(progress: float) -> None:
            """φ's gradient for step (3), in units of its root mean square; channels and blocks apart."""
            nonlocal before_step
            before_step = phi.detach().clone()
            if frozen or phi.grad is None:
                phi.grad = None
                return
            square.lerp_(phi.grad**2, 0.05 if square.any() else 1.0)
            for part in (slice(0, cost.channels), slice(cost.channels, None)):
                scale = (square[part].sum() / (phi[part] > 0).sum().clamp(min=1)).sqrt().clamp(min=1e-30)
                phi.grad[part] = (phi.grad[part] / scale).clamp(-self.clip, self.clip)

        @torch.no_grad()
        def after(progress: float) -> None:
            nonlocal eta_lambda
            eta_lambda = 0.0
            if not frozen:
                phi.copy_(torch.where(phi < 0, 1e-8, phi))  # the proximal step alone makes zeros
                ramp = min(1.25, max(0.0, (progress - self.prune_from) / (self.prune_until - self.prune_from)))
                # Relative to the first gates at the present ε, since g alone rises while ε falls.
                target = (1 - ramp * (1 - budget.ratio)) * float(cost.R(gate(start, epsilon)))
                # From one step to the next R falls at most half as fast again as its target: where many gates stand at
                # the edge, the gradient's noise could take them over it together, and step (3) is shortened.
                last = float(cost.R(gate(before_step, self.epsilon(max(0.0, progress - 2 / steps)))))
                fall = 1.5 * (1 - budget.ratio) * cost.dense / ((self.prune_until - self.prune_from) * steps)
                target = max(target, last - fall)
                for share in (0.5, 0.5, 0.5, 0.5, 1.0):
                    if float(cost.R(gate(phi, epsilon))) < target:
                        phi.lerp_(before_step, share)
                eta_lambda, refused = self.proximal_step(phi, epsilon, cost, target, F, self.cap / steps)
                over = cost.nonzero(phi) > (1 + self.band) * F
                if over and (refused or progress >= self.deadline):
                    channels = torch.arange(len(phi), device=phi.device) < cost.channels
                    zero_lowest(phi, channels & ~cost.strongest(phi, self.floor, F), cost, F, self.band)
                    over = False
                frozen.fill_(not over)
            gates.set(*cost.split(gate(phi, epsilon)))

        @torch.no_grad()
        def metrics() -> dict[str, float]:
            g = gate(phi, epsilon)
            return {
                "expected_macs_ratio": float(cost.R(g)) / cost.dense,
                "nonzero_macs_ratio": cost.nonzero(phi) / cost.dense,
                "epsilon": epsilon,
                "lambda": eta_lambda * steps / self.rate,
                "decided": float(((g <= 0.05) | (g >= 0.95)).double().mean()),
                "exact_zeros": float((g == 0).double().mean()),
            }

        @torch.no_grad()
        def snapshot() -> dict[str, list[float]]:
            present, _ = cost.split(phi != 0)
            return {"gates": gate(phi, epsilon).tolist(), "widths": [float(part.sum()) for part in present.values()]}

        ctx.train(
            model,
            Search(
                optimizer=torch.optim.SGD([phi], lr=self.rate / steps),  # momentum would carry φ past its zeros
                bilevel=False,
                before=before,
                before_architecture=normalise,
                after=after,
                metrics=metrics,
                snapshot=snapshot,
                state={"gates": nn.ParameterList([phi, square, frozen])},
            ),
        )
        gates.set(*cost.split(gate(phi.detach(), self.epsilon(1.0))))
        gates.bake()  # the surviving gates are absorbed into the succeeding kernels
        groups, blocks = cost.split(phi.detach().cpu())
        return Found(
            scores=groups,
            keep={name: part > 0 for name, part in groups.items()},
            drop_blocks=tuple(name for name, value in blocks.items() if value == 0),
            model=model,
        )

    def epsilon(self, progress: float) -> float:
        """ε: geometric from its start to its end, then constant."""
        return self.epsilon_start * (self.epsilon_end / self.epsilon_start) ** min(1.0, progress / self.anneal_until)

    def initial(self, graph: PruningGraph, model: nn.Module) -> Tensor:
        """φ of the first step, [Σ bundles + blocks]: 1 ± spread by the L1 rank in the group, a block's by its branch.

        A block whose last affine layer is zero starts as low as the lowest channels.
        """
        parts: list[Tensor] = []
        for name, scores in graph.channel_scores(model).items():
            bundles = graph.group(name).n_bundles
            rank = scores.view(bundles, -1).sum(1).argsort().argsort().float().cpu()
            parts.append(1 + self.spread * (2 * rank / max(1, bundles - 1) - 1))
        if graph.blocks:
            branch = torch.stack([model.get_parameter(f"{b.gate}.weight").detach().abs().mean() for b in graph.blocks])
            parts.append((branch / branch.median().clamp(min=1e-12)).clamp(1 - self.spread, 1).cpu())
        return torch.cat(parts)

    def proximal_step(
        self, phi: Tensor, epsilon: float, cost: Cost, target: float, F: float, cap: float
    ) -> tuple[float, bool]:
        """Equations (4) and (5), in place: ηλ, and whether a channel was kept because MACs would fall below F."""
        g = gate(phi, epsilon).requires_grad_()
        with torch.enable_grad():
            R = cost.R(g)
            (slope,) = torch.autograd.grad(R, g)  # ∂R/∂g: the neighbours' sums
        excess = float(R) - target
        if excess <= 0:
            return 0.0, False
        free = (phi > 0) & ~cost.strongest(phi, self.floor, F)
        room = cost.nonzero(phi) - (1 - self.band) * F
        free[cost.channels :] &= slope[cost.channels :] <= room  # a block goes whole or not at all
        step = min(cap, excess / max(float((slope * gate_slope(phi, epsilon))[free].sum()), 1e-30))
        shrunk = torch.where(free, prox(phi, step), phi)
        while step > cap / 1000:
            # The first order is not enough where many gates stand at the edge; but one may always go, however dear.
            going = slope * (g.detach() - gate(shrunk, epsilon))
            if float(cost.R(gate(shrunk, epsilon))) >= target - max(excess / 10, float(going.max())):
                break
            step /= 2
            shrunk = torch.where(free, prox(phi, step), phi)
        dying = (shrunk == 0) & (phi > 0)
        phi.copy_(torch.where(dying, phi, shrunk))
        zero_lowest(phi, dying, cost, F, self.band)
        return step, bool((dying & (phi > 0))[: cost.channels].any())


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
    """R(g) of equation (2), for vectors with an entry a bundle of each group and then one a block."""

    def __init__(self, graph: PruningGraph) -> None:
        self.graph = graph
        self.units = [g.n_bundles for g in graph.groups]
        self.channels = sum(self.units)
        self.dense = int(graph.macs())

    def split(self, values: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """By group, one value a channel: [size]; by block, a scalar."""
        parts = zip(self.graph.groups, values[: self.channels].split(self.units), strict=True)
        blocks = zip(self.graph.blocks, values[self.channels :].unbind(), strict=True)
        return {g.name: part.repeat_interleave(g.bundle) for g, part in parts}, {b.name: v for b, v in blocks}

    def R(self, g: Tensor) -> Tensor:
        groups, blocks = self.split(g)
        return self.graph.macs({name: part.sum() for name, part in groups.items()}, blocks)

    def nonzero(self, phi: Tensor) -> int:
        """Multiply-adds of the gates that are not zero: of the network that extraction would make."""
        groups, blocks = self.split((phi != 0).cpu())
        counts = {name: int(part.sum()) for name, part in groups.items()}
        return self.graph.macs(counts, {name: int(present) for name, present in blocks.items()})

    def strongest(self, phi: Tensor, share: float, F: float) -> Tensor:
        """Marks the largest φ of each group: a share of them, less where F is very low, and at least one."""
        share = min(share, F / self.dense / 2)
        marks = torch.zeros_like(phi, dtype=torch.bool)
        parts = zip(phi[: self.channels].split(self.units), marks[: self.channels].split(self.units), strict=True)
        for part, mark in parts:
            mark[part.topk(max(1, math.ceil(share * len(part)))).indices] = True
        return marks


def zero_lowest(phi: Tensor, among: Tensor, cost: Cost, F: float, band: float) -> None:
    """Zero gates in ascending order, in place, until the MACs are F, but none that would take them below the band."""
    order = phi.argsort()
    for i in order[among[order]].tolist():
        before = phi[i].item()
        phi[i] = 0
        macs = cost.nonzero(phi)
        if macs < (1 - band) * F:
            phi[i] = before
        elif macs <= (1 + band) * F:
            return
