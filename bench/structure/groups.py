"""What a network's structure is made of: channel groups, removable blocks, and what a pruning keeps of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch

from bench.errors import ArchitectureError

SideKind = Literal["out", "in", "pass", "tensor", "count", "work"]
"""A side of a layer: the weight rows that make channels, the columns that read them, or the per-channel parameters of a
norm, a PReLU or a depthwise convolution that channels run through. "tensor": a parameter or buffer of a module that is
no known layer, with one entry a channel. "count": a whole number that a module keeps, which says how many they are.
"work": an operation outside of layers that costs multiply-adds for each of them."""
GateSide = Literal["producer", "consumer"]


@dataclass(frozen=True, eq=False)
class Member:
    """A group's part of one side of a layer.

    `rows[a]` are the indices, on that side of `module`, that go when bundle `a` of the group goes.
    """

    module: str
    """The layer's name; that of the parameter, buffer or number where the kind is "tensor" or "count"."""
    kind: SideKind
    rows: np.ndarray  # int64 [bundles, rows per bundle]
    of: int  # channels on that side, this group's and others
    axis: int = 0
    """Of a tensor, the dimension that holds the channels."""

    @property
    def channels(self) -> str:
        """The rows as ranges, for people: `0:16,32:48`."""
        flat = np.sort(self.rows.ravel())
        breaks = np.flatnonzero(np.diff(flat) != 1)
        starts = [flat[0], *flat[breaks + 1]]
        ends = [*flat[breaks], flat[-1]]
        return ",".join(f"{a}:{b + 1}" for a, b in zip(starts, ends, strict=True))

    def spread(self, per_bundle: torch.Tensor) -> torch.Tensor:
        """One value a bundle [bundles] -> one a row, in the order of `rows.ravel()`."""
        return per_bundle.repeat_interleave(self.rows.shape[1])


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Channels that are kept or removed together through all `members`.

    Channel i of the group belongs to bundle i // bundle; a bundle is kept or removed as one (r² channels before
    a PixelShuffle, a norm group under GroupNorm, one channel of each group of a grouped convolution).
    """

    name: str
    size: int
    bundle: int
    """Channels of one bundle."""
    members: tuple[Member, ...]
    gates: tuple[Member, ...]
    """The producers and passes right before the consumers: a factor there scales what every consumer reads."""
    exact: tuple[GateSide, ...] = ("producer", "consumer")
    """Where zeroing the channels computes what removing them does: at `gates`, in the columns of `consumers`, or both.
    Behind a sigmoid a channel that is zeroed at its producer is not zero where it is read."""

    @property
    def n_bundles(self) -> int:
        """How many bundles the group has."""
        return self.size // self.bundle

    @property
    def producers(self) -> tuple[Member, ...]:
        """Convolutions and linear layers whose weight rows make the channels."""
        return tuple(m for m in self.members if m.kind == "out")

    @property
    def layers(self) -> tuple[Member, ...]:
        """The members that are sides of layers, and no tensors or numbers beside them."""
        return tuple(m for m in self.members if m.kind in ("out", "in", "pass"))

    def drawn(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """A random choice of `count` bundles to keep, bool [size]."""
        bundles = torch.zeros(self.n_bundles, dtype=torch.bool)
        bundles[torch.randperm(self.n_bundles, generator=generator)[:count]] = True
        return bundles.repeat_interleave(self.bundle)

    def side(self, wanted: GateSide) -> GateSide:
        """`wanted` where it is exact, else the other one."""
        return wanted if wanted in self.exact else self.exact[0]

    def at(self, side: GateSide) -> tuple[Member, ...]:
        """The members at which channels are zeroed or scaled on a side."""
        return self.gates if side == "producer" else self.consumers

    @property
    def passes(self) -> tuple[Member, ...]:
        """Norms, PReLUs and depthwise convolutions that the channels run through."""
        return tuple(m for m in self.members if m.kind == "pass")

    @property
    def consumers(self) -> tuple[Member, ...]:
        """Layers whose weight columns read the channels."""
        return tuple(m for m in self.members if m.kind == "in")

    def __repr__(self) -> str:
        bundle = f" in bundles of {self.bundle}" if self.bundle > 1 else ""
        return f"ChannelGroup({self.name}: {self.size} channels{bundle}, {len(self.producers)} producers)"


@dataclass(frozen=True)
class Block:
    """A removable residual block."""

    name: str
    activation: str
    """What the block becomes: a key of `bench.structure.shortcut.ACTIVATIONS`."""
    gate: str
    """The affine layer that makes the block that activation when its weight and bias are zero."""


@dataclass(frozen=True, eq=False)
class Structure:
    """Groups and blocks of one network."""

    groups: tuple[ChannelGroup, ...]
    blocks: tuple[Block, ...]

    @cached_property
    def group_numbers(self) -> dict[str, int]:
        """The place of each group in `groups`, by name."""
        return {group.name: i for i, group in enumerate(self.groups)}

    def group(self, name: str) -> ChannelGroup:
        """The group of that name.

        Raises:
            ValueError: there is none; the message lists them.
        """
        if name not in self.group_numbers:
            raise ValueError(f"unknown group {name!r}; available: {', '.join(self.group_numbers)}")
        return self.groups[self.group_numbers[name]]

    @cached_property
    def block_numbers(self) -> dict[str, int]:
        """The place of each block in `blocks`, by name."""
        return {block.name: i for i, block in enumerate(self.blocks)}

    def block(self, name: str) -> Block:
        """The block of that name.

        Raises:
            ValueError: there is none; the message lists them.
        """
        if name not in self.block_numbers:
            raise ValueError(f"unknown block {name!r}; available: {', '.join(self.block_numbers) or 'none'}")
        return self.blocks[self.block_numbers[name]]


@dataclass(frozen=True)
class Pruning:
    """What to keep: per group a bool mask [size]; groups that are not named stay whole."""

    keep: Mapping[str, torch.Tensor] = field(default_factory=dict)
    drop_blocks: tuple[str, ...] = ()

    @property
    def widths(self) -> dict[str, int]:
        """Kept channels by group."""
        return {name: int(mask.sum()) for name, mask in self.keep.items()}

    def to_dict(self) -> dict[str, Any]:
        """A form that JSON can hold: `{"groups": {name: {"size", "kept"}}, "drop_blocks": [...]}`."""
        groups = {
            name: {"size": mask.numel(), "kept": mask.nonzero().flatten().tolist()} for name, mask in self.keep.items()
        }
        return {"groups": groups, "drop_blocks": list(self.drop_blocks)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Pruning:
        """The inverse of `to_dict`.

        Raises:
            ArchitectureError: a field is missing or an index is out of range.
        """
        try:
            keep = {}
            for name, entry in data["groups"].items():
                mask = torch.zeros(int(entry["size"]), dtype=torch.bool)
                mask[checked_indices(entry["kept"], mask.numel(), name)] = True
                keep[name] = mask
            return cls(keep, tuple(str(block) for block in data["drop_blocks"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ArchitectureError(f"not a pruning: {error!r}") from None


def checked_indices(kept: Any, size: int, name: str) -> list[int]:
    """`kept`, if it lists channels below `size` in ascending order and each once.

    Raises:
        ArchitectureError: it does not.
    """
    good = isinstance(kept, list) and all(isinstance(i, int) for i in kept)
    if not good or not kept or kept[0] < 0 or kept[-1] >= size or sorted(set(kept)) != kept:
        raise ArchitectureError(f"{name}: kept channels must be ascending, distinct and below {size}")
    return kept
