"""Which channel groups lie inside a residual block, where no shortcut joins them to others."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from bench.structure.names import inside

if TYPE_CHECKING:
    from bench.structure.groups import ChannelGroup, Structure


def inner_groups(graph: Structure) -> frozenset[str]:
    """Names of the groups whose layers, producers and consumers alike, all belong to one residual block.

    A residual block is a module around such a group that makes channels of a group outside of it which other layers
    make as well: their outputs are summed. The smallest such modules count. A squeeze-and-excitation couples its layers
    as a residual block does: where blocks have one, it alone is inside. Empty for a network without residual blocks.
    """
    around = {group.name: _smallest_module(group) for group in graph.groups}
    residual = {path for path in around.values() if path and _sums(graph, path)}
    blocks = {path for path in residual if not any(inside(other, path) for other in residual - {path})}
    return frozenset(name for name, path in around.items() if path in blocks)


def _smallest_module(group: ChannelGroup) -> str:
    """Path of the smallest module that holds every layer of the group; the network itself is ''."""
    paths = [member.module.split(".")[:-1] for member in group.layers]
    shared = takewhile(lambda names: len(set(names)) == 1, zip(*paths, strict=False))
    return ".".join(names[0] for names in shared)


def _sums(graph: Structure, module: str) -> bool:
    """Whether layers of the module and others make the channels of one group that does not lie inside it."""
    for group in graph.groups:
        makers = {member.module for member in group.producers}
        own = {maker for maker in makers if inside(maker, module)}
        if own and len(makers) > 1 and not inside(_smallest_module(group), module):
            return True
    return False
