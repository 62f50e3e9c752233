"""A pruning found on one workload, applied to the network of another that holds the same backbone.

DCSS (Zhao and Lee 2020, arXiv 2010.14714) asks whether a network that was slimmed for classification serves another
task as well as a search on that task. What is transferred is the architecture, the widths and the dropped blocks, and
not the weights: which channels stay is decided by the L1 norms of the target's own dense network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.errors import CellError
from bench.interface.method import Budget, Found
from bench.search.bisection import nearest
from bench.search.widths import width_of

if TYPE_CHECKING:
    from torch import nn

    from bench.interface.record import GroupWidth
    from bench.structure.graph import PruningGraph


def matching(sources: Sequence[tuple[str, int]], graph: PruningGraph) -> tuple[dict[str, str], str, str]:
    """Groups of `graph` and what they are called in the source network: (names, its prefix, the source's prefix).

    A backbone inside another network has the same names behind a prefix (`encoder.layer1.0.conv1`). Of all prefixes
    the one counts under which most groups of one name are of one size.

    Args:
        sources: (name, size) of the source's groups.
    """
    size_of = dict(sources)
    votes: Counter[tuple[str, str]] = Counter()
    for group in graph.groups:
        for name, size in sources:
            if size != group.size:
                continue
            if group.name == name or group.name.endswith("." + name):
                votes[group.name.removesuffix(name), ""] += 1
            elif name.endswith("." + group.name):
                votes["", name.removesuffix(group.name)] += 1
    if not votes:
        return {}, "", ""
    target, source = min(votes, key=lambda pair: (-votes[pair], len(pair[0]) + len(pair[1]), pair))
    names: dict[str, str] = {}
    for group in graph.groups:
        name = source + group.name.removeprefix(target)
        if group.name.startswith(target) and size_of.get(name) == group.size:
            names[group.name] = name
    return names, target, source


def transferred(
    widths: Sequence[GroupWidth], dropped: Sequence[str], model: nn.Module, graph: PruningGraph, budget: Budget
) -> tuple[Found, str]:
    """The pruning of another network on this one, and a sentence about it.

    Groups that the source does not have keep one share of their channels, the one that comes nearest to the budget.

    Args:
        widths, dropped: of the source, as its record holds them.
        model: this workload's dense network.

    Raises:
        CellError: no group of the two networks matches.
    """
    names, target, source = matching([(w.name, w.size) for w in widths], graph)
    if not names:
        raise CellError("no channel group of the network that the pruning comes from has a namesake of its size here")
    there = {w.name: w.width for w in widths}
    fixed = {name: there[other] for name, other in names.items()}
    blocks = {block.name for block in graph.blocks}
    here = tuple(name for name in (target + d.removeprefix(source) for d in dropped) if name in blocks)
    absent = dict.fromkeys(here, 0) or None
    rest = [g for g in graph.groups if g.name not in fixed]

    def at(share: float) -> dict[str, int]:
        return {**fixed, **{g.name: width_of(g, share) for g in rest}}

    cost = graph.macs if budget.kind == "macs" else graph.params
    share = nearest(lambda share: cost(at(share), absent), budget.ratio * cost(), 0.0, 1.0)
    others = f"; the other {len(rest)} keep {share:.2f} of their channels" if rest else ""
    note = f"{len(fixed)} of {len(graph.groups)} channel groups took their widths from there{others}"
    return Found(scores=graph.channel_scores(model), widths=at(share), drop_blocks=here), note
