"""Holds the costs of a traced network to the counter, on the network itself: what does not agree is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import nn

from bench.errors import RequestError, first_line
from bench.structure.counter import MacsCounter
from bench.structure.groups import Pruning, Structure
from bench.structure.layers import rule_of
from bench.structure.measure import evaluating
from bench.structure.surgery import cut, plan_of
from bench.structure.uncounted import Uncounted
from bench.structure.walk import Atoms

NAMED = 3
"""Layers that a refusal names."""


def require_counted(
    model: nn.Module,
    example: torch.Tensor,
    atoms: Atoms,
    structure: Structure,
    predicted: Callable[[Mapping[str, int], Mapping[str, int]], int],
) -> None:
    """Count `model` whole and with random channels and blocks removed, and compare.

    Args:
        model: the network itself, not the copy that was traced: in eval mode without gradients it may take other ways.
        example: one input batch.
        atoms: what the trace of the copy found.
        predicted: multiply-adds of the cost model, for kept channels by group and presence (0 or 1) by block.

    Raises:
        RequestError: naming the layers whose multiply-adds cannot be counted, or are not what the cost model says.
    """
    tensor = next((p for p in model.parameters() if p.is_floating_point()), example)
    example = example.to(tensor.device, tensor.dtype)
    with Uncounted(model, example) as out_of_sight:
        whole = _count(model, example)
    uncounted = {**atoms.uncounted, **out_of_sight.found}
    if uncounted:
        operations = ", ".join(dict.fromkeys(uncounted.values()))
        raise RequestError(
            f"the multiply-adds of {_listed(model, uncounted)} cannot be counted: {operations} multiplies out of the "
            "counter's sight, which sees PyTorch's convolutions and matrix products"
        )
    _require_equal(model, model, whole, predicted({}, {}), atoms, ())
    for pruning in _prunings(structure):
        small = cut(model, plan_of(structure, pruning))
        try:
            counted = _count(small, example)
        except (RuntimeError, ValueError, IndexError, TypeError, AssertionError) as error:
            raise RequestError(f"with channels removed at random this network fails: {first_line(error)}") from error
        expected = predicted(pruning.widths, dict.fromkeys(pruning.drop_blocks, 0))
        _require_equal(model, small, counted, expected, atoms, pruning.drop_blocks)


def _count(model: nn.Module, example: torch.Tensor) -> dict[str, int]:
    """Multiply-adds of a forward pass by module; "" is the whole network."""
    with evaluating(model), MacsCounter() as counter:
        model(example.clone())  # a network may change its input in place
    return {**counter.by_module(model), "": counter.total}


def _require_equal(
    model: nn.Module, small: nn.Module, counted: Mapping[str, int], expected: int, atoms: Atoms, dropped: Sequence[str]
) -> None:
    """Refuse where `small`, which `model` was cut to, takes other multiply-adds than expected."""
    if counted[""] == expected:
        return
    wrong = _wrong(small, counted, atoms, dropped)
    where = f" in {_listed(model, wrong)}" if wrong else ""
    what = "whole" if small is model else "with channels removed at random"
    raise RequestError(
        f"the costs of this network cannot be told: {what} it takes {counted['']} multiply-adds where the cost model "
        f"says {expected}{where}"
    )


def _prunings(structure: Structure) -> Iterator[Pruning]:
    """Two random prunings: no group has the same width in both, and the second drops blocks."""
    generator = torch.Generator().manual_seed(1)
    counts: list[list[int]] = []
    for group in structure.groups:
        most = max(2, group.n_bundles // 2)  # thin networks run fast
        counts.append((1 + torch.randperm(most, generator=generator)[:2]).tolist())
    for number in range(2):
        keep: dict[str, torch.Tensor] = {}
        for group, pair in zip(structure.groups, counts, strict=True):
            bundles = torch.zeros(group.n_bundles, dtype=torch.bool)
            bundles[torch.randperm(group.n_bundles, generator=generator)[: pair[number]]] = True
            keep[group.name] = bundles.repeat_interleave(group.bundle)
        dropped = [b.name for b in structure.blocks if number and float(torch.rand((), generator=generator)) < 0.5]
        yield Pruning(keep, tuple(dropped))


def _wrong(small: nn.Module, by_module: Mapping[str, int], atoms: Atoms, dropped: Sequence[str]) -> list[str]:
    """The innermost modules whose own multiply-adds, those of modules inside apart, are not what they should be."""
    modules = dict(small.named_modules())
    traced, counted = _own(atoms.macs, modules), _own(by_module, modules)
    wrong: list[str] = []
    for name, module in modules.items():
        if any(name == block or name.startswith(block + ".") for block in dropped):
            continue
        rule = rule_of(module)
        kernel = rule.kernel(module) if rule is not None else None
        expected = traced.get(name, 0)
        if kernel is not None and name in atoms.positions:
            expected = atoms.positions[name] * kernel.size * kernel.n_in * kernel.n_out // kernel.groups
        if counted.get(name, 0) != expected:
            wrong.append(name)
    return wrong


def _own(macs: Mapping[str, int], names: Iterable[str]) -> dict[str, int]:
    """Multiply-adds of each module without those of the modules inside it."""
    own = {name: macs.get(name, 0) for name in names}
    for name in [name for name in own if name]:
        own[name.rpartition(".")[0]] -= macs.get(name, 0)
    return own


def _listed(model: nn.Module, names: Mapping[str, object] | list[str]) -> str:
    """The modules with their types, the first few."""
    modules = dict(model.named_modules())
    shown = [f"{name or 'the network itself'} ({type(modules[name]).__name__})" for name in names if name in modules]
    more = f" and {len(shown) - NAMED} more" if len(shown) > NAMED else ""
    return ", ".join(shown[:NAMED]) + more
