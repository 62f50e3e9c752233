"""Network slimming (Liu et al., ICCV 2017, arXiv 1708.06519).

Section 3: the scales γ of batch norms are trained towards zero together with the weights, channels with small ones are
removed wherever they are, and the network is fine-tuned::

    L = Σ l(f(x, W), y) + λ Σ_γ |γ|                                                                             (1)

Published: (1) in the loss of the weights' steps; the ranking by |γ| with one threshold over all layers; fine-tuning.
Reconstructed: λ. The paper's 1e-4 (VGGNet) and 1e-5 (ResNet, DenseNet) belong to 160 epochs from fresh weights with γ
at 0.5; a search of a few epochs from the dense network does not feel them. Under SGD λ is such that the penalty alone
would take a mean scale `travel` of its way to zero in the whole search. Adam divides by the size of the whole gradient:
there λ's slope along the channels' scales is `weight` times the loss's, in root mean squares over ten batches of the
dense network. `docs/methods.md` has what they do. Where several norms scale a channel their |γ| are averaged. Beside
groups with norms, a channel without one has the L2 norms of its filters in place of |γ|, as in weight normalization;
scores are then divided by their group's mean, since norms of filters and scales are no common measure. A network with
no norms at all is refused: nothing of the paper is left there, and no strength of the penalty helped. The threshold is
solved to the budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from bench.errors import RequestError
from bench.interface.cell import Recovery
from bench.interface.method import Context, Found
from bench.interface.task import Task
from bench.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bench.interface.method import Budget
    from bench.structure.graph import PruningGraph
    from bench.structure.groups import Member

WITHOUT_NORMS = (
    "slimming needs norms with scales (BatchNorm, say), and the network's prunable channels run through none; use "
    "another method there, such as l1, fpgm, taylor or group-l2"
)


@dataclass(frozen=True)
class Slimming:
    """An L1 penalty on the scales of norms while the weights train; then one threshold over the scales."""

    travel: Annotated[float, Field(ge=0)] = 0.9
    """SGD: how far the penalty alone takes a scale in the whole search, in units of the mean scale."""
    weight: Annotated[float, Field(ge=0)] = 2.0
    """Adam: λ in units of the task's gradient."""
    strength: Annotated[float, Field(ge=0)] | None = None
    """λ of equation (1) itself, in place of both."""

    searches: ClassVar[bool] = True
    architecture: ClassVar[bool] = False  # the scales are weights
    needs_dense: ClassVar[bool] = True
    dead_lowest: ClassVar[bool] = True
    recovery: ClassVar[Recovery] = "finetune"
    paper: ClassVar[dict[str, object]] = {"strength": 1e-5}
    standing: ClassVar[str] = "published; the penalty's strength and channels without norms reconstructed"

    def left_whole(self, graph: PruningGraph) -> frozenset[str]:
        """No group; a network without norms is refused here, before anything is trained.

        Raises:
            RequestError: its channels run through no norm.
        """
        if not any(group.passes for group in graph.groups):
            raise RequestError(WITHOUT_NORMS)
        return frozenset()

    def search(self, model: nn.Module, graph: PruningGraph, task: Task, budget: Budget, ctx: Context) -> Found:
        scales = Scales(model.to(ctx.device), graph)
        if not scales.present:
            raise RequestError(WITHOUT_NORMS)
        strength = self.strength if self.strength is not None else self.in_units(scales, task, ctx)
        ctx.note(f"slimming: the penalty's strength is {strength:.3g}")
        ctx.train(model, penalty=lambda: strength * scales.all().sum())
        return Found(scores=scales.scores(), scope="raw" if scales.comparable else "global", model=model)

    def in_units(self, scales: Scales, task: Task, ctx: Context) -> float:
        """λ that the optimiser turns into the same shrinking in a search of any length, on any network."""
        from bench.search.ranking import gate_gradients
        from bench.training.loop import rates

        if ctx.recipe.optimizer == "sgd":
            moved = sum(rates(ctx.recipe, len(ctx.data.train), ctx.epochs)) / (1 - ctx.recipe.momentum)
            return self.travel * float(scales.all().detach().mean()) / moved if moved else 0.0
        # Adam divides by the size of the whole gradient, so that the penalty counts against the task's.
        slopes = [torch.cat(list(batch.values())) for batch in gate_gradients(scales.graph, scales.model, task, ctx)]
        return self.weight * rms(torch.cat(slopes)) / max(rms(scales.all()), 1e-30)


class Scales:
    """|γ| of the norms that a group's channels run through; without norms, the L2 norms of the filters in their place.

    Read anew in every call, with gradients.
    """

    def __init__(self, model: nn.Module, graph: PruningGraph) -> None:
        from bench.search.coupled import is_norm

        self.model, self.graph, self.modules = model, graph, dict(model.named_modules())
        norms = {g.name: [m for m in g.passes if is_norm(self.modules[m.module])] for g in graph.groups}
        self.comparable = all(norms.values())
        """Whether every group has norms."""
        self.present = any(norms.values())
        """Whether any group has."""
        self.members = [member for g in graph.groups for member in norms[g.name] or g.producers]

    def of(self, member: Member) -> Tensor:
        """Of all channels on the member's side of its layer, [member.of]."""
        from bench.search.coupled import is_norm
        from bench.structure.layers import require_rule

        layer = self.modules[member.module]
        rows = require_rule(layer).rows(layer)
        return rows.abs() if is_norm(layer) else rows.flatten(1).norm(dim=1)

    def all(self) -> Tensor:
        """Of the groups' channels alone, one for each layer that scales them, flat."""
        return torch.cat([self.of(m)[torch.as_tensor(m.rows.ravel())] for m in self.members])

    def scores(self) -> dict[str, Tensor]:
        """Means over layers, by group name, [size]."""
        from bench.search.coupled import coupled_scores

        chosen = {id(member) for member in self.members}
        return coupled_scores(self.graph, lambda m: self.of(m) if id(m) in chosen else None, mean=True)


def rms(values: Tensor) -> float:
    """Root mean square."""
    return float(values.detach().cpu().double().square().mean().sqrt())
