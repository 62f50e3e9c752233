"""What can be pruned in a network: groups of coupled channels, removable blocks, and exact costs.

    graph = PruningGraph.trace(model, torch.randn(1, 3, 32, 32))
    graph.groups             # channels that must go together
    graph.macs({"layer1.0.conv1": 8})   # of the network that `prune` would make, to the last operation

Tracing also checks itself: with random channels removed, the pruned network must compute what the network with
those channels zeroed computes. Groups that fail are left whole and named in `graph.skipped`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.structure.blocks import find_blocks
from bench.structure.cost import Bilinear, bilinear_costs
from bench.structure.counted import require_counted, require_in_sight
from bench.structure.coupling import Coupled, couple
from bench.structure.groups import Block, ChannelGroup, Member, Structure
from bench.structure.layers import require_rule
from bench.structure.protection import protected_layers
from bench.structure.recorder import record, record_training
from bench.structure.tensors import WITHOUT_FLOAT64, precise
from bench.structure.usable import usable
from bench.structure.verify import Probe
from bench.structure.walk import Atoms, label

Width = Any  # int, float or 0-dim tensor
Widths = Mapping[Any, Width]  # by group or by group name


@dataclass(frozen=True, eq=False)
class PruningGraph(Structure):
    """The prunable structure of one network, at one input size."""

    skipped: tuple[tuple[str, str], ...]
    """What is left whole: (layer or group, reason). Layers that share its channels are not repeated."""
    whole: Mapping[str, str]
    """Every layer with output channels that cannot be removed, and why."""
    model_class: str
    input_shape: tuple[int, ...]
    _macs: Bilinear = field(repr=False)
    _params: Bilinear = field(repr=False)

    @classmethod
    def trace(
        cls, model: nn.Module, example: torch.Tensor, protect: Iterable[str] = (), *, verify: bool = True
    ) -> PruningGraph:
        """Find the groups and blocks of `model`; the model is not changed.

        Args:
            model: any network whose forward takes one tensor. It is run in eval mode where it is.
            example: one input batch, e.g. [1, 3, 32, 32]; MACs are those of this batch.
            protect: names or patterns (`decoder.*`) of modules; the output channels of the layers that they are, or
                hold, stay.
            verify: hold random prunings to masked networks and to the counter. False, in half the time, is for a
                network that has passed before, unchanged.

        Raises:
            RequestError: `protect` names no layer of the network, or its multiply-adds cannot be counted: the cost
                model must agree with the counter on `model` itself, whole and with random channels removed.
        """
        layers = protected_layers(model, protect)
        example = usable(model, example)
        probe = Probe(model, example)
        run = record(model, example)
        require_in_sight(model, run.uncounted)
        trained = record_training(model, example, run)

        def coupled_without(numbers: Iterable[str]) -> tuple[Atoms, Coupled]:
            atoms = label(run, model, layers, numbers, trained)
            return atoms, couple(atoms)

        atoms, coupled = coupled_without(())
        blocks, shared = find_blocks(probe.model, run, probe.generator)
        groups, failures = coupled.groups, dict[str, str]()
        if verify:
            groups, standing, failures = probe.verified(coupled.groups, blocks)
            blamed = {m.module for g in coupled.groups if g.name in failures for m in g.members if m.kind == "count"}
            if blamed:  # the numbers that were changed there are not what the code goes by
                atoms, coupled = coupled_without(blamed)
                groups, standing, failures = probe.verified(coupled.groups, blocks)
            blocks = standing
        whole = coupled.whole
        for group in coupled.groups:
            if group.name in failures:
                whole |= {m.module: failures[group.name] for m in group.members if m.kind in ("out", "pass")}
        skipped = [*coupled.skipped, *failures.items(), *shared, *atoms.unreached.items()]
        whole |= atoms.unreached
        macs, params = bilinear_costs(model, atoms, groups, blocks)
        kind = f"{type(model).__module__}.{type(model).__qualname__}"
        graph = cls(groups, blocks, tuple(skipped), whole, kind, tuple(example.shape), macs, params)
        if verify:
            require_counted(model, example, atoms, graph, graph.macs)
        return graph

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

    def macs_at(self, units: torch.Tensor, present: torch.Tensor | None = None) -> torch.Tensor:
        """What `macs` gives, for searches that ask at every step: all widths as one vector, and all presences.

        Args:
            units: kept bundles by group, float [groups], in the order of `groups`.
            present: by block, float [blocks], in the order of `blocks`; None: all are there.

        Returns:
            A float64 scalar tensor with gradients.
        """
        units = precise(units)
        there = units.new_ones(len(self.blocks)) if present is None else precise(present).to(units.device)
        return self._macs.smooth(units, there)

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
            for member in (*group.producers, *group.passes):
                layer: Any = modules[member.module]
                rule = require_rule(layer)
                if not rule.makes_channels:
                    continue
                norms = rule.rows(layer).detach().abs().pow(p).flatten(1).sum(1)
                rows = torch.as_tensor(member.rows, device=norms.device)
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
            values[self.group_numbers[name]] = width
        presence: list[Any] = [1] * len(self.blocks)
        for name, present in (blocks or {}).items():
            self.block(name)
            presence[self.block_numbers[name]] = present
        bundles = np.array([group.bundle for group in self.groups], np.int64)
        tensors = [v for v in (*values, *presence) if isinstance(v, torch.Tensor)]
        if any(t.is_floating_point() for t in tensors):
            elsewhere = (t.device for t in tensors if t.device.type not in ("cpu", *WITHOUT_FLOAT64))
            device = next(elsewhere, torch.device("cpu"))
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


__all__ = ["Block", "ChannelGroup", "Member", "PruningGraph"]
