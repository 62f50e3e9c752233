"""Parameters that several modules share: their layers are cut alike, or not at all, and share them still."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from bench.structure.labels import Labels
from bench.structure.layers import rule_of

Owner = tuple[nn.Module, str]
"""A module, and its name for the parameter or buffer."""
Tie = tuple[torch.Tensor, list[Owner]]
"""A parameter or buffer that is registered more than once, and where."""


def shared_tensors(model: nn.Module) -> list[Tie]:
    """Every parameter or buffer that is registered more than once, with all its owners."""
    ties: dict[int, Tie] = {}
    for module in model.modules():
        for store in (module._parameters, module._buffers):
            for key, tensor in store.items():
                if tensor is not None:
                    ties.setdefault(id(tensor), (tensor, []))[1].append((module, key))
    return [tie for tie in ties.values() if len(tie[1]) > 1]


def keep_ties(model: nn.Module, labels: Labels, outside: Iterable[str]) -> None:
    """Link the channels of layers that share parameters; freeze them where the layers are not alike.

    Args:
        outside: layers whose parameters are also used outside of them.
    """
    names = {module: name for name, module in model.named_modules()}
    for _, owners in shared_tensors(model):
        layers = list(dict.fromkeys(module for module, _ in owners))
        if len(layers) > 1 and any(rule_of(layer) is not None for layer in layers):
            _tie([names[layer] for layer in layers], len({key for _, key in owners}) == 1, labels)
    for name in outside:
        _freeze([name], f"the weights of {name} are used outside of it, too", labels)


def _tie(names: Sequence[str], same_role: bool, labels: Labels) -> None:
    """Link the sides of layers that share a parameter under one name, if they have the same ones."""
    kinds = [{kind: side for (name, kind), side in labels.sides.items() if name == owner} for owner in names]
    shapes = [{kind: side.ids.shape for kind, side in sides.items()} for sides in kinds]
    if not same_role or any(shape != shapes[0] for shape in shapes):
        _freeze(names, f"{' and '.join(names)} share parameters but not their part in the network", labels)
        return
    for kind, first in kinds[0].items():
        for other in kinds[1:]:
            labels.link(first.ids, other[kind].ids)


def _freeze(names: Sequence[str], reason: str, labels: Labels) -> None:
    for (name, _), side in labels.sides.items():
        if name in names:
            labels.freeze(side.ids, reason)


def tie_again(ties: Iterable[Tie]) -> None:
    """Let the owners of each tie share one tensor again, after they were cut alike."""
    for before, owners in ties:
        new = [tensor for module, key in owners if (tensor := getattr(module, key)) is not before]
        if not new:
            continue
        assert all(tensor.shape == new[0].shape for tensor in new), "tied layers were not cut alike"
        for module, key in owners:
            setattr(module, key, new[0])
