"""Scores of coupled channels, put together from what each layer of a group says of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from bench.structure.layers import require_rule

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bench.structure.groups import Member, SideKind, Structure


def coupled_scores(graph: Structure, of: Callable[[Member], Tensor | None], *, mean: bool = False) -> dict[str, Tensor]:
    """Scores by group name, float [size], equal within a bundle.

    Args:
        of: what a group's member says of the channels on its side of the layer, [member.of]; None: nothing.
        mean: average over a bundle's rows and over the members, instead of adding up.

    Raises:
        ValueError: no member of a group says anything.
    """
    scores: dict[str, Tensor] = {}
    for group in graph.groups:
        parts: list[Tensor] = []
        for member in group.layers:
            values = of(member)
            if values is not None:
                rows = values.detach().cpu()[torch.as_tensor(member.rows)]
                parts.append(rows.mean(1) if mean else rows.sum(1))
        if not parts:
            raise ValueError(f"group {group.name}: none of its layers has a score")
        stacked = torch.stack(parts)
        scores[group.name] = (stacked.mean(0) if mean else stacked.sum(0)).repeat_interleave(group.bundle)
    return scores


def channel_sums(layer: nn.Module, values: Tensor, kind: SideKind) -> Tensor:
    """Σ over the entries of `values`, shaped like the layer's weight, that belong to each channel of one side: [n].

    A factor on a channel multiplies its entries: their sum is the slope of the whole sum with respect to the factor.
    So the layer's rule says what belongs together, whatever the layer.
    """
    rule = require_rule(layer)
    values = values.detach()
    factors = values.new_ones(rule.size(layer, kind), requires_grad=True)
    with torch.enable_grad():
        total = rule.scaled(layer, values, factors, columns=kind == "in").sum()
    return torch.autograd.grad(total, factors)[0]


def is_norm(layer: nn.Module) -> bool:
    """Whether channels run through the layer with a scale each and nothing else: a norm, no depthwise convolution."""
    rule = require_rule(layer)
    return not rule.makes_channels and rule.takes_factor and getattr(layer, "weight", None) is not None
