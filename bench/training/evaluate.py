"""Passes over data that train nothing: evaluation, and new BatchNorm statistics for a network just cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bench.interface.cell import Recipe
from bench.interface.task import Split
from bench.training import quiet
from bench.training.device import autocast, stage_seed, to_device


def evaluate_batches(
    model: nn.Module, split: Split, device: torch.device, recipe: Recipe, batch_size: int = 500
) -> Iterator[tuple[Any, Tensor]]:
    """(output, target) of every sample once, in evaluation mode; the model's mode is put back afterwards."""
    to_device(model, device)
    training = model.training
    model.eval()
    try:
        with torch.inference_mode(), autocast(recipe, device):
            for x, y in split.ordered(batch_size, device):
                with quiet.step():
                    output = model(x)
                yield output, y
    finally:
        model.train(training)


def recalibrate(
    model: nn.Module, split: Split, device: torch.device, *, seed: int, recipe: Recipe, batches: int = 20
) -> nn.Module:
    """Re-estimate BatchNorm statistics on training batches, in place: due before judging a network just cut.

    The statistics become the plain mean over `batches` batches; weights do not change.
    """
    to_device(model, device)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not norms:
        return model
    momenta = [norm.momentum for norm in norms]
    training = model.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    stream = split.batches(min(recipe.batch_size, len(split)), seed=stage_seed(seed, "bn"), epoch=0, device=device)
    with torch.no_grad(), autocast(recipe, device):
        for _, (x, _y) in zip(range(batches), stream, strict=False):
            with quiet.step():
                model(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(training)
    return model
