"""Costs that are bilinear in the widths: multiply-adds and parameters of a network that is not built yet.

A layer that reads n_in channels and makes n_out costs coef·n_in·n_out, where each n is a constant (channels
that stay) plus counts times the widths of the groups that feed it. All layers at once: with w the kept widths,
cost = Σ_l coef_l · (A_in w + c_in)_l · (A_out w + c_out)_l · presence_l + constants.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from bench.structure.groups import Block, ChannelGroup, SideKind
from bench.structure.layers import Kernel, convolves, own_vectors, rule_of
from bench.structure.names import inside
from bench.structure.walk import Atoms


@dataclass(frozen=True)
class Term:
    """coef · n_in · n_out / divisor, inside block number `block` (-1: none)."""

    coef: int
    divisor: int
    in_const: int
    in_counts: dict[int, int]  # group number -> channels per unit of its width
    out_const: int
    out_counts: dict[int, int]
    block: int = -1


class Bilinear:
    """The sum of terms over `groups` widths, counted in bundles, and `blocks` presences.

    `constants[b]` is spent while block b is there; the last entry always.
    """

    def __init__(self, terms: Sequence[Term], groups: int, constants: Sequence[int]) -> None:
        n = len(terms)
        self.a_in, self.a_out = np.zeros((n, groups), np.int64), np.zeros((n, groups), np.int64)
        for i, term in enumerate(terms):
            for g, count in term.in_counts.items():
                self.a_in[i, g] = count
            for g, count in term.out_counts.items():
                self.a_out[i, g] = count
        self.c_in = np.array([t.in_const for t in terms], np.int64)
        self.c_out = np.array([t.out_const for t in terms], np.int64)
        self.coef = np.array([t.coef for t in terms], np.int64)
        self.divisor = np.array([t.divisor for t in terms], np.int64)
        self.block = np.array([t.block % len(constants) for t in terms], np.int64)
        self.constants = np.array(constants, np.int64)
        self._tensors: dict[torch.device, tuple[torch.Tensor, ...]] = {}

    def exact(self, units: np.ndarray, present: np.ndarray) -> int:
        """units: int64 [groups]; present: int64 [blocks] of 0 or 1."""
        here = np.append(present, 1)
        each = self.coef * (self.a_in @ units + self.c_in) * (self.a_out @ units + self.c_out) // self.divisor
        return int((each * here[self.block]).sum() + (self.constants * here).sum())

    def smooth(self, units: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """units: float64 [groups]; present: float64 [blocks]. Returns a float64 scalar, differentiable."""
        if units.device not in self._tensors:
            scale = self.coef / self.divisor
            arrays = (self.a_in, self.c_in, self.a_out, self.c_out, scale, self.constants)
            self._tensors[units.device] = (
                *(torch.tensor(a, dtype=torch.float64, device=units.device) for a in arrays),
                torch.tensor(self.block, device=units.device),
            )
        a_in, c_in, a_out, c_out, scale, constants, block = self._tensors[units.device]
        here = torch.cat([present, present.new_ones(1)])
        each = scale * (a_in @ units + c_in) * (a_out @ units + c_out)
        return (each * here[block]).sum() + constants @ here

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_tensors": {}}


@dataclass(frozen=True)
class _Channels:
    """Channels of one side of a layer: those that stay, and those of each group for each unit of its width."""

    constant: int
    counts: dict[int, int]


_ONE = _Channels(1, {})


def bilinear_costs(
    model: nn.Module, atoms: Atoms, groups: Sequence[ChannelGroup], blocks: Sequence[Block]
) -> tuple[Bilinear, Bilinear]:
    """(multiply-adds, parameters) of `model` for every choice of widths and blocks.

    What the terms do not explain of the traced network's figures (products outside of layers, parameters of unknown
    modules) is a constant, of the block in which it is spent.
    """
    builder = _Terms(model, atoms, groups, blocks)
    layers = (side.module for side in atoms.sides if side.kind in ("out", "in", "pass"))
    for name in dict.fromkeys((*atoms.order, *layers)):
        builder.add_layer(name)
    for side in atoms.sides:
        if side.kind == "tensor":
            builder.add_tensor(side.module, side.ids.size)
        elif side.kind == "work":
            builder.add_work(side.module, side.ids.size)
    block_macs = [atoms.record.inside.get(block.name, 0) for block in blocks]
    block_params = [sum(p.numel() for p in builder.modules[block.name].parameters()) for block in blocks]
    total_params = sum(p.numel() for p in model.parameters())
    return (
        Bilinear(builder.macs, len(groups), _unexplained(block_macs, atoms.record.total, builder.spent)),
        Bilinear(builder.params, len(groups), _unexplained(block_params, total_params, builder.owned)),
    )


def _unexplained(of_blocks: Sequence[int], total: int, explained: Mapping[int, int]) -> list[int]:
    """What terms leave unexplained: by block, and last outside of all blocks."""
    rest = [found - explained[i] for i, found in enumerate(of_blocks)]
    return [*rest, total - sum(rest) - sum(explained.values())]


class _Terms:
    """The terms of one network, layer by layer, and what they come to in the dense network."""

    def __init__(self, model: nn.Module, atoms: Atoms, groups: Sequence[ChannelGroup], blocks: Sequence[Block]) -> None:
        self.modules = dict(model.named_modules())
        self._parameters = dict(model.named_parameters())
        self.positions = atoms.positions
        self.blocks = blocks
        self.macs: list[Term] = []
        self.params: list[Term] = []
        self.spent, self.owned = Counter[int](), Counter[int]()
        """Multiply-adds and parameters that the terms explain, by block."""
        self._pass_sizes = {s.module: s.ids.size for s in atoms.sides if s.kind == "pass"}
        self._counts: dict[tuple[str, SideKind], dict[int, int]] = {}
        self._varying: Counter[tuple[str, SideKind]] = Counter()
        self._counted: set[int] = set()
        for number, group in enumerate(groups):
            for member in group.members:
                self._counts.setdefault((member.module, member.kind), {})[number] = member.rows.shape[1]
                self._varying[member.module, member.kind] += member.rows.size

    def add_layer(self, name: str) -> None:
        """Add the terms of one layer; parameters that an earlier layer shares are its own."""
        layer: nn.Module = self.modules[name]
        block = self._block_of(name)
        rule = rule_of(layer)
        kernel = rule.kernel(layer) if rule is not None else None
        if kernel is not None:
            self._add_kernel(name, layer, kernel, block)
        elif (name, "pass") in self._counts:
            channels = self._channels(name, "pass", self._pass_sizes[name])
            own = [p for p in layer.parameters(recurse=False) if id(p) not in self._counted]
            self.params.append(Term(len(own), 1, 1, {}, channels.constant, channels.counts, block))
            self.owned[block] += len(own) * self._pass_sizes[name]
        self._counted.update(id(p) for p in layer.parameters(recurse=False))

    def add_tensor(self, name: str, channels: int) -> None:
        """Add the entries of a parameter that no layer owns; buffers are no parameters."""
        parameter = self._parameters.get(name)
        if parameter is None or id(parameter) in self._counted:
            return
        own = self._channels(name, "tensor", channels)
        block = self._block_of(name)
        each = parameter.numel() // channels
        self.params.append(Term(each, 1, 1, {}, own.constant, own.counts, block))
        self.owned[block] += parameter.numel()
        self._counted.add(id(parameter))

    def add_work(self, name: str, channels: int) -> None:
        """Add the multiply-adds of an operation that is no layer's, so many a channel."""
        own, block = self._channels(name, "work", channels), self._block_of(name.partition(":")[0])
        self.macs.append(Term(self.positions[name], 1, 1, {}, own.constant, own.counts, block))
        self.spent[block] += self.positions[name] * channels

    def _add_kernel(self, name: str, layer: nn.Module, kernel: Kernel, block: int) -> None:
        runs_through = (name, "pass") in self._counts or kernel.depthwise
        out = self._channels(name, "pass" if runs_through else "out", kernel.n_out)
        read = _ONE if runs_through else self._channels(name, "in", kernel.n_in)
        divisor = 1 if runs_through else kernel.groups
        weights = kernel.size * (1 if runs_through else kernel.n_in) * kernel.n_out // divisor
        positions = self.positions.get(name, 0)

        def term(coef: int, read: _Channels, divisor: int) -> Term:
            return Term(coef, divisor, read.constant, read.counts, out.constant, out.counts, block)

        self.macs.append(term(kernel.size * positions, read, divisor))
        self.spent[block] += weights * positions
        if id(layer.weight) not in self._counted:
            self.params.append(term(kernel.size, read, divisor))
            self.owned[block] += weights
        further = own_vectors(layer) if convolves(layer) else []
        for vector in (layer._parameters.get(key) for key in ("bias", *further)):
            if vector is not None and id(vector) not in self._counted:
                self.params.append(term(1, _ONE, 1))
                self.owned[block] += kernel.n_out

    def _channels(self, name: str, kind: SideKind, n: int) -> _Channels:
        return _Channels(n - self._varying[name, kind], self._counts.get((name, kind), {}))

    def _block_of(self, name: str) -> int:
        """Number of the block that a layer lies in, -1 for none."""
        return next((i for i, b in enumerate(self.blocks) if inside(name, b.name)), -1)
