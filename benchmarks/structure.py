"""Trace and prune against Torch-Pruning driven directly, in processor time.

python -m benchmarks.structure [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import torch
from torch import nn

from bench.structure.graph import PruningGraph
from bench.structure.groups import Pruning
from bench.structure.surgery import prune
from benchmarks.measure import in_turn, medians, processor_time, ratio


def networks() -> dict[str, Callable[[], nn.Module]]:
    import segmentation_models_pytorch as smp
    import torchvision

    return {
        "resnet50": lambda: torchvision.models.resnet50(weights=None),
        "deeplabv3plus-resnet50": lambda: smp.DeepLabV3Plus("resnet50", encoder_weights=None, classes=1),
    }


def ours(model: nn.Module, x: torch.Tensor, *, verify: bool) -> None:
    """Half the channels of every group."""
    graph = PruningGraph.trace(model, x, verify=verify)
    masks = {g.name: torch.arange(g.n_bundles) < max(1, g.n_bundles // 2) for g in graph.groups}
    prune(model, graph, Pruning({g.name: masks[g.name].repeat_interleave(g.bundle) for g in graph.groups}))


def theirs(model: nn.Module, x: torch.Tensor) -> None:
    import torch_pruning as tp

    head = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))][-1]
    importance = tp.importance.MagnitudeImportance(p=1)
    tp.pruner.BasePruner(model, x, importance=importance, pruning_ratio=0.5, ignored_layers=[head]).step()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    x = torch.randn(1, 3, 224, 224)

    def spent(make: Callable[[], nn.Module], run: Callable[[nn.Module], None]) -> float:
        model = make().eval()
        return processor_time(lambda: run(model))

    figures: dict[str, dict[str, float]] = {}
    for name, make in networks().items():
        sides: dict[str, Callable[[nn.Module], None]] = {
            "checked": lambda m: ours(m, x, verify=True),
            "plain": lambda m: ours(m, x, verify=False),
            "torch-pruning": lambda m: theirs(m, x),
        }
        found = in_turn({side: lambda m=make, r=run: spent(m, r) for side, run in sides.items()}, rounds)
        over = {f"{side}_over_torch_pruning": ratio(found, side, "torch-pruning") for side in ("checked", "plain")}
        figures[name] = {**medians(found), **over}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
