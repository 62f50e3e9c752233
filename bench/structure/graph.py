"""What can be pruned in a network: groups of coupled channels, removable blocks, and exact costs.

    graph = PruningGraph.trace(model, torch.randn(1, 3, 32, 32))
    graph.groups             # channels that must go together
    graph.macs({"layer1.0.conv1": 8})   # of the network that `prune` would make, to the last operation

Tracing also checks itself: with random channels removed, the pruned network must compute what the network with
those channels zeroed computes. Groups that fail are left whole and named in `graph.skipped`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn as nn

from bench.structure.blocks import Block, find_blocks
from bench.structure.cost import Bilinear, Term
from bench.structure.verify import Probe
from bench.structure.walk import CONVS, TRANSPOSED, Atoms, Side, trace_atoms


@dataclass(frozen=True, eq=False)
class Member:
    """A group's part of one side of a layer.

    `rows[a]` are the indices, on that side of `module`, that go when bundle `a` of the group goes: rows of the
    weight for kind "out" (a convolution or linear layer that makes the channels) and "pass" (a norm or a
    depthwise convolution they run through), columns for kind "in" (a layer that reads them).
    """

    module: str
    kind: str
    rows: np.ndarray  # int64 [bundles, rows per bundle]
    of: int  # channels on that side, this group's and others

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
    members: tuple[Member, ...]
    gates: tuple[Member, ...]
    """The producers and passes right before the consumers: a factor there scales what every consumer reads."""

    @property
    def bundles(self) -> int:
        return self.size // self.bundle

    @property
    def producers(self) -> tuple[Member, ...]:
        """Convolutions and linear layers whose weight rows make the channels."""
        return tuple(m for m in self.members if m.kind == "out")

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


Width = Any  # int, float or 0-dim tensor
Widths = Mapping[Any, Width]  # by group or by group name


@dataclass(frozen=True, eq=False)
class PruningGraph:
    """The prunable structure of one network, at one input size."""

    groups: tuple[ChannelGroup, ...]
    blocks: tuple[Block, ...]
    skipped: tuple[tuple[str, str], ...]
    """What is left whole: (layer or group, reason). Layers that share its channels are not repeated."""
    whole: Mapping[str, str]
    """Every layer with output channels that cannot be removed, and why."""
    model_class: str
    input_shape: tuple[int, ...]
    _macs: Bilinear = field(repr=False)
    _params: Bilinear = field(repr=False)
    _index: dict[str, int] = field(repr=False)

    @classmethod
    def trace(cls, model: nn.Module, example: torch.Tensor, protect: Iterable[str] = ()) -> PruningGraph:
        """Find the groups and blocks of `model`; the model is not changed.

        Args:
            model: any network whose forward takes one tensor. Traced in eval mode, on the CPU, on a copy.
            example: one input batch, e.g. [1, 3, 32, 32]; MACs are those of this batch.
            protect: names of layers whose output channels stay.

        Raises:
            ValueError: `protect` names a module that the network does not have, or nothing requires a trace.
        """
        protect = tuple(protect)
        known = dict(model.named_modules())
        for name in protect:
            if name not in known:
                raise ValueError(f"cannot protect {name!r}: the network has no module of that name")
        example = example.detach().to("cpu")
        probe = Probe(model, example)
        with torch.enable_grad():
            atoms = trace_atoms(probe.model, example, protect)
        groups, skipped, whole = _groups(atoms)
        failures = probe.failing(groups)
        for group in groups:
            if group.name in failures:
                whole |= {m.module: failures[group.name] for m in group.members if m.kind != "in"}
        groups = tuple(group for group in groups if group.name not in failures)
        blocks, block_failures = find_blocks(probe)
        skipped += [*failures.items(), *block_failures]
        skipped += [(name, "not called when the network runs in eval mode") for name in atoms.unreached]
        whole |= dict.fromkeys(atoms.unreached, "not called when the network runs in eval mode")
        macs, params = _costs(probe.model, atoms, groups, blocks)
        index = {group.name: i for i, group in enumerate(groups)}
        kind = f"{type(model).__module__}.{type(model).__qualname__}"
        return cls(groups, blocks, tuple(skipped), whole, kind, tuple(example.shape), macs, params, index)

    def group(self, name: str) -> ChannelGroup:
        """The group of that name.

        Raises:
            ValueError: there is none; the message lists them.
        """
        if name not in self._index:
            raise ValueError(f"unknown group {name!r}; available: {', '.join(self._index)}")
        return self.groups[self._index[name]]

    def macs(self, widths: Widths | None = None, blocks: Mapping[str, Any] | None = None) -> Any:
        """Multiply-adds of the pruned network on the traced example.

        Args:
            widths: kept channels by group; groups that are not named are whole.
            blocks: presence in [0, 1] by block name; 1 for those that are not named.

        Returns:
            An int if all widths and presences are whole numbers, and then exactly what `count_macs` counts; a
            float if some are floats; a float64 scalar tensor with gradients if some are tensors.

        Raises:
            ValueError: an unknown group or block, or an int width that is no multiple of the group's bundle.
        """
        return self._evaluate(self._macs, widths, blocks)

    def params(self, widths: Widths | None = None, blocks: Mapping[str, Any] | None = None) -> Any:
        """Number of parameters of the pruned network; see `macs`."""
        return self._evaluate(self._params, widths, blocks)

    def minimum_macs(self) -> int:
        """MACs with every group at one bundle and all blocks in place."""
        return self.macs({group.name: group.bundle for group in self.groups})

    def channel_scores(self, model: nn.Module, p: float = 1) -> dict[str, torch.Tensor]:
        """Σ|w|^p of each group channel over all rows that make it (Li et al. 2017, summed over the group).

        Returns:
            By group name, float [size]; equal within a bundle, whose rows are summed.
        """
        modules = dict(model.named_modules())
        scores: dict[str, torch.Tensor] = {}
        for group in self.groups:
            total: torch.Tensor | None = None
            for member in group.members:
                layer = modules[member.module]
                if member.kind == "in" or not isinstance(layer, (*CONVS, nn.Linear)):
                    continue
                weight = layer.weight.detach()
                norms = weight_rows(layer, weight).abs().pow(p).flatten(1).sum(1)
                rows = torch.as_tensor(member.rows, device=weight.device)
                part = norms[rows].sum(1)
                total = part if total is None else total + part
            assert total is not None  # every group has a producer
            scores[group.name] = total.repeat_interleave(group.bundle)
        return scores

    def _evaluate(self, cost: Bilinear, widths: Widths | None, blocks: Mapping[str, Any] | None) -> Any:
        values: list[Width] = [group.size for group in self.groups]
        for key, width in (widths or {}).items():
            name = key.name if isinstance(key, ChannelGroup) else key
            self.group(name)
            values[self._index[name]] = width
        presence: list[Any] = [1] * len(self.blocks)
        names = [block.name for block in self.blocks]
        for name, present in (blocks or {}).items():
            if name not in names:
                raise ValueError(f"unknown block {name!r}; available: {', '.join(names) or 'none'}")
            presence[names.index(name)] = present
        bundles = np.array([group.bundle for group in self.groups], np.int64)
        tensors = [v for v in (*values, *presence) if isinstance(v, torch.Tensor)]
        if any(t.is_floating_point() for t in tensors):
            device = next((t.device for t in tensors if t.device.type != "cpu"), torch.device("cpu"))
            units = _vector(values, device) / torch.as_tensor(bundles, device=device)
            return cost.smooth(units, _vector(presence, device))
        numbers = [v.item() if isinstance(v, torch.Tensor) else v for v in values]
        present = [float(v) for v in presence]
        whole = all(isinstance(v, (int, np.integer)) for v in numbers) and all(b in (0, 1) for b in present)
        if not whole:
            units = torch.tensor([float(v) for v in numbers], dtype=torch.float64) / torch.as_tensor(bundles)
            return cost.smooth(units, torch.tensor(present, dtype=torch.float64)).item()
        for group, width in zip(self.groups, numbers, strict=True):
            if width % group.bundle or not 0 <= width <= group.size:
                raise ValueError(
                    f"group {group.name}: width {width} is not a multiple of {group.bundle} up to {group.size}"
                )
        return cost.exact(np.array(numbers, np.int64) // bundles, np.array(present, np.int64))


def weight_rows(layer: nn.Module, weight: torch.Tensor) -> torch.Tensor:
    """`weight` with one row per output channel in front: [n_out, …]."""
    if isinstance(layer, TRANSPOSED):
        n_in, per_group = weight.shape[:2]
        groups = layer.groups
        rows = weight.reshape(groups, n_in // groups, per_group, -1).transpose(1, 2)
        return rows.reshape(groups * per_group, -1)
    return weight


def _vector(values: list[Any], device: torch.device) -> torch.Tensor:
    """One float64 vector of numbers and scalar tensors, in few operations."""
    tensors = {i: v for i, v in enumerate(values) if isinstance(v, torch.Tensor)}
    numbers = [0.0 if i in tensors else float(v) for i, v in enumerate(values)]
    vector = torch.tensor(numbers, dtype=torch.float64, device=device)
    if not tensors:
        return vector
    stacked = torch.stack([v.reshape(()).to(device) for v in tensors.values()]).to(torch.float64)
    if len(tensors) == len(values):
        return stacked
    return vector.index_copy(0, torch.tensor(list(tensors), device=device), stacked)


def _groups(atoms: Atoms) -> tuple[tuple[ChannelGroup, ...], list[tuple[str, str]], dict[str, str]]:
    """Atoms with the same members in the same numbers make one group; frozen ones are named."""
    position = {name: i for i, name in enumerate(atoms.order)}
    sides = sorted(atoms.sides, key=lambda s: (s.kind != "out", position[s.module]))
    places: dict[int, dict[int, list[int]]] = {}  # atom -> side number -> rows
    for number, side in enumerate(sides):
        for row, atom in enumerate(atoms.of_label[side.ids].tolist()):
            places.setdefault(atom, {}).setdefault(number, []).append(row)
    classes: dict[tuple[tuple[int, int], ...], list[int]] = {}
    skipped: dict[tuple[str, str], None] = {}
    whole: dict[str, str] = {}
    for atom, rows in places.items():
        first = min(rows)
        if atom in atoms.frozen:
            whole |= {sides[n].module: atoms.frozen[atom] for n in rows if sides[n].kind != "in"}
        if sides[first].kind != "out":
            continue
        if atom in atoms.frozen:
            skipped[sides[first].module, atoms.frozen[atom]] = None
            continue
        signature = tuple(sorted((number, len(r)) for number, r in rows.items()))
        classes.setdefault(signature, []).append(atom)
    shared = Counter(signature[0][0] for signature in classes)
    groups: list[ChannelGroup] = []
    for signature, members in classes.items():
        first, bundle = signature[0]
        members.sort(key=lambda atom: places[atom][first][0])
        name = sides[first].module
        if shared[first] > 1:
            name += f"[{places[members[0]][first][0]}]"
        if len(members) < 2:
            reason = f"its {bundle} channels can only go together" if bundle > 1 else "it has one channel"
            skipped[name, reason] = None
            whole |= {sides[n].module: reason for n, _ in signature if sides[n].kind != "in"}
            continue
        parts = tuple(
            Member(sides[n].module, sides[n].kind, np.array([places[a][n] for a in members]), len(sides[n].ids))
            for n, _ in signature
        )
        last = set[str]().union(*(atoms.tails[m.module] for m in parts if m.kind == "in"))
        gates = tuple(m for m in parts if m.kind != "in" and m.module in last)
        groups.append(ChannelGroup(name, len(members) * bundle, bundle, parts, gates))
    order = {side.module: i for i, side in reversed(list(enumerate(sides)))}
    groups.sort(key=lambda g: (order[g.members[0].module], int(g.members[0].rows[0, 0])))
    return tuple(groups), list(skipped), whole


def _costs(
    model: nn.Module, atoms: Atoms, groups: tuple[ChannelGroup, ...], blocks: tuple[Block, ...]
) -> tuple[Bilinear, Bilinear]:
    modules = dict(model.named_modules())
    counts: dict[tuple[str, str], dict[int, int]] = {}
    varying: Counter[tuple[str, str]] = Counter()
    for number, group in enumerate(groups):
        for member in group.members:
            counts.setdefault((member.module, member.kind), {})[number] = member.rows.shape[1]
            varying[member.module, member.kind] += member.rows.size
    positions: Counter[str] = Counter()
    for call in atoms.calls:
        positions[call.module] += call.positions

    def inside(name: str) -> int:
        return next((i for i, b in enumerate(blocks) if name == b.name or name.startswith(b.name + ".")), -1)

    macs: list[Term] = []
    params: list[Term] = []
    spent = Counter[int]()  # MACs and parameters that the terms explain in the dense network, by block
    owned = Counter[int]()
    seen: set[int] = set()
    for name in dict.fromkeys((*atoms.order, *(s.module for s in atoms.sides))):
        layer, block = modules[name], inside(name)
        if isinstance(layer, (*CONVS, nn.Linear)):
            kernel, groups_of, n_in, n_out = _shape(layer)
            each = (name, "pass") in counts or (groups_of > 1 and groups_of == n_in)
            out_key = (name, "pass") if each else (name, "out")
            out = (n_out - varying[out_key], counts.get(out_key, {}))
            read = (1, {}) if each else (n_in - varying[name, "in"], counts.get((name, "in"), {}))
            divisor = 1 if each else groups_of
            cost = kernel * (1 if each else n_in) * n_out // divisor
            macs.append(Term(kernel * positions[name], divisor, *read, *out, block))
            spent[block] += cost * positions[name]
            if id(layer.weight) not in seen:
                params.append(Term(kernel, divisor, *read, *out, block))
                owned[block] += cost
            if layer.bias is not None and id(layer.bias) not in seen:
                params.append(Term(1, 1, 1, {}, *out, block))
                owned[block] += n_out
        elif (name, "pass") in counts:
            n = next(s for s in atoms.sides if s.module == name and s.kind == "pass").ids.size
            own = [p for p in layer.parameters(recurse=False) if id(p) not in seen]
            params.append(Term(len(own), 1, 1, {}, n - varying[name, "pass"], counts[name, "pass"], block))
            owned[block] += len(own) * n
        seen.update(id(p) for p in layer.parameters(recurse=False))
    total = atoms.macs.get("", 0)
    total_params = sum(p.numel() for p in model.parameters())
    extra = [atoms.macs.get(b.name, 0) - spent[i] for i, b in enumerate(blocks)]
    extra_params = [sum(p.numel() for p in modules[b.name].parameters()) - owned[i] for i, b in enumerate(blocks)]
    extra.append(total - sum(extra) - sum(spent.values()))
    extra_params.append(total_params - sum(extra_params) - sum(owned.values()))
    return Bilinear(macs, len(groups), extra), Bilinear(params, len(groups), extra_params)


def _shape(layer: nn.Module) -> tuple[int, int, int, int]:
    """(kernel size, groups, input channels, output channels)."""
    if isinstance(layer, nn.Linear):
        return 1, 1, layer.in_features, layer.out_features
    assert isinstance(layer, CONVS)
    return int(np.prod(layer.kernel_size)), layer.groups, layer.in_channels, layer.out_channels


__all__ = ["Block", "ChannelGroup", "Member", "PruningGraph", "Side"]
