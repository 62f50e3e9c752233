"""Holds the costs of a traced network to the counter, on the network itself: what does not agree is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from bench.errors import RequestError, first_line
from bench.structure.copies import FAILURES, borrowed
from bench.structure.groups import Pruning, Structure
from bench.structure.layers import rule_of
from bench.structure.measure import evaluating
from bench.structure.names import inside
from bench.structure.stack import running
from bench.structure.surgery import carve, plan_of
from bench.structure.uncounted import WatchfulCounter
from bench.structure.walk import Atoms

CHOOSING = tuple(f"torchvision.{name}" for name in ("nms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool"))
"""Operations of detectors, whose operands are as many as an image gives."""
NAMED = 3
"""Layers that a refusal names."""


def require_counted(
    model: nn.Module,
    example: torch.Tensor,
    atoms: Atoms,
    structure: Structure,
    predicted: Callable[[Mapping[str, int], Mapping[str, int]], int],
) -> None:
    """Count `model` with random channels and blocks removed, in eval mode without gradients, and compare.

    Args:
        model: the network itself, not a copy with other numbers, which may take other ways.
        example: one input batch.
        atoms: what its trace found.
        predicted: multiply-adds of the cost model, for kept channels by group and presence (0 or 1) by block.

    Raises:
        RequestError: naming the layers whose multiply-adds cannot be counted, or are not what the cost model says.
    """
    if predicted({}, {}) != atoms.record.total:
        raise RuntimeError("the cost model does not explain the traced network")
    pruning = _random_pruning(structure)
    with borrowed(model):
        carve(model, plan_of(structure, pruning))
        with running(model) as stack:
            counter = WatchfulCounter(model, example, stack)
            try:
                with evaluating(model), counter:
                    model(example.clone())  # a network may change its input in place
            except FAILURES as error:
                raise RequestError(
                    f"with channels removed at random this network fails: {first_line(error)}"
                ) from error
        require_in_sight(model, counter.uncounted)
        expected = predicted(pruning.widths, dict.fromkeys(pruning.drop_blocks, 0))
        if counter.total != expected:
            wrong = _wrong(model, counter.own, atoms, pruning.drop_blocks)
            where = f" in {_listed(model, wrong)}" if wrong else ""
            what = "with channels removed at random" if structure.groups or structure.blocks else "without gradients"
            raise RequestError(
                f"the costs of this network cannot be told: {what} it takes {counter.total} multiply-adds where "
                f"the cost model says {expected}{where}"
            )


def require_in_sight(model: nn.Module, uncounted: Mapping[str, str]) -> None:
    """Refuse a network in which something multiplies out of the counter's sight.

    Raises:
        RequestError: naming the layers and what they run.
    """
    chosen = [operation for operation in uncounted.values() if operation in CHOOSING]
    if chosen:
        raise RequestError(
            f"this network chooses among its results by their values ({', '.join(dict.fromkeys(chosen))}), so that "
            "what it computes and costs changes with the image: trace its backbone, or its heads, by themselves"
        )
    if uncounted:
        operations = ", ".join(dict.fromkeys(uncounted.values()))
        raise RequestError(
            f"the multiply-adds of {_listed(model, uncounted)} cannot be counted: {operations} multiplies out of the "
            "counter's sight, which sees PyTorch's convolutions and matrix products"
        )


def _random_pruning(structure: Structure) -> Pruning:
    """A random pruning, of few channels, since thin networks run fast, and without some of the blocks."""
    generator = torch.Generator().manual_seed(1)
    keep: dict[str, torch.Tensor] = {}
    for group in structure.groups:
        most = max(1, group.n_bundles // 8)
        keep[group.name] = group.drawn(int(torch.randint(most, (), generator=generator)) + 1, generator)
    dropped = [block.name for block in structure.blocks if float(torch.rand((), generator=generator)) < 0.5]
    return Pruning(keep, tuple(dropped))


def _wrong(small: nn.Module, counted: Mapping[str, int], atoms: Atoms, dropped: Sequence[str]) -> list[str]:
    """The innermost modules whose own multiply-adds are not what they should be."""
    wrong: list[str] = []
    for name, module in small.named_modules():
        if any(inside(name, block) for block in dropped):
            continue
        rule = rule_of(module)
        kernel = rule.kernel(module) if rule is not None else None
        expected = atoms.record.own.get(name, 0)
        if kernel is not None and name in atoms.positions:
            expected = atoms.positions[name] * kernel.size * kernel.n_in * kernel.n_out // kernel.groups
        if counted.get(name, 0) != expected:
            wrong.append(name)
    return wrong


def _listed(model: nn.Module, names: Mapping[str, object] | list[str]) -> str:
    """The modules with their types, the first few."""
    modules = dict(model.named_modules())
    shown = [f"{name or 'the network itself'} ({type(modules[name]).__name__})" for name in names if name in modules]
    more = f" and {len(shown) - NAMED} more" if len(shown) > NAMED else ""
    return ", ".join(shown[:NAMED]) + more
