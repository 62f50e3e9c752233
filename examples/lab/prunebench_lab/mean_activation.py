"""Mean activation (Molchanov et al., "Pruning Convolutional Neural Networks", ICLR 2017, arXiv 1611.06440).

Section 2.2: a channel whose activations are small on average tells the next layer little and goes first. Section 2.2,
normalization: scores of one layer are divided by their L2 norm, so that one threshold fits all layers::

    Θ_MA(a) = (1 / |a|) Σ_i |a_i|        Θ̂(z_l) = Θ(z_l) / sqrt(Σ_j Θ_j(z_l)²)

Published: the score and its normalization. Reconstructed: activations are taken where a layer reads them, and averaged
over layers that read the same channels; the network is cut once, where the paper prunes and fine-tunes in turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from bench.interface.cell import Recovery
from bench.interface.method import Budget, Context, Found
from bench.interface.task import Task
from bench.lazy import no_grad

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bench.structure.graph import PruningGraph


@dataclass(frozen=True)
class MeanActivation:
    """Remove the channels whose activations are smallest on average."""

    images: Annotated[int, Field(ge=1)] = 128
    """Training samples that are looked at, or as many as there are."""
    scope: Literal["all", "layer"] = "all"
    """`all`: one threshold over normalized scores, as published; `layer`: one ratio for all groups."""

    searches: ClassVar[bool] = False
    needs_dense: ClassVar[bool] = True
    dead_lowest: ClassVar[bool] = True
    recovery: ClassVar[Recovery] = "finetune"
    standing: ClassVar[str] = "published score; one-shot"

    @no_grad
    def search(self, model: nn.Module, graph: PruningGraph, task: Task, budget: Budget, ctx: Context) -> Found:
        from bench.search.coupled import coupled_scores

        train = ctx.data.train
        size = min(self.images, len(train))
        images, _ = next(iter(train.batches(size, seed=ctx.seed, epoch=0, device=ctx.device)))
        names = {member.module for group in graph.groups for member in group.consumers}
        read = activations(model.to(ctx.device).eval(), names, images)
        scores = coupled_scores(graph, lambda m: read[m.module] if m.kind == "in" else None, mean=True)
        if self.scope == "layer":
            return Found(scores=scores, scope="layer")
        return Found(scores={name: s / s.norm().clamp_min(1e-12) for name, s in scores.items()}, scope="raw")


def activations(model: nn.Module, names: Iterable[str], images: Tensor) -> dict[str, Tensor]:
    """Θ_MA of what layers read, by the layer's name: one value a channel of its input, [C]."""
    from bench.structure.layers import require_rule

    found: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(layer: nn.Module, args: Any, output: Any) -> None:
            axis = require_rule(layer).channel_axis(layer, args[0].ndim)
            found[name] = args[0].float().abs().movedim(axis, 0).flatten(1).mean(1)

        return hook

    handles = [model.get_submodule(name).register_forward_hook(watch(name)) for name in sorted(names)]
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    return found
