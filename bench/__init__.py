"""prunebench: channel-pruning methods compared at matched FLOPs budgets.

The structural engine is usable on its own::

    from bench import Pruning, PruningGraph, count_macs, prune

    graph = PruningGraph.trace(model, torch.randn(1, 3, 32, 32))
    smaller = prune(model, graph, Pruning(keep={"layer1.0.conv1": keep_mask}))

Names resolve on first use, so that `import bench` does not import torch.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.interface.exported import load_pruned as load_pruned
    from bench.interface.method import Budget as Budget
    from bench.search.prune_to import prune_to as prune_to
    from bench.structure.files import save_pruned as save_pruned
    from bench.structure.graph import PruningGraph as PruningGraph
    from bench.structure.groups import ChannelGroup as ChannelGroup
    from bench.structure.groups import Pruning as Pruning
    from bench.structure.measure import count_macs as count_macs
    from bench.structure.measure import count_params as count_params
    from bench.structure.measure import measure_latency as measure_latency
    from bench.structure.onnx_export import export_onnx as export_onnx
    from bench.structure.surgery import prune as prune

__version__ = "0.1.0"

_HOME = {
    "Budget": "bench.interface.method",
    "ChannelGroup": "bench.structure.groups",
    "Pruning": "bench.structure.groups",
    "PruningGraph": "bench.structure.graph",
    "count_macs": "bench.structure.measure",
    "count_params": "bench.structure.measure",
    "export_onnx": "bench.structure.onnx_export",
    "load_pruned": "bench.interface.exported",
    "measure_latency": "bench.structure.measure",
    "prune": "bench.structure.surgery",
    "prune_to": "bench.search.prune_to",
    "save_pruned": "bench.structure.files",
}
__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def _is_news(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("No CUDA runtime is found")


# torch announces where it is first used that a CUDA toolkit without a GPU is of no use to it. Every process that this
# project starts imports this package before torch.
logging.getLogger("torch.utils.cpp_extension").addFilter(_is_news)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'bench' has no attribute {name!r}; available: {', '.join(sorted(_HOME))}")
