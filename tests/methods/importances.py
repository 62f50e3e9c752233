"""Small networks for the tests of rankings, and what Torch-Pruning says of their channels."""

from __future__ import annotations

from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from bench.interface.method import Budget, Method
from bench.structure.graph import PruningGraph

LIBRARY: Any = tp.importance
EXAMPLE = torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def plain(*, norms: bool = False, seed: int = 0) -> nn.Sequential:
    """Three convolutions in a row, without biases: 1 -> 8 -> 8 -> 10 channels, the last summed over places."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, bias=False),
        nn.BatchNorm2d(8) if norms else nn.Identity(),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, bias=False),
        nn.BatchNorm2d(8) if norms else nn.Identity(),
        nn.ReLU(),
        nn.Conv2d(8, 10, 1, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -1.0, 1.0)
    return model


def scores_of(method: Method, model: nn.Module, example: Tensor = EXAMPLE) -> dict[str, Tensor]:
    """A method's scores of a network, by group; the method does not look at data."""
    no_task: Any = None
    no_context: Any = None
    graph = PruningGraph.trace(model, example)
    return dict(method.search(model, graph, no_task, Budget(0.5), no_context).scores)


def theirs(importance: Any, model: nn.Module, layer: str, example: Tensor = EXAMPLE) -> Tensor:
    """What a `tp.importance` gives all output channels of a convolution, and whatever is coupled with them: [n]."""
    graph = tp.DependencyGraph().build_dependency(model, example)
    convolution: Any = model.get_submodule(layer)
    every = list(range(convolution.out_channels))
    return importance(graph.get_pruning_group(convolution, tp.prune_conv_out_channels, idxs=every))


def ranking(scores: Tensor) -> list[int]:
    """Channels in the order of rising scores."""
    return scores.argsort(stable=True).tolist()
