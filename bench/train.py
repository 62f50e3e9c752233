"""The one training loop: dense networks, searches, recovery. Fairness rests on everyone using it.

An epoch depends on (seed, phase, epoch) and the state at its start alone, and that state is checkpointed, so a run
that was killed and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bench import quiet
from bench.adapters import Split, Task
from bench.cell import Recipe
from bench.errors import CellError


class Stateful(Protocol):
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


@dataclass
class Search:
    """What a differentiable search adds to the training loop.

    With `bilevel`, the training split is halved: each iteration takes a weight step on one half and an
    architecture step on the other, so that an epoch still passes once over the training split. Without it, the
    task loss of one batch moves weights and architecture together.
    """

    optimizer: torch.optim.Optimizer
    """Of the architecture parameters; the loop never touches its learning rate."""
    bilevel: bool = True
    penalty: Callable[[], Tensor] | None = None
    """Added to the loss of the architecture step."""
    before: Callable[[float], None] | None = None
    """Called before each iteration with the progress of the search in [0, 1): annealing."""
    before_architecture: Callable[[float], None] | None = None
    """Called between the weight step and the architecture step."""
    after: Callable[[float], None] | None = None
    """Called after each iteration with the progress in (0, 1]: proximal steps, controllers."""
    metrics: Callable[[], dict[str, float]] | None = None
    """Figures of the search for the trajectory, once an epoch."""
    snapshot: Callable[[], dict[str, list[float]]] | None = None
    """Arrays to draw over time, once an epoch."""
    state: dict[str, Stateful] = field(default_factory=dict)
    """What else must survive a restart, beside the model and the optimisers."""
    split_seed: int | None = None
    """Seed of the halving; the run's own by default."""

    @property
    def parameters(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]


@cache
def _computes_in_bf16(device_type: str) -> bool:
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def resolve_precision(recipe: Recipe, device: torch.device) -> str:
    """`fp32` or `bf16`: what `precision = "auto"` comes to on this device."""
    if recipe.precision != "auto":
        return recipe.precision
    return "bf16" if _computes_in_bf16(device.type) else "fp32"


def autocast(recipe: Recipe, device: torch.device) -> AbstractContextManager[Any]:
    """bf16 autocast where the recipe asks for it, else nothing."""
    if resolve_precision(recipe, device) == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def resolve_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` -> a device.

    Raises:
        RequestError: `cuda` is asked for and there is none.
    """
    from bench.errors import RequestError

    if name not in ("auto", "cpu", "cuda"):
        raise RequestError(f"unknown device {name!r}; available: auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise RequestError("device 'cuda' was asked for, but torch sees no CUDA device; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def stage_seed(seed: int, *stage: object) -> int:
    """A seed for one stage of a run, independent of what ran before."""
    text = "/".join(map(str, (seed, *stage)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


def to_device(model: nn.Module, device: torch.device) -> nn.Module:
    """On `device`, in channels_last, which is what convolutions are fastest in on every device seen so far."""
    return model.to(device=device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


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
    *,
    epochs: int,
    seed: int,
    device: torch.device,
    phase: str,
    val: Split | None = None,
    search: Search | None = None,
    teacher: nn.Module | None = None,
    checkpoint: Path | None = None,
    trajectory: list[dict[str, Any]] | None = None,
    snapshots: dict[str, list[dict[str, Any]]] | None = None,
    on_epoch: Callable[[str, int, dict[str, Any]], None] | None = None,
    progress: Callable[[str, int, int, float], None] | None = None,
) -> nn.Module:
    """Train `model` in place for `epochs` and return it. The last epoch's weights are the result.

    Args:
        teacher: where given, the loss is the task's distillation loss against its output.
        checkpoint: file that is replaced after every epoch, and resumed from where it exists.
        trajectory, snapshots: one row an epoch is appended; a resumed run finds its earlier rows restored.

    Raises:
        CellError: the loss became NaN or infinite, or the split is smaller than one batch.
    """
    trajectory = trajectory if trajectory is not None else []
    snapshots = snapshots if snapshots is not None else {}
    to_device(model, device)
    architecture = search.parameters if search else []
    frozen = {id(p) for p in architecture}
    weights = [p for p in model.parameters() if p.requires_grad and id(p) not in frozen]
    optimizer = make_optimizer(weights, recipe, device)
    if teacher is not None:
        to_device(teacher, device).eval().requires_grad_(False)

    halves: tuple[Split, ...] = (split,)
    if search and search.bilevel:
        halves = split.halves(stage_seed(seed if search.split_seed is None else search.split_seed, phase, "halves"))
    batch_size = min(recipe.batch_size, min(len(half) for half in halves))
    if batch_size < 2:
        raise CellError(f"the training split has {len(split)} samples, too few for a batch of two in each part")
    steps_per_epoch = min(len(half) // batch_size for half in halves)
    steps = epochs * steps_per_epoch

    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        with autocast(recipe, device):
            output = model(x)
            if teacher is None:
                return task.loss(output, y, recipe)
            with torch.no_grad():
                soft = teacher(x)
            return task.distil(output, soft, y, recipe)

    stateful: dict[str, Stateful] = {"model": model, "optimizer": optimizer}
    if search:
        stateful |= {"search_optimizer": search.optimizer, **{f"search_{k}": v for k, v in search.state.items()}}
    first = _restore(checkpoint, stateful, trajectory, snapshots, phase)

    for epoch in range(first, epochs):
        start = time.perf_counter() - quiet.waited()
        torch.manual_seed(stage_seed(seed, phase, "epoch", epoch))
        model.train()
        total = torch.zeros((), device=device)
        loss_value = math.nan
        streams: list[Iterator[tuple[Tensor, Tensor]]] = [
            half.batches(batch_size, seed=stage_seed(seed, phase, "data", i), epoch=epoch, device=device)
            for i, half in enumerate(halves)
        ]
        for index in range(steps_per_epoch):
            step = epoch * steps_per_epoch + index
            with quiet.step():
                if search and search.before:
                    search.before(step / steps)
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(recipe, step, steps, steps_per_epoch)
                loss = loss_of(*next(streams[0]))
                optimizer.zero_grad(set_to_none=True)
                if search and not search.bilevel:
                    search.optimizer.zero_grad(set_to_none=True)
                    (loss if search.penalty is None else loss + search.penalty()).backward()
                elif search:
                    # The architecture's gradient of this step would be thrown away: do not compute it.
                    for p, g in zip(weights, torch.autograd.grad(loss, weights, materialize_grads=True), strict=True):
                        p.grad = g
                else:
                    loss.backward()
                if recipe.grad_clip:
                    nn.utils.clip_grad_norm_(weights, recipe.grad_clip)
                optimizer.step()
                if search:
                    _architecture_step(search, architecture, loss_of, streams, step / steps)
                    if search.after:
                        search.after((step + 1) / steps)
            total += loss.detach()
            if index % 10 == 9 or index == steps_per_epoch - 1:
                loss_value = float(total) / (index + 1)
                if not math.isfinite(loss_value):
                    raise CellError(
                        f"the loss became {loss_value} in epoch {epoch + 1} of {phase} (learning rate "
                        f"{recipe.lr:g}, {recipe.optimizer}); a lower rate or warm-up may help"
                    )
                if progress:
                    progress(phase, step + 1, steps, loss_value)
        row: dict[str, Any] = {"phase": phase, "epoch": epoch + 1, "loss": loss_value}
        row["lr"] = optimizer.param_groups[0]["lr"]
        if val is not None and len(val):
            row |= {f"val_{k}": v for k, v in task.evaluate(model, val, device, recipe).items()}
        if search and search.metrics:
            row |= search.metrics()
        if search and search.snapshot:
            for name, values in search.snapshot().items():
                snapshots.setdefault(name, []).append({"phase": phase, "epoch": epoch + 1, "values": values})
        row["seconds"] = time.perf_counter() - quiet.waited() - start
        trajectory.append(row)
        if checkpoint is not None:
            _save(checkpoint, stateful, trajectory, snapshots, phase, epoch + 1)
        if on_epoch:
            on_epoch(phase, epoch + 1, row)
    return model


def _architecture_step(
    search: Search,
    architecture: list[Tensor],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    streams: list[Iterator[tuple[Tensor, Tensor]]],
    progress: float,
) -> None:
    if search.before_architecture:
        search.before_architecture(progress)
    if search.bilevel:
        loss = loss_of(*next(streams[1]))
        if search.penalty is not None:
            loss = loss + search.penalty()
        gradients = torch.autograd.grad(loss, architecture, allow_unused=True)
        for p, g in zip(architecture, gradients, strict=True):
            p.grad = g
    search.optimizer.step()


def seconds_in(trajectory: list[dict[str, Any]], phase: str) -> float:
    """Seconds of training in `phase`, runs that were interrupted included."""
    return sum(row["seconds"] for row in trajectory if row["phase"] == phase)


def _save(
    path: Path,
    stateful: dict[str, Stateful],
    trajectory: list[dict[str, Any]],
    snapshots: dict[str, list[dict[str, Any]]],
    phase: str,
    epoch: int,
) -> None:
    state = {name: part.state_dict() for name, part in stateful.items()}
    save_state(path, {"phase": phase, "epoch": epoch, "state": state, "rows": trajectory, "snapshots": snapshots})


def _restore(
    path: Path | None,
    stateful: dict[str, Stateful],
    trajectory: list[dict[str, Any]],
    snapshots: dict[str, list[dict[str, Any]]],
    phase: str,
) -> int:
    """Load a checkpoint of this phase into `stateful`; the number of epochs already done."""
    saved = load_state(path) if path is not None else None
    if saved is None or saved["phase"] != phase:
        return 0
    for name, part in stateful.items():
        part.load_state_dict(saved["state"][name])
    trajectory[:] = saved["rows"]
    snapshots.clear()
    snapshots.update(saved["snapshots"])
    return int(saved["epoch"])


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values) so that a reader finds the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    torch.save(state, partial)
    partial.replace(path)


def load_state(path: Path) -> dict[str, Any] | None:
    """What `save_state` wrote, or None where there is nothing; tensors and plain values only, never code."""
    if not path.exists():
        return None
    return torch.load(path, map_location="cpu", weights_only=True)


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
