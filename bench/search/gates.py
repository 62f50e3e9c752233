"""Cheap gates: factors on channels and blocks that cost O(weights), not O(activations).

A factor at a producer's output is folded into the affine of the norm behind it (γ·m, β·m), or with no norm into
the layer's weight rows and bias; a factor at a consumer's input into its weight columns. The shape of the
network, its parameters and their names stay as they are::

    with Gates(model, graph) as gates:
        gates.set({"layer1.0.conv1": torch.sigmoid(alpha)})     # [size], gradients flow to alpha
        loss = criterion(model(x), y)

    gates.bake()       # or: write the factors into the weights, for good

While gated, a layer's `weight` and `bias` are replaced for the duration of its forward pass only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
import torch.nn as nn

from bench.errors import RequestError
from bench.structure.compiled import is_compiled
from bench.structure.layers import require_rule
from bench.structure.shadow import hide, unhide

if TYPE_CHECKING:
    from bench.structure.groups import ChannelGroup, GateSide, Member, Structure


class Gates:
    """Factors on the groups and blocks of one network, in place from construction until `remove` or `bake`.

    A deep copy of the network made while they are in place is gated by the same factors; `prune` refuses one.

    Groups and blocks without a factor are as they were. On the producer side a factor acts on what the group's
    consumers read, at the last affine layer before them; there a zero makes the channel exactly zero (the
    norm's shift included), so that removing it changes nothing. On the consumer side it acts on the columns of
    the layers that read the group: convolutions and linear layers, not depthwise convolutions, which the
    channels run through. A group that is exact on one side alone (`ChannelGroup.exact`) is gated there, whatever
    `side` says: behind a sigmoid a channel that is zeroed at its producer is not zero where it is read.

    Raises:
        ValueError: an unknown side.
        RequestError: a network that is compiled, whose gates would be ignored.
    """

    def __init__(self, model: nn.Module, graph: Structure, side: GateSide = "producer") -> None:
        if is_compiled(model):
            raise RequestError(
                "a compiled network runs without its gates: put them on the network that torch.compile was given"
            )
        if side not in ("producer", "consumer"):
            raise ValueError(f"unknown side {side!r}; available: consumer, producer")
        self.graph = graph
        self.side: GateSide = side
        self._modules = dict(model.named_modules())
        self._factors: dict[str, torch.Tensor] = {}  # by group, one value a bundle
        self._presence: dict[str, torch.Tensor] = {}
        self._parts: dict[str, dict[GateSide, list[tuple[ChannelGroup, Member]]]] = {}
        for group in graph.groups:
            where = group.side(side)
            for member in group.at(where):
                self._parts.setdefault(member.module, {}).setdefault(where, []).append((group, member))
        self._blocks: dict[str, list[str]] = {}
        for block in graph.blocks:
            self._blocks.setdefault(block.gate, []).append(block.name)
        self._rows: dict[tuple[str, GateSide, torch.device], torch.Tensor | None] = {}
        self._handles: list[Any] = []
        for name in dict.fromkeys((*self._parts, *self._blocks)):
            module = self._modules[name]
            self._handles.append(module.register_forward_pre_hook(self._enter(name)))
            self._handles.append(module.register_forward_hook(unhide, always_call=True))

    def set(
        self, factors: Mapping[str, torch.Tensor] | None = None, blocks: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        """The factors of the next forward passes, in place of all earlier ones.

        Args:
            factors: by group name, float [size]; within a bundle the mean counts.
            blocks: by block name, a scalar on the block's branch: 0 makes the block its identity path.

        Raises:
            ValueError: an unknown group or block, or another shape.
        """
        self._factors, self._presence = {}, {}
        for name, factor in (factors or {}).items():
            group = self.graph.group(name)
            if tuple(factor.shape) != (group.size,):
                raise ValueError(f"group {name}: factors must have shape [{group.size}], not {list(factor.shape)}")
            bundled = factor if group.bundle == 1 else factor.view(-1, group.bundle).mean(1)
            self._factors[name] = bundled
        known = [block.name for block in self.graph.blocks]
        for name, presence in (blocks or {}).items():
            if name not in known:
                raise ValueError(f"unknown block {name!r}; available: {', '.join(known) or 'none'}")
            self._presence[name] = presence

    def bake(self) -> None:
        """Write the present factors into the weights and take the gates out: the network computes the same."""
        with torch.no_grad():
            for name in dict.fromkeys((*self._parts, *self._blocks)):
                module = self._modules[name]
                for key, gated in self._gated(name, module).items():
                    getattr(module, key).copy_(gated)
        self.remove()

    def remove(self) -> None:
        """Take the gates out; the network is as it was before them."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __enter__(self) -> Gates:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _enter(self, name: str) -> Callable[[nn.Module, Any], None]:
        def shadow(module: nn.Module, args: Any) -> None:
            hide(module, self._gated(name, module))

        return shadow

    def _gated(self, name: str, module: nn.Module) -> dict[str, torch.Tensor]:
        weight: torch.Tensor = module._parameters["weight"]  # pyright: ignore[reportAssignmentType]
        bias = module._parameters.get("bias")
        changed = False
        for side in self._parts.get(name, ()):
            vector = self._vector(name, side, weight)
            if vector is not None:
                changed = True
                weight = require_rule(module).scaled(module, weight, vector, columns=side == "consumer")
                bias = bias * vector if bias is not None and side == "producer" else bias
        for block in self._blocks.get(name, ()):
            if block in self._presence:
                changed = True
                weight = weight * self._presence[block]
                bias = bias * self._presence[block] if bias is not None else None
        if not changed:
            return {}
        return {"weight": weight} if bias is None else {"weight": weight, "bias": bias}

    def _vector(self, name: str, side: GateSide, like: torch.Tensor) -> torch.Tensor | None:
        """One factor per channel of a gated side of a layer: [n]."""
        parts = [(g, m) for g, m in self._parts[name][side] if g.name in self._factors]
        if not parts:
            return None
        whole = len(parts) == 1 and parts[0][1].rows.size == parts[0][1].of
        values = [self._factors[group.name] for group, _ in parts]
        key = ("+".join((name, *(group.name for group, _ in parts))), side, like.device)
        if key not in self._rows:
            index = torch.full((parts[0][1].of,), sum(g.n_bundles for g, _ in parts))
            offset = 0
            for group, member in parts:
                for bundle in range(group.n_bundles):
                    index[torch.as_tensor(member.rows[bundle])] = offset + bundle
                offset += group.n_bundles
            plain = whole and torch.equal(index, torch.arange(len(index)))
            self._rows[key] = None if plain else index.to(like.device)
        index = self._rows[key]
        if index is None:
            return values[0]
        joined = values[0] if whole else torch.cat([*values, values[0].new_ones(1)])
        return joined.index_select(0, index)
