"""Watches a search for what it must leave alone: other data, the dense network, the graph, random states, hooks."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as nn_module

from bench.interface.task import Split, Task
from bench.structure.graph import PruningGraph
from bench.structure.layers import require_rule, rule_of

RANDOM: Mapping[str, tuple[Callable[[int], Any], Callable[[], Any], Callable[[Any], Any]]] = {
    "random": (random.seed, random.getstate, random.setstate),
    "numpy.random": (np.random.seed, np.random.get_state, np.random.set_state),
    "torch": (torch.manual_seed, torch.get_rng_state, torch.set_rng_state),
}
"""The global sources of random numbers: how each is seeded, read and set."""


class RandomStates:
    """Global random states during one search, each stretch of which begins at states of its own.

    Two searches with one seed that end a stretch in one state, although they began it in two, have seeded it.
    """

    def __init__(self, number: int) -> None:
        self.number, self.ends = number, list[dict[str, str]]()

    def begin(self) -> None:
        """Begin a stretch, at states that no other stretch of any search begins at."""
        for seed, _, _ in RANDOM.values():
            seed(1_000_003 * (self.number + 1) + len(self.ends))

    def end(self) -> None:
        """End a stretch."""
        self.ends.append({name: digest(read()) for name, (_, read, _) in RANDOM.items()})

    def seeded_alike(self, other: RandomStates) -> list[str]:
        """The sources that a stretch of both searches left in one state."""
        pairs = list(zip(self.ends, other.ends, strict=False))
        return [name for name in RANDOM if any(one[name] == two[name] for one, two in pairs)]


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Put the global random states back to what they were."""
    before = {name: read() for name, (_, read, _) in RANDOM.items()}
    try:
        yield
    finally:
        for name, (_, _, write) in RANDOM.items():
            write(before[name])


@contextmanager
def loads_counted(task: Task) -> Iterator[list[str]]:
    """The data sets that are loaded meanwhile by any task of this class."""
    kind: Any = type(task)
    own, real, seen = vars(kind).get("load"), kind.load, list[str]()

    def load(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(self.dataset)
        return real(self, *args, **kwargs)

    kind.load = load
    try:
        yield seen
    finally:
        if own is None:
            del kind.load
        else:
            kind.load = own


def digest(value: Any) -> str:
    """A short text that is equal for equal states, tensors and arrays."""
    found = hashlib.sha256()

    def take(part: Any) -> None:
        if isinstance(part, Tensor):
            found.update(part.detach().cpu().contiguous().numpy().tobytes())
        elif isinstance(part, np.ndarray):
            found.update(part.tobytes())
        elif isinstance(part, Mapping):
            for key in part:
                take(str(key))
                take(part[key])
        elif isinstance(part, tuple | list):
            for item in part:
                take(item)
        else:
            found.update(repr(part).encode())

    take(value)
    return found.hexdigest()[:16]


def fingerprint(dense: nn.Module, graph: PruningGraph, example: Tensor, splits: Mapping[str, Split]) -> dict[str, str]:
    """What a search must leave as it was, by name."""
    with torch.no_grad():
        output = dense.eval()(example)
    half = {g.name: max(g.bundle, g.size // 2 // g.bundle * g.bundle) for g in graph.groups}
    names = [(g.name, g.size, g.bundle) for g in graph.groups]
    cpu = torch.device("cpu")
    return {
        "the dense network": digest([dense.state_dict(), output, hooks(dense)]),
        "the graph": digest([names, graph.macs(), graph.macs(half)]),
        "hooks on all modules": digest(sorted(global_hooks())),
    } | {
        f"the {name} data": digest([list(batch) for batch in split.ordered(64, cpu)]) for name, split in splits.items()
    }


def hooks(model: nn.Module) -> dict[str, list[str]]:
    """What was added to the modules of a network, by module: hooks, and a `forward` in place of the class's."""
    found: dict[str, list[str]] = {}
    for name, module in model.named_modules():
        own = vars(module)
        added = [key.strip("_") for key, held in own.items() if key.endswith("_hooks") and held]
        added += ["forward of its own"] * ("forward" in own)
        if added:
            found[name or "the network"] = added
    return found


def global_hooks() -> list[str]:
    """Hooks on all modules of the process."""
    named = vars(nn_module).items()
    return [
        f"{key} {len(held)}" for key, held in named if key.startswith("_global_") and key.endswith("_hooks") and held
    ]


def silenced(model: nn.Module, dense: nn.Module, graph: PruningGraph) -> dict[str, int]:
    """How many outputs have only zeros as weights, and had others, of each layer outside all groups: of heads."""
    inside = {m.module for g in graph.groups for m in (*g.producers, *g.passes)}
    before, found = dict(dense.named_modules()), dict[str, int]()
    for name, layer in model.named_modules():
        rule = rule_of(layer)
        if rule is None or not rule.makes_channels or name in inside or name not in before:
            continue
        now, then = (rule.rows(m).detach().cpu().flatten(1).abs().sum(1) for m in (layer, before[name]))
        count = int(((now == 0) & (then != 0)).sum())
        if count:
            found[name] = count
    return found


def with_dead_channels(model: nn.Module, graph: PruningGraph) -> dict[str, int]:
    """Set all weights to and from one bundle of each group to zero, in place; its index by group name."""
    modules, dead = dict(model.named_modules()), dict[str, int]()
    for group in graph.groups:
        if group.n_bundles < 2:
            continue
        dead[group.name] = group.n_bundles // 2
        for member in group.layers:
            layer = modules[member.module]
            rule = require_rule(layer)
            rows = torch.as_tensor(member.rows[dead[group.name]])
            with torch.no_grad():
                if member.kind == "in":
                    rule.zero_columns(layer, rows)
                elif getattr(layer, "weight", None) is not None:
                    rule.zero(layer, rows)
    return dead
