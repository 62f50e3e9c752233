"""Residual blocks that can be removed whole, found by trying.

A block is removable if zeroing one affine layer near its end (its *gate*) makes it an activation of its input,
bit for bit: the block is then replaced by that activation, and nothing else in the network changes. Candidates
are modules that are called once with one tensor, keep its 4-D shape and hold a convolution, outermost first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bench.structure.groups import Block, Pruning
from bench.structure.layers import convolves, rule_of
from bench.structure.shortcut import ACTIVATIONS
from bench.structure.tensors import tensors_in
from bench.structure.verify import Probe

LAST = 4  # affine layers tried per block, from the end


@dataclass(frozen=True)
class _Call:
    """How a module was called: the shape of its one tensor, and whatever else it was given."""

    shape: tuple[int, ...]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def find_blocks(probe: Probe) -> tuple[tuple[Block, ...], list[tuple[str, str]]]:
    """The removable blocks in the order of their calls, and those that looked so but could not be replaced."""
    blocks: list[Block] = []
    for name, call in _calls(probe).items():
        if not any(name.startswith(b.name + ".") for b in blocks):
            block = _removable(probe, name, call)
            if block is not None:
                blocks.append(block)
    failures = _failing(probe, blocks)
    return tuple(block for block in blocks if block.name not in failures), list(failures.items())


def _calls(probe: Probe) -> dict[str, _Call]:
    """Candidates in the order of their calls, outermost first."""
    order: list[str] = []
    seen: dict[str, list[_Call | None]] = {}

    def before(name: str) -> Callable[..., None]:
        def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            order.append(name)
            plain = bool(args) and isinstance(args[0], torch.Tensor)
            plain = plain and len(list(tensors_in((*args, *kwargs.values())))) == 1
            seen.setdefault(name, []).append(_Call(tuple(args[0].shape), args[1:], kwargs) if plain else None)

        return note

    def after(name: str) -> Callable[..., None]:
        def check(module: nn.Module, args: tuple[Any, ...], output: object) -> None:
            call = seen[name][-1]
            if call is not None and (not isinstance(output, torch.Tensor) or tuple(output.shape) != call.shape):
                seen[name][-1] = None

        return check

    handles = []
    for name, module in probe.model.named_modules():
        if not name or convolves(module) or isinstance(module, nn.Sequential):
            continue  # a Sequential adds nothing: at most it wraps the block
        if any(convolves(m) for m in module.modules()):
            handles.append(module.register_forward_pre_hook(before(name), with_kwargs=True))
            handles.append(module.register_forward_hook(after(name)))
    probe.outputs(probe.model)
    for handle in handles:
        handle.remove()
    result: dict[str, _Call] = {}
    for name in dict.fromkeys(order):
        call = seen[name][0]
        if len(seen[name]) == 1 and call is not None and len(call.shape) == 4:
            result[name] = call
    return result


def _removable(probe: Probe, name: str, call: _Call) -> Block | None:
    module = probe.model.get_submodule(name)
    _, channels, height, width = call.shape
    height, width = min(height, 8), min(width, 8)
    batch = max(1, 256 // (channels * height * width))
    # Enough noise of both signs, beyond 6, to tell all the activations and zero apart.
    noise = torch.randn(batch, channels, height, width, generator=probe.generator) * 4
    targets = {key: function(noise) for key, function in ACTIVATIONS.items()}
    ran: list[nn.Module] = []
    affine = [m for m in module.modules() if (rule := rule_of(m)) is not None and rule.ends_block]
    handles = [m.register_forward_pre_hook(lambda m, args: ran.append(m)) for m in affine]
    paths = {m: f"{name}.{path}" for path, m in module.named_modules()}
    try:
        with torch.no_grad():
            module(noise.clone(), *call.args, **call.kwargs)
            for handle in handles:
                handle.remove()
            for layer in list(dict.fromkeys(reversed(ran)))[:LAST]:
                saved = [(p, p.detach().clone()) for p in layer.parameters(recurse=False)]
                if not saved:
                    continue
                for p, _ in saved:
                    p.zero_()
                output = module(noise.clone(), *call.args, **call.kwargs)
                for p, old in saved:
                    p.copy_(old)
                if not isinstance(output, torch.Tensor) or output.shape != noise.shape:
                    return None
                for key, target in targets.items():
                    if torch.equal(output, target):
                        return Block(name, key, paths[layer])
    except (RuntimeError, ValueError, AssertionError):
        return None  # the block insists on its input size
    finally:
        for handle in handles:
            handle.remove()
    return None


def _failing(probe: Probe, blocks: list[Block]) -> dict[str, str]:
    def compare(some: list[Block]) -> str | None:
        return probe.difference((), some, Pruning({}, tuple(block.name for block in some)))

    failures: dict[str, str] = {}
    if blocks and compare(blocks) is not None:
        for block in blocks:
            reason = compare([block])
            if reason is not None:
                failures[block.name] = reason
    return failures
