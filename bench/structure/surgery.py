"""Apply a Pruning: a new, physically smaller network, and its masked twin.

pruning = Pruning(keep={"layer1.0.conv1": keep_mask})      # bool [size]
smaller = prune(model, graph, pruning)                      # the original is untouched
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.structure.copies import duplicate
from bench.structure.groups import Block, ChannelGroup, GateSide, Pruning, SideKind, Structure
from bench.structure.layers import require_rule, select
from bench.structure.module_numbers import write
from bench.structure.shadow import gated
from bench.structure.shortcut import shortcut
from bench.structure.state import tensors_of
from bench.structure.ties import shared_tensors, tie_again


@dataclass(frozen=True)
class SideCut:
    """What is kept of one side of a layer."""

    size: int
    """Channels before the cut."""
    kept: list[int]
    """Ascending."""
    axis: int = 0
    """Of a tensor, the dimension that is cut."""


@dataclass(frozen=True)
class SurgeryPlan:
    """A pruning layer by layer: all that is needed to cut another copy of the dense network."""

    layers: dict[str, dict[SideKind, SideCut]]
    """By layer and side."""
    blocks: dict[str, str]
    """Activation that takes the place of each removed block."""


@dataclass(frozen=True)
class Surgery:
    """How a pruned network was made; every network that `prune` makes carries its own, and so do copies of it."""

    plan: SurgeryPlan
    pruning: dict[str, Any]
    """`Pruning.to_dict()`."""
    dense: dict[str, Any]
    """`network_facts` of the dense network."""

    def __deepcopy__(self, memo: object) -> Surgery:
        """Itself: copies of a network were made in the same way, and nothing of it is ever changed."""
        return self


def surgery_of(model: nn.Module) -> Surgery | None:
    """How `model` was pruned; None for a network that was not."""
    return getattr(model, "surgery", None) or getattr(model, "meta", {}).get("surgery")


def prune(model: nn.Module, graph: Structure, pruning: Pruning) -> nn.Module:
    """A new network without the channels and blocks that `pruning` drops; `model` is untouched.

    The new network's attribute `surgery` says how it was made, so that it can be saved.

    Raises:
        ValueError: an unknown group or block, a mask of the wrong size or type, a group without channels, a mask
            that splits a bundle, or gates in place.
    """
    if gated(model):
        raise ValueError("the network still has gates in place: bake() or remove() them first")
    return carry_out(model, plan_of(graph, pruning), pruning)


def carry_out(model: nn.Module, plan: SurgeryPlan, pruning: Pruning) -> nn.Module:
    """`prune` by a plan, which no graph is needed for."""
    small = cut(model, plan)
    _own(small, model)
    surgery = Surgery(plan, pruning.to_dict(), network_facts(model))
    object.__setattr__(small, "surgery", surgery)
    if isinstance(small, torch.fx.GraphModule):
        small.meta["surgery"] = surgery  # copies of a graph take along nothing else
    return small


def mask(model: nn.Module, graph: Structure, pruning: Pruning) -> nn.Module:
    """A copy of full size that computes what `prune` would: dropped channels and blocks are zeroed.

    Channels are zeroed where that is exact (`ChannelGroup.exact`): at their producers, or in their consumers' columns.
    """
    masked = duplicate(model)
    zero(masked, graph, pruning)
    return masked


@torch.no_grad()
def zero(model: nn.Module, graph: Structure, pruning: Pruning, side: GateSide | None = None) -> None:
    """`mask` in place: parameters are replaced and not written into.

    Args:
        side: where channels are zeroed; None: where that is exact.
    """
    modules = dict(model.named_modules())
    own: set[nn.Module] = set()

    def owned(name: str) -> nn.Module:
        layer = modules[name]
        if layer not in own:
            own.add(layer)
            _renew(layer)
        return layer

    for group, kept in _kept_bundles(graph.groups, pruning):
        where = group.side("producer") if side is None else side
        for member in group.at(where):
            rows = torch.as_tensor(member.rows[~kept].ravel())
            rule = require_rule(modules[member.module])
            if where == "producer":
                rule.zero(owned(member.module), rows)
            else:
                rule.zero_columns(modules[member.module], rows)
    for block in _dropped_blocks(graph, pruning):
        layer = owned(block.gate)
        require_rule(layer).zero(layer, None)


def _renew(layer: nn.Module) -> None:
    """Give a layer copies of its own parameters and buffers, to be written into."""
    for name, parameter in layer._parameters.items():
        if parameter is not None:
            layer._parameters[name] = nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
    for name, buffer in layer._buffers.items():
        if buffer is not None:
            layer._buffers[name] = buffer.clone()


def permute(model: nn.Module, graph: Structure, order: Mapping[str, torch.Tensor]) -> nn.Module:
    """A copy with each group's channels relabelled: new channel i is old channel order[i]. Same function.

    Args:
        order: by group name, a permutation of its channels, int64 [size], that moves bundles whole.

    Raises:
        ValueError: an unknown group, or not such a permutation.
    """
    moved = duplicate(model)
    sides: dict[str, dict[SideKind, SideCut]] = {}
    for name, given in order.items():
        group = graph.group(name)
        perm = given.detach().cpu().numpy()
        if sorted(perm.tolist()) != list(range(group.size)):
            raise ValueError(f"group {name}: the order is not a permutation of its {group.size} channels")
        bundles = perm.reshape(-1, group.bundle)
        if (bundles != bundles[:, :1] // group.bundle * group.bundle + np.arange(group.bundle)).any():
            raise ValueError(f"group {name}: the order splits its bundles of {group.bundle}")
        for member in group.members:
            if member.kind in ("count", "work"):
                continue
            own = sides.setdefault(member.module, {})
            side = own.setdefault(member.kind, SideCut(member.of, list(range(member.of)), member.axis))
            index = np.array(side.kept)
            index[member.rows] = member.rows[bundles[:, 0] // group.bundle]
            side.kept[:] = index.tolist()
    carve(moved, SurgeryPlan(sides, {}))
    return moved


def cut(model: nn.Module, plan: SurgeryPlan) -> nn.Module:
    """A copy of `model`, cut layer by layer; tensors that are not cut stay shared with `model`."""
    small = duplicate(model, {id(t): t for t in (*model.parameters(), *model.buffers())})
    carve(small, plan)
    return small


@torch.no_grad()
def carve(model: nn.Module, plan: SurgeryPlan) -> None:
    """`cut` in place: tensors are replaced and not written into."""
    modules = dict(model.named_modules())
    ties = shared_tensors(model)
    for name, sides in plan.layers.items():
        for kind, side in sides.items():
            kept = np.asarray(side.kept, np.int64)
            if kind == "tensor":
                owner, _, key = name.rpartition(".")
                select(modules[owner], key, side.axis, kept)
            elif kind == "count":
                write(model, name, len(kept))
            else:
                require_rule(modules[name]).take(modules[name], kind, kept)
    tie_again(ties)
    left = {modules[name]: activation for name, activation in plan.blocks.items()}
    for parent in modules.values() if left else ():
        for child, part in parent._modules.items():
            if part in left:
                parent._modules[child] = shortcut(part, left[part])


def network_facts(model: nn.Module) -> dict[str, Any]:
    """A network's class, size and shapes, as far as a reader and a loader must know them."""
    shapes = {name: list(t.shape) for name, t in tensors_of(model).items()}
    digest = hashlib.sha256(json.dumps(shapes, sort_keys=True).encode()).hexdigest()
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    return {"class": kind, "parameters": sum(p.numel() for p in model.parameters()), "shapes_sha256": digest}


def plan_of(graph: Structure, pruning: Pruning) -> SurgeryPlan:
    """What `pruning` means for each layer; see `prune` for what is refused."""
    dropped: dict[tuple[str, SideKind], list[np.ndarray]] = {}
    sizes: dict[tuple[str, SideKind], tuple[int, int]] = {}
    for group, kept in _kept_bundles(graph.groups, pruning):
        if kept.all():
            continue
        for member in group.members:
            if member.kind == "work":
                continue
            key = (member.module, member.kind)
            dropped.setdefault(key, []).append(member.rows[~kept].ravel())
            sizes[key] = (member.of, member.axis)
    layers: dict[str, dict[SideKind, SideCut]] = {}
    for (name, kind), rows in dropped.items():
        size, axis = sizes[name, kind]
        stay = np.ones(size, bool)
        stay[np.concatenate(rows)] = False
        layers.setdefault(name, {})[kind] = SideCut(size, np.flatnonzero(stay).tolist(), axis)
    return SurgeryPlan(layers, {b.name: b.activation for b in _dropped_blocks(graph, pruning)})


def _kept_bundles(groups: Iterable[ChannelGroup], pruning: Pruning) -> list[tuple[ChannelGroup, np.ndarray]]:
    """(group, bool [bundles]) for each named group, validated."""
    by_name = {group.name: group for group in groups}
    result = []
    for name, keep in pruning.keep.items():
        group = by_name.get(name)
        if group is None:
            raise ValueError(f"unknown group {name!r}; available: {', '.join(by_name)}")
        if keep.dtype != torch.bool or tuple(keep.shape) != (group.size,):
            raise ValueError(
                f"group {name}: keep must be a bool mask of shape [{group.size}], "
                f"not {keep.dtype} of shape {list(keep.shape)}"
            )
        bundles = keep.detach().cpu().numpy().reshape(-1, group.bundle)
        if (bundles != bundles[:, :1]).any():
            raise ValueError(f"group {name}: the mask splits a bundle of {group.bundle} channels")
        if not bundles.any():
            raise ValueError(f"group {name}: at least one of its {group.size} channels must stay")
        result.append((group, bundles[:, 0]))
    return result


def _dropped_blocks(graph: Structure, pruning: Pruning) -> list[Block]:
    return [graph.block(name) for name in pruning.drop_blocks]


def _own(small: nn.Module, model: nn.Module) -> None:
    """Give `small` copies of the tensors that it still shares with `model`; ties within it stay."""
    originals = {id(t) for t in (*model.parameters(), *model.buffers())}
    copies: dict[int, torch.Tensor] = {}
    for module in small.modules():
        for store in (module._parameters, module._buffers):
            for name, tensor in store.items():
                if tensor is not None and id(tensor) in originals:
                    if id(tensor) not in copies:
                        copied = tensor.detach().clone()
                        parameter = isinstance(tensor, nn.Parameter)
                        copies[id(tensor)] = nn.Parameter(copied, tensor.requires_grad) if parameter else copied
                    store[name] = copies[id(tensor)]  # pyright: ignore[reportArgumentType]
