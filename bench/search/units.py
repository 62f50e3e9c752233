"""Flat vectors for a whole network, for searches with a variable a bundle of channels and a block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from bench.structure.graph import PruningGraph


class Units:
    """Where the units of a network stand in a flat vector: the bundles of each group in turn, then the blocks.

    A vector may end with the bundles; then it says nothing of blocks.
    """

    def __init__(self, graph: PruningGraph) -> None:
        self.graph = graph
        self.counts = [g.n_bundles for g in graph.groups]
        self.channels = sum(self.counts)
        """Entries of bundles, and index of the first block."""

    def parts(self, values: Tensor) -> tuple[Tensor, ...]:
        """Views by group, one value a bundle: [size / bundle] each."""
        return values[: self.channels].split(self.counts)

    def by_channel(self, values: Tensor) -> dict[str, Tensor]:
        """By group name, one value a channel: [size]."""
        parts = zip(self.graph.groups, self.parts(values), strict=True)
        return {g.name: part if g.bundle == 1 else part.repeat_interleave(g.bundle) for g, part in parts}

    def sums(self, values: Tensor) -> Tensor:
        """The sum over each group's bundles: [groups]."""
        return torch.stack([part.sum() for part in self.parts(values)])

    def by_block(self, values: Tensor) -> dict[str, Tensor]:
        """By block name, a scalar."""
        return {b.name: v for b, v in zip(self.graph.blocks, values[self.channels :].unbind(), strict=True)}
