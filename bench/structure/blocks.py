"""Residual blocks that can be removed whole, found by trying.

A block is removable if zeroing one affine layer near its end (its *gate*) makes it an activation of its input,
bit for bit: the block is then replaced by that activation, and nothing else in the network changes. Candidates
are modules that are called once with one tensor, keep its 4-D shape and hold a convolution, outermost first.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from bench.structure.copies import FAILURES, borrowed
from bench.structure.groups import Block
from bench.structure.layers import convolves, rule_of
from bench.structure.names import inside
from bench.structure.recorder import Call, Record
from bench.structure.shortcut import ACTIVATIONS
from bench.structure.ties import shared_tensors

LAST = 4  # affine layers tried per block, from the end
SHARES = "shares layers or weights with the rest of the network"


def find_blocks(
    model: nn.Module, record: Record, generator: torch.Generator
) -> tuple[tuple[Block, ...], list[tuple[str, str]]]:
    """The removable blocks in the order of their calls, and those that would be but for what they share.

    Args:
        model: a network whose numbers hide nothing (`bench.structure.verify.Probe`), on the CPU.
        record: how its modules were called.
    """
    blocks: list[Block] = []
    shared: list[tuple[str, str]] = []
    parts = _Shared(model)
    order = {name: i for i, name in enumerate(record.entered)}
    for name, call in _candidates(model, record).items():
        if any(inside(name, b.name) for b in blocks):
            continue
        block = _removable(model, name, call, order, generator)
        if block is None:
            continue
        if parts.reach_out_of(name):
            shared.append((name, SHARES))
        else:
            blocks.append(block)
    return tuple(blocks), shared


def _candidates(model: nn.Module, record: Record) -> dict[str, Call]:
    """Modules that are worth a try, in the order of their calls, outermost first."""
    modules = dict(model.named_modules())
    found: dict[str, Call] = {}
    for name in record.entered:
        module, calls = modules[name], record.calls[name]
        if not name or convolves(module) or isinstance(module, nn.Sequential):
            continue  # a Sequential adds nothing: at most it wraps the block
        call = calls[0] if len(calls) == 1 else None
        if call is not None and len(call.shape) == 4 and any(convolves(part) for part in module.modules()):
            found[name] = call
    return found


class _Shared:
    """What modules of a network have in common with others."""

    def __init__(self, model: nn.Module) -> None:
        self._places: dict[nn.Module, list[str]] = {}
        for name, module in model.named_modules(remove_duplicate=False):
            self._places.setdefault(module, []).append(name)
        self._ties = [[self._places[module][0] for module, _ in owners] for _, owners in shared_tensors(model)]

    def reach_out_of(self, block: str) -> bool:
        """Whether a module or parameter inside a block is also somewhere else."""
        several = [names for names in (*self._places.values(), *self._ties) if len(names) > 1]
        within = [[inside(name, block) for name in names] for names in several]
        return any(any(flags) and not all(flags) for flags in within)


def _removable(
    model: nn.Module, name: str, call: Call, order: Mapping[str, int], generator: torch.Generator
) -> Block | None:
    """The block that a module is, if one of the last layers that run in it makes it one."""
    module = model.get_submodule(name)
    for side in (4, 8):
        try:
            return _tried(module, name, call, order, side, generator)
        except FAILURES:
            continue  # the block insists on its input size
    return None


def _tried(
    module: nn.Module, name: str, call: Call, order: Mapping[str, int], side: int, generator: torch.Generator
) -> Block | None:
    """The same, at an input of at most `side` pixels a side."""
    _, channels, height, width = call.shape
    height, width = min(height, side), min(width, side)
    batch = max(1, 256 // (channels * height * width))
    # Enough noise of both signs, beyond 6, to tell all the activations and zero apart.
    noise = torch.randn(batch, channels, height, width, generator=generator) * 4
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), noise.dtype)
    noise = noise.to(dtype)
    targets = {key: function(noise) for key, function in ACTIVATIONS.items()}
    paths = {m: f"{name}.{path}" for path, m in module.named_modules()}
    ran = [m for m in module.modules() if (rule := rule_of(m)) is not None and rule.ends_block and paths[m] in order]
    ran.sort(key=lambda layer: -order[paths[layer]])
    with borrowed(module), torch.no_grad():
        for layer in ran[:LAST]:
            activation = _without(module, layer, noise, call, targets)
            if activation is not None:
                return Block(name, activation, paths[layer])
    return None


def _without(
    module: nn.Module, layer: nn.Module, noise: torch.Tensor, call: Call, targets: Mapping[str, torch.Tensor]
) -> str | None:
    """The activation that a block is once one of its layers gives zeros; None if it is none."""
    with borrowed(layer):
        for key, parameter in layer._parameters.items():
            if parameter is not None:
                layer._parameters[key] = nn.Parameter(torch.zeros_like(parameter))
        output = module(noise.clone(), *call.args, **call.kwargs)
    if not isinstance(output, torch.Tensor) or output.shape != noise.shape:
        return None
    return next((key for key, target in targets.items() if torch.equal(output, target)), None)
