"""HRank: filter pruning using high-rank feature maps (Lin et al., CVPR 2020, arXiv 2002.10179).

Section 3.3: a filter whose feature maps have a low rank, in the mean over images, tells little and goes first::

    score_j = (1 / g) Σ_t Rank(o_j(t))

o_j(t) is the map of image t, behind norm and activation as in the released code, with g = 500 images.

Published: the score. Reconstructed: fewer images (`images`), since each map is one singular value decomposition and the
paper finds the ranks stable; one ratio for all groups, solved to the budget, where the paper sets each layer's by hand.
Maps are taken where a convolution reads them; where several read a group (a residual stream) their ranks are averaged.
A group that no convolution reads (in front of global pooling, say) has the maps behind its last norm or layer. The
paper freezes and fine-tunes layer by layer; here the network is cut once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from bench.interface.cell import Recovery
from bench.interface.method import Context, Found
from bench.interface.task import Task
from bench.lazy import no_grad, torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bench.interface.method import Budget
    from bench.structure.graph import PruningGraph
    from bench.structure.groups import Member


@dataclass(frozen=True)
class HRank:
    """Remove the channels whose feature maps have the lowest ranks."""

    images: Annotated[int, Field(ge=1)] = 64
    """g, or as many as the training split has."""

    searches: ClassVar[bool] = False
    needs_dense: ClassVar[bool] = True
    dead_lowest: ClassVar[bool] = True
    recovery: ClassVar[Recovery] = "finetune"
    standing: ClassVar[str] = "published score; one-shot, on fewer images, one ratio solved to the budget"

    @no_grad
    def search(self, model: nn.Module, graph: PruningGraph, task: Task, budget: Budget, ctx: Context) -> Found:
        from bench.search.coupled import coupled_scores
        from bench.structure.layers import convolves

        modules = dict(model.named_modules())
        readers = {g.name: [m for m in g.consumers if convolves(modules[m.module])] for g in graph.groups}
        sites = {id(m): m for g in graph.groups for m in readers[g.name] or g.producers}
        train = ctx.data.train
        size = min(self.images, len(train))
        images, _ = next(iter(train.batches(size, seed=ctx.seed, epoch=0, device=ctx.device)))
        ranks = ranks_at(model.to(ctx.device).eval(), sites.values(), images)
        ctx.note(f"HRank: ranks of the feature maps of {size} training samples, which no epoch counts")
        of = coupled_scores(graph, lambda m: ranks[m.module, m.kind] if id(m) in sites else None, mean=True)
        return Found(scores=of)


def ranks_at(model: nn.Module, sites: Iterable[Member], images: Tensor) -> dict[tuple[str, str], Tensor]:
    """Mean ranks of the maps that a layer reads (kind "in") or makes, by (layer, kind): one a channel."""
    from bench.structure.layers import require_rule

    modules = dict(model.named_modules())
    found: dict[tuple[str, str], Tensor] = {}
    known: dict[int, tuple[Tensor, Tensor]] = {}  # layers that read one tensor share its ranks
    handles: list[Any] = []

    def watched(site: Member) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(layer: nn.Module, args: Any, output: Tensor) -> None:
            maps = args[0] if site.kind == "in" else output
            if id(maps) not in known:
                axis = require_rule(layer).channel_axis(layer, maps.ndim)
                known[id(maps)] = maps, mean_ranks(maps.movedim(axis, 1))
            found[site.module, site.kind] = known[id(maps)][1]

        return hook

    try:
        handles += [modules[site.module].register_forward_hook(watched(site)) for site in sites]
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    return found


def mean_ranks(maps: Tensor) -> Tensor:
    """The score of each channel: maps [images, channels, height, width] -> [channels].

    What has no height and width counts as one row.
    """
    from bench.structure.tensors import WITHOUT_FLOAT64

    rows = maps.shape[2] if maps.ndim > 3 else 1
    planes = maps.reshape(*maps.shape[:2], rows, -1)
    planes = planes.float()
    if planes.device.type in WITHOUT_FLOAT64:  # in which ranks take their tolerance
        planes = planes.cpu()
    return torch.linalg.matrix_rank(planes).cpu().double().mean(0)
