"""What happens to a network after pruning: an axis of its own, the same for every method under protocol `matched`.

| recovery | starts from | rates | teacher |
|---|---|---|---|
| `rewind` | what pruning left: the dense weights, or the search's own | the dense network's | – |
| `finetune` | what pruning left | those of fine-tuning | – |
| `scratch` | fresh weights | the dense network's | – |
| `distil` | what pruning left | the dense network's | the dense network |
| `scratch-distil` | fresh weights | the dense network's | the dense network |
| `none` | what pruning left | – | – |

`rewind` is learning-rate rewinding (Renda, Frankle and Carbin, ICLR 2020): the weights are kept, and the rate starts
again from its peak. It is the default, since a lower rate alone costs more accuracy than most methods differ by.
Networks from fresh weights get all of a workload's epochs (Liu et al., ICLR 2019, Scratch-B). TAS (Dong and Yang 2019,
section 3.3) is `scratch-distil`. The distillation loss is the task's own (`Task.distil`).
"""

from __future__ import annotations

import copy
import math
from pathlib import Path

import torch
from torch import nn

from bench.interface.cell import Cell
from bench.interface.log import Observer, TrainingLog
from bench.interface.task import DataInfo, Task, TrainVal
from bench.training.device import stage_seed
from bench.training.loop import Phase, train


def recover(
    cell: Cell,
    task: Task,
    data: TrainVal,
    *,
    pruned: nn.Module,
    fresh: nn.Module,
    teacher: nn.Module,
    device: torch.device,
    checkpoint: Path | None = None,
    log: TrainingLog | None = None,
    observer: Observer | None = None,
) -> nn.Module:
    """Train the pruned network as the cell says; returns it, the given ones untouched.

    Args:
        pruned: with the weights that pruning left.
        fresh: the same architecture with fresh weights.
        teacher: the dense network.
    """
    start = copy.deepcopy(fresh if cell.from_scratch else pruned)
    if cell.recovery_epochs == 0:
        return start
    return train(
        start,
        task,
        data.train,
        cell.recovery_recipe,
        Phase("recovery", cell.recovery_epochs, cell.seed, device, checkpoint),
        val=data.val,
        teacher=copy.deepcopy(teacher) if cell.recovery in ("distil", "scratch-distil") else None,
        log=log,
        observer=observer,
    )


def thinner_initialisation(fresh_dense: nn.Module, thinner: nn.Module) -> nn.Module:
    """Give weights cut out of a freshly initialised network the variance that their smaller fan-in calls for.

    `thinner` is changed in place and returned. Every usual initialisation has variance proportional to 1 / fan, so a
    factor of sqrt(dense fan / own fan) makes the draw what it would have been at this width.
    """
    dense = dict(fresh_dense.named_modules())
    with torch.no_grad():
        for name, module in thinner.named_modules():
            weight = getattr(module, "weight", None)
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and isinstance(weight, nn.Parameter):
                before = getattr(dense.get(name), "weight", weight)
                weight.mul_(math.sqrt(before[0].numel() / weight[0].numel()))
    return thinner


def fresh_network(task: Task, info: DataInfo, seed: int) -> nn.Module:
    """The task's network with weights that depend on the seed alone."""
    torch.manual_seed(stage_seed(seed, "initialisation"))
    return task.network(info)
