"""The one training loop: dense networks, searches, recovery. Fairness rests on everyone using it.

An epoch depends on (seed, phase, epoch) and the state at its start alone, and that state is checkpointed, so a run
that was killed and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import CellError
from bench.interface.cell import Recipe
from bench.interface.log import Observer, TrainingLog
from bench.interface.method import Penalty, Search, Stateful
from bench.interface.task import Split, Task
from bench.training import parallel, quiet
from bench.training.checkpoint import restore_epoch, save_epoch
from bench.training.device import autocast, stage_seed, to_device
from bench.training.optimizer import Optimizer


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


def steps_per_epoch(samples: int, recipe: Recipe) -> int:
    """Steps of one pass over `samples`: full batches alone, or one smaller batch where there is no full one."""
    return max(1, samples // recipe.batch_size)


def rates(recipe: Recipe, samples: int, epochs: int) -> list[float]:
    """The rate of every step of a phase that passes over `samples`."""
    each = steps_per_epoch(samples, recipe)
    return [learning_rate(recipe, step, each * epochs, each) for step in range(each * epochs)]


def train(
    model: nn.Module,
    task: Task,
    split: Split,
    recipe: Recipe,
    phase: Phase,
    *,
    val: Split | None = None,
    search: Search | None = None,
    penalty: Penalty | None = None,
    blind: bool = False,
    teacher: nn.Module | None = None,
    log: TrainingLog | None = None,
    observer: Observer | None = None,
) -> nn.Module:
    """Train `model` in place for one phase and return it. The last epoch's weights are the result.

    Args:
        split: training data.
        val: evaluated after every epoch; the figures are logged and decide nothing.
        search: what a differentiable search adds to each step.
        penalty: added to the loss of the weights' steps. The log has it apart from the task's loss, as `penalty`.
        blind: keep the task's gradient from the architecture, so that the search's penalty alone moves it; all else,
            the data that norms see included, stays the same.
        teacher: where given, the loss is the task's distillation loss against its output.
        log: gets one row an epoch; a resumed phase finds its earlier rows restored.

    Raises:
        CellError: the loss or a weight became NaN or infinite, or the split is too small for a batch of two.
    """
    log, observer = log or TrainingLog(), observer or Observer()
    training = _Training(model, task, split, recipe, phase, search, teacher, penalty=penalty, blind=blind)
    training.start_alike()
    for epoch in range(restore_epoch(phase.checkpoint, training.parts, log, phase.name), phase.epochs):
        start = time.perf_counter() - quiet.waited()
        row: dict[str, Any] = {"phase": phase.name, "epoch": epoch + 1, "loss": training.epoch(epoch, observer)}
        row |= {"lr": training.optimizer.param_groups[0]["lr"], **training.counts}
        if penalty is not None:
            row["penalty"] = float(training.penalties) / training.steps_per_epoch
        if val is not None and len(val) and parallel.first():
            row |= {f"val_{k}": v for k, v in task.evaluate(model, val, phase.device, recipe).items()}
        if search and search.metrics:
            row |= search.metrics()
        if search and search.snapshot:
            for name, values in search.snapshot().items():
                log.add_snapshot(name, {"phase": phase.name, "epoch": epoch + 1, "values": values})
        row["seconds"] = time.perf_counter() - quiet.waited() - start
        training.require_finite_weights(epoch)
        log.add_epoch(row)
        if phase.checkpoint is not None:
            save_epoch(phase.checkpoint, training.parts, log, phase.name, epoch + 1)
        observer.epoch(phase.name, epoch + 1, row)
    return model


Batches = Iterator[tuple[Tensor, Tensor]]


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
        *,
        penalty: Penalty | None = None,
        blind: bool = False,
    ) -> None:
        self.penalty, self.penalties = penalty, torch.zeros((), device=phase.device)
        self.model, self.task, self.recipe, self.phase = model, task, recipe, phase
        self.search, self.teacher, self.blind = search, teacher, blind
        to_device(model, phase.device)
        if teacher is not None:
            to_device(teacher, phase.device).eval().requires_grad_(False)
        self.architecture = search.parameters if search else []
        searched = {id(p) for p in self.architecture}
        self.weights = [p for p in model.parameters() if p.requires_grad and id(p) not in searched]
        self.optimizer = Optimizer(self.weights, recipe)
        # What an epoch passes over: the split, or in a bi-level search its halves side by side.
        self.halves: tuple[Split, ...] = (split,)
        if search and search.bilevel:
            self.halves = split.halves(stage_seed(phase.seed, phase.name, "halves"))
        samples = min(len(half) for half in self.halves)
        self.batch_size = min(recipe.batch_size, samples)
        parallel.require_rows(self.batch_size)
        if self.batch_size < 2:
            raise CellError(f"the training split has {len(split)} samples, too few for a batch of two in each part")
        self.steps_per_epoch = steps_per_epoch(samples, recipe)
        self.steps = phase.epochs * self.steps_per_epoch

    @property
    def counts(self) -> dict[str, int]:
        """What an epoch takes: training samples, and steps of the weights and of the architecture."""
        return {
            "samples": self.steps_per_epoch * self.batch_size * len(self.halves),
            "weight_steps": self.steps_per_epoch,
            "architecture_steps": self.steps_per_epoch if self.search else 0,
        }

    @property
    def parts(self) -> dict[str, Stateful]:
        """What a checkpoint holds."""
        parts: dict[str, Stateful] = {"model": self.model, "optimizer": self.optimizer}
        if self.search:
            parts["search_optimizer"] = self.search.optimizer
            parts |= {f"search_{name}": part for name, part in self.search.state.items()}
        return parts

    def start_alike(self) -> None:
        """Processes that train together begin with the same values, to the last bit."""
        parts = (part for name, part in self.parts.items() if not name.endswith("optimizer"))
        parallel.copy_from_first([t for part in parts for t in part.state_dict().values() if isinstance(t, Tensor)])
        parallel.copy_from_first(self.architecture)

    def epoch(self, epoch: int, observer: Observer) -> float:
        """One pass over the training split; the mean loss of its weight steps."""
        phase = self.phase
        torch.manual_seed(stage_seed(phase.seed, phase.name, "epoch", epoch))
        self.model.train()
        streams = [self.batches(number, epoch) for number in range(len(self.halves))]
        total = torch.zeros((), device=phase.device)
        self.penalties.zero_()
        mean = math.nan
        for index in range(self.steps_per_epoch):
            step = epoch * self.steps_per_epoch + index
            with parallel.step():
                total += self.step(step, *streams)
            if index % 10 == 9 or index == self.steps_per_epoch - 1:  # reading the loss waits for a GPU: not each step
                mean = float(total) / (index + 1)
                self.require_finite(mean, epoch)
                observer.step(phase.name, step + 1, self.steps, mean)
        return mean

    def batches(self, number: int, epoch: int) -> Batches:
        """The batches of one epoch from the split, or from one of its halves."""
        phase = self.phase
        seed = stage_seed(phase.seed, phase.name, "data", number)
        return parallel.batches(self.halves[number], self.batch_size, seed=seed, epoch=epoch, device=phase.device)

    def step(self, step: int, batches: Batches, others: Batches | None = None) -> Tensor:
        """One step of the weights and, in a search, one of the architecture; the loss of the weight step.

        Args:
            others: in a bi-level search the batches for the architecture.
        """
        search, progress = self.search, step / self.steps
        if search and search.before:
            search.before(progress)
        loss = self.weight_step(step, *next(batches))
        if search:
            if search.before_architecture:
                search.before_architecture(progress)
            if others is not None:
                self.architecture_gradients(search, *next(others))
            search.optimizer.step()
            if search.after:
                search.after((step + 1) / self.steps)
            parallel.copy_from_first(self.architecture)  # what `after` decides by rounding is decided once
        return loss

    def weight_step(self, step: int, x: Tensor, y: Tensor) -> Tensor:
        """The optimiser takes a step; in a search that is not bi-level the architecture gets its gradients as well."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, step, self.steps, self.steps_per_epoch)
        search, loss = self.search, self.loss(x, y)
        whole = self.with_penalty(loss)
        self.optimizer.zero_grad()
        if search and search.bilevel:
            # The architecture's gradient of this step would be thrown away: do not compute it.
            gradients = torch.autograd.grad(whole, self.weights, materialize_grads=True)
            _set_gradients(self.weights, gradients)
        elif search:
            search.optimizer.zero_grad(set_to_none=True)
            if self.blind:
                whole.backward()
                _set_gradients(self.architecture, self.penalty_gradients(search))
            else:
                _penalised(whole, search).backward()
        else:
            whole.backward()
        parallel.add_up(self.weights)
        if search and not search.bilevel and not self.blind:
            parallel.add_up(self.architecture)
        if self.recipe.grad_clip:
            nn.utils.clip_grad_norm_(self.weights, self.recipe.grad_clip)
        self.optimizer.step()
        return loss.detach()

    def with_penalty(self, loss: Tensor) -> Tensor:
        """The loss that the weights' step follows."""
        if self.penalty is None:
            return loss
        penalty = self.penalty()
        self.penalties += penalty.detach()
        return loss + penalty / parallel.size()

    def architecture_gradients(self, search: Search, x: Tensor, y: Tensor) -> None:
        """Gradients of the architecture in a bi-level search; the weights keep theirs."""
        if self.blind:
            with torch.no_grad():
                self.loss(x, y)
            _set_gradients(self.architecture, self.penalty_gradients(search))
            return
        loss = _penalised(self.loss(x, y), search)
        gradients = torch.autograd.grad(loss, self.architecture, allow_unused=True)
        _set_gradients(self.architecture, gradients)
        parallel.add_up(self.architecture)

    def penalty_gradients(self, search: Search) -> Sequence[Tensor | None]:
        """Gradients of the architecture without the task's part; None where the penalty does not reach."""
        penalty = search.penalty() if search.penalty is not None else None
        if penalty is None or not penalty.requires_grad:
            return [None] * len(self.architecture)
        return torch.autograd.grad(penalty, self.architecture, allow_unused=True)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """The task's loss of a batch, or its distillation loss where there is a teacher."""
        with autocast(self.recipe, self.phase.device):
            with parallel.share(len(y)) as share:
                output, soft = share.whole(self.model(share.part(x))), None
                if self.teacher is not None:
                    with torch.no_grad():
                        soft = share.whole(self.teacher(share.part(x)))
            if soft is None:
                return self.task.loss(output, y, self.recipe)
            return self.task.distil(output, soft, y, self.recipe)

    def require_finite(self, loss: float, epoch: int) -> None:
        """Raise CellError for a loss that is NaN or infinite."""
        if not math.isfinite(loss):
            raise CellError(
                f"the loss became {loss} in epoch {epoch + 1} of {self.phase.name} (learning rate "
                f"{self.recipe.lr:g}, {self.recipe.optimizer}); a lower rate or warm-up may help"
            )

    def require_finite_weights(self, epoch: int) -> None:
        """Raise CellError where a weight, a norm's statistic or an architecture parameter is NaN or infinite."""
        tensors = dict(self.model.state_dict()) | {f"architecture.{i}": p for i, p in enumerate(self.architecture)}
        tensors = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
        finite = torch.stack([tensor.isfinite().all() for tensor in tensors.values()]).tolist()
        bad = [name for name, good in zip(tensors, finite, strict=True) if not good]
        if bad:
            raise CellError(
                f"{len(bad)} of {len(tensors)} weight tensors ({bad[0]} first) hold values that are not finite after "
                f"epoch {epoch + 1} of {self.phase.name} (learning rate {self.recipe.lr:g}, {self.recipe.optimizer}); "
                "a lower rate or warm-up may help"
            )


def _penalised(loss: Tensor, search: Search) -> Tensor:
    """The loss of the architecture's step. Gradients are added up over processes, and each has the whole penalty."""
    return loss if search.penalty is None else loss + search.penalty().to(loss) / parallel.size()


def _set_gradients(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
