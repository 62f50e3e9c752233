"""What a search is handed: the shared loop, bound to its task and data; and how many steps it will take."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from bench.interface.cell import Recipe
from bench.interface.log import Observer, TrainingLog
from bench.interface.method import Context, Penalty, Search
from bench.interface.task import Task, TrainVal
from bench.training.checkpoint import CHECKPOINTS
from bench.training.loop import Phase, steps_per_epoch, train


def search_context(
    task: Task,
    data: TrainVal,
    recipe: Recipe,
    *,
    epochs: int,
    seed: int,
    device: torch.device,
    workdir: Path | None = None,
    log: TrainingLog | None = None,
    observer: Observer | None = None,
    blind: bool = False,
) -> Context:
    """The context of one search.

    Args:
        epochs: length of the search.
        workdir: where the search's checkpoint goes; None: the search cannot be resumed.
        blind: keep the task's gradient from the architecture (`bench.training.loop.train`).
    """
    log, observer = log or TrainingLog(), observer or Observer()
    phase = Phase("search", epochs, seed, device, workdir / CHECKPOINTS["search"] if workdir else None)

    def trainer(model: nn.Module, search: Search | None, recipe: Recipe, penalty: Penalty | None) -> nn.Module:
        return train(
            model, task, data.train, recipe, phase,
            val=data.val, search=search, penalty=penalty, blind=blind, log=log, observer=observer,
        )  # fmt: skip

    return Context(data, device, seed, epochs, recipe, trainer, log, observer, blind)


def search_steps(ctx: Context, *, bilevel: bool) -> int:
    """Iterations of a search over all of its epochs, at least one: what rates and schedules are stated in.

    A split whose halves hold less than half of its samples each makes fewer.
    """
    samples = len(ctx.data.train) // 2 if bilevel else len(ctx.data.train)
    return max(1, ctx.epochs * steps_per_epoch(samples, ctx.recipe))
