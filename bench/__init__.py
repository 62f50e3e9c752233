"""prunebench: channel-pruning methods compared at matched FLOPs budgets.

The structural engine is usable on its own::

    from bench import Pruning, PruningGraph, count_macs, prune

    graph = PruningGraph.trace(model, torch.randn(1, 3, 32, 32))
    smaller = prune(model, graph, Pruning(keep={"layer1.0.conv1": keep_mask}))

Names resolve on first use, so that `import bench` does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.budget import Budget as Budget
    from bench.counting import count_macs as count_macs
    from bench.counting import count_params as count_params
    from bench.graph import ChannelGroup as ChannelGroup
    from bench.graph import PruningGraph as PruningGraph
    from bench.latency import measure_latency as measure_latency
    from bench.surgery import Pruning as Pruning
    from bench.surgery import load_pruned as load_pruned
    from bench.surgery import prune as prune
    from bench.surgery import save_pruned as save_pruned

__version__ = "0.1.0"

_HOME = {
    "Budget": "bench.budget",
    "ChannelGroup": "bench.graph",
    "Pruning": "bench.surgery",
    "PruningGraph": "bench.graph",
    "count_macs": "bench.counting",
    "count_params": "bench.counting",
    "load_pruned": "bench.surgery",
    "measure_latency": "bench.latency",
    "prune": "bench.surgery",
    "save_pruned": "bench.surgery",
}
__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'bench' has no attribute {name!r}; available: {', '.join(sorted(_HOME))}")
