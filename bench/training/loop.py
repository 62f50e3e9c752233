"""The one training loop: dense networks, searches, recovery. Fairness rests on everyone using it.

An epoch depends on (seed, phase, epoch) and the state at its start alone, and that state is checkpointed, so a run
that was killed and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import CellError
from bench.interface.cell import Recipe
from bench.interface.log import Observer, TrainingLog
from bench.interface.method import Search, Stateful
from bench.interface.task import Split, Task
from bench.training import quiet
from bench.training.checkpoint import restore_epoch, save_epoch
from bench.training.device import autocast, stage_seed, to_device


@dataclass(frozen=True)
class Phase:
    """One phase of a network's training."""

    name: str
    """`dense`, `search` or `recovery`."""
    epochs: int
    seed: int
    device: torch.device
    checkpoint: Path | None = None
    """File that is replaced after every epoch, and resumed from where it exists."""


def learning_rate(recipe: Recipe, step: int, steps: int, steps_per_epoch: int) -> float:
    """The rate of one step: linear warm-up, then constant or a half cosine to 0."""
    warmup = round(recipe.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return recipe.lr * (step + 1) / (warmup + 1)
    if recipe.schedule == "constant":
        return recipe.lr
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def make_optimizer(parameters: list[nn.Parameter], recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    """The recipe's optimiser; weight decay on weights of two dimensions and more."""
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "adam":
        return torch.optim.Adam(groups, lr=recipe.lr, fused=True)
    nesterov = recipe.momentum > 0
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov, fused=True)


def train(
    model: nn.Module,
    task: Task,
    split: Split,
    recipe: Recipe,
    phase: Phase,
    *,
    val: Split | None = None,
    search: Search | None = None,
    teacher: nn.Module | None = None,
    log: TrainingLog | None = None,
    observer: Observer | None = None,
) -> nn.Module:
    """Train `model` in place for a phase and return it. The last epoch's weights are the result.

    Args:
        split: training data.
        val: evaluated after every epoch, for the log alone.
        teacher: where given, the loss is the task's distillation loss against its output.
        log: gets one row an epoch; a resumed run finds its earlier rows restored.

    Raises:
        CellError: the loss became NaN or infinite, or the split is smaller than one batch.
    """
    log, observer = log or TrainingLog(), observer or Observer()
    training = _Training(model, task, split, recipe, phase, search, teacher)
    for epoch in range(restore_epoch(phase.checkpoint, training.parts, log, phase.name), phase.epochs):
        start = time.perf_counter() - quiet.waited()
        row: dict[str, Any] = {"phase": phase.name, "epoch": epoch + 1, "loss": training.epoch(epoch, observer)}
        row["lr"] = training.optimizer.param_groups[0]["lr"]
        if val is not None and len(val):
            row |= {f"val_{k}": v for k, v in task.evaluate(model, val, phase.device, recipe).items()}
        if search and search.metrics:
            row |= search.metrics()
        if search and search.snapshot:
            for name, values in search.snapshot().items():
                log.add_snapshot(name, {"phase": phase.name, "epoch": epoch + 1, "values": values})
        row["seconds"] = time.perf_counter() - quiet.waited() - start
        log.add_epoch(row)
        if phase.checkpoint is not None:
            save_epoch(phase.checkpoint, training.parts, log, phase.name, epoch + 1)
        observer.epoch(phase.name, epoch + 1, row)
    return model


class _Training:
    """A network, its optimisers and its data, while a phase lasts."""

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        split: Split,
        recipe: Recipe,
        phase: Phase,
        search: Search | None,
        teacher: nn.Module | None,
    ) -> None:
        self.model, self.task, self.recipe, self.phase = model, task, recipe, phase
        self.search, self.teacher = search, teacher
        to_device(model, phase.device)
        self.architecture = search.parameters if search else []
        frozen = {id(p) for p in self.architecture}
        self.weights = [p for p in model.parameters() if p.requires_grad and id(p) not in frozen]
        self.optimizer = make_optimizer(self.weights, recipe, phase.device)
        if teacher is not None:
            to_device(teacher, phase.device).eval().requires_grad_(False)
        self.halves: tuple[Split, ...] = (split,)
        if search and search.bilevel:
            seed = phase.seed if search.split_seed is None else search.split_seed
            self.halves = split.halves(stage_seed(seed, phase.name, "halves"))
        shortest = min(len(half) for half in self.halves)
        self.batch_size = min(recipe.batch_size, shortest)
        if self.batch_size < 2:
            raise CellError(f"the training split has {len(split)} samples, too few for a batch of two in each part")
        self.steps_per_epoch = shortest // self.batch_size
        self.steps = phase.epochs * self.steps_per_epoch

    @property
    def parts(self) -> dict[str, Stateful]:
        """What a checkpoint holds."""
        parts: dict[str, Stateful] = {"model": self.model, "optimizer": self.optimizer}
        if self.search:
            parts |= {"search_optimizer": self.search.optimizer}
            parts |= {f"search_{name}": part for name, part in self.search.state.items()}
        return parts

    def epoch(self, epoch: int, observer: Observer) -> float:
        """One pass over the training split; its mean loss."""
        phase = self.phase
        torch.manual_seed(stage_seed(phase.seed, phase.name, "epoch", epoch))
        self.model.train()
        streams = [
            half.batches(
                self.batch_size, seed=stage_seed(phase.seed, phase.name, "data", i), epoch=epoch, device=phase.device
            )
            for i, half in enumerate(self.halves)
        ]
        total = torch.zeros((), device=phase.device)
        mean = math.nan
        for index in range(self.steps_per_epoch):
            step = epoch * self.steps_per_epoch + index
            with quiet.step():
                total += self.step(streams, step)
            if index % 10 == 9 or index == self.steps_per_epoch - 1:  # reading the loss waits for a GPU: not each step
                mean = float(total) / (index + 1)
                self.require_finite(mean, epoch)
                observer.step(phase.name, step + 1, self.steps, mean)
        return mean

    def step(self, streams: list[Iterator[tuple[Tensor, Tensor]]], step: int) -> Tensor:
        """One step of the weights and, in a search, one of the architecture; the loss of the weight step."""
        search, progress = self.search, step / self.steps
        if search and search.before:
            search.before(progress)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, step, self.steps, self.steps_per_epoch)
        loss = self.loss(*next(streams[0]))
        self.optimizer.zero_grad(set_to_none=True)
        if search and not search.bilevel:
            search.optimizer.zero_grad(set_to_none=True)
            (loss if search.penalty is None else loss + search.penalty()).backward()
        elif search:
            # The architecture's gradient of this step would be thrown away: do not compute it.
            gradients = torch.autograd.grad(loss, self.weights, materialize_grads=True)
            for p, g in zip(self.weights, gradients, strict=True):
                p.grad = g
        else:
            loss.backward()
        if self.recipe.grad_clip:
            nn.utils.clip_grad_norm_(self.weights, self.recipe.grad_clip)
        self.optimizer.step()
        if search:
            self.architecture_step(search, streams, progress)
            if search.after:
                search.after((step + 1) / self.steps)
        return loss.detach()

    def architecture_step(
        self, search: Search, streams: list[Iterator[tuple[Tensor, Tensor]]], progress: float
    ) -> None:
        """The search's own optimiser takes a step; in a bi-level search on the other half of the data."""
        if search.before_architecture:
            search.before_architecture(progress)
        if search.bilevel:
            loss = self.loss(*next(streams[1]))
            if search.penalty is not None:
                loss = loss + search.penalty()
            gradients = torch.autograd.grad(loss, self.architecture, allow_unused=True)
            for p, g in zip(self.architecture, gradients, strict=True):
                p.grad = g
        search.optimizer.step()

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """The task's loss of a batch, or its distillation loss where there is a teacher."""
        with autocast(self.recipe, self.phase.device):
            output = self.model(x)
            if self.teacher is None:
                return self.task.loss(output, y, self.recipe)
            with torch.no_grad():
                soft = self.teacher(x)
            return self.task.distil(output, soft, y, self.recipe)

    def require_finite(self, loss: float, epoch: int) -> None:
        """Refuse to go on with a loss that is no number."""
        if not math.isfinite(loss):
            raise CellError(
                f"the loss became {loss} in epoch {epoch + 1} of {self.phase.name} (learning rate "
                f"{self.recipe.lr:g}, {self.recipe.optimizer}); a lower rate or warm-up may help"
            )
