"""What the tests of searches share: a trained network on embedded digits, and ways to run or to watch a search."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench.interface.cell import Recipe
from bench.interface.method import Budget, Context, Found, Method, Penalty, Search
from bench.interface.task import Splits, Task
from bench.search.fit import Fitted, fit
from bench.structure.graph import PruningGraph
from bench.training.context import search_context
from bench.training.loop import Phase, train
from tasks.classification import Classification
from tasks.segmentation import Segmentation
from tasks.super_resolution import SuperResolution
from tests.bench.training.killed import Kill, Killed

CPU = torch.device("cpu")


@dataclass
class Workbench:
    """A dense network with its task, data and graph."""

    task: Task
    data: Splits
    recipe: Recipe
    model: nn.Module
    graph: PruningGraph

    def context(self, epochs: int, seed: int = 0, *, recipe: Recipe | None = None, **options: Any) -> Context:
        given = recipe or self.recipe
        return search_context(self.task, self.data.visible, given, epochs=epochs, seed=seed, device=CPU, **options)

    def search(self, method: Method, ratio: float, ctx: Context) -> tuple[Found, Fitted]:
        found = method.search(copy.deepcopy(self.model), self.graph, self.task, Budget(ratio), ctx)
        return found, fit(self.graph, found, Budget(ratio))


def workbench(task: Task, epochs: int, *, val: int = 0, **recipe: Any) -> Workbench:
    """A network of the task, trained for so many epochs; `val` images to validate on, or 0: all."""
    torch.set_num_threads(1)
    data: Any = task.load(None)
    if val:
        data = dataclasses.replace(data, val=data.val.subset(torch.arange(val)))
    chosen = task.recipe.model_copy(update={"precision": "fp32", **recipe})
    torch.manual_seed(0)
    model = task.network(data.info)
    train(model, task, data.train, chosen, Phase("dense", epochs, 0, CPU))
    return Workbench(task, data, chosen, model, PruningGraph.trace(model, task.example(data.info)))


@functools.cache
def digits(model: str = "resnet8", epochs: int = 6) -> Workbench:
    """At the size of the scans: a step takes hardly longer than its overhead."""
    task = Classification("digits", model, image_size=8, train_size=640)
    return workbench(task, epochs, batch_size=32, lr=0.05)


@functools.cache
def enlarged_digits(model: str = "resnet8", images: int = 160) -> Workbench:
    """Four times the pixels, for what a step keeps and takes; 0 images: all."""
    return workbench(Classification("digits", model, train_size=images), 1, batch_size=32, lr=0.05)


@functools.cache
def _unet(model: str, images: int) -> Workbench:
    """No test reads what it comes to on its few images."""
    task = Segmentation("scattered-digits", model, (32, 32), train_size=images, test_size=8)
    return workbench(task, 1, val=16, batch_size=4)


def small_unet() -> Workbench:
    """A U-Net with depthwise convolutions."""
    return _unet("smp:unet/tu-test_efficientnet", 48)


def residual_unet() -> Workbench:
    """A U-Net with a block that can go."""
    return _unet(f"{__name__}:narrow_unet", 80)


def narrow_unet() -> nn.Module:
    """For scattered digits, with a decoder that is an eighth as wide as the library's, and 8 channels at least."""
    import segmentation_models_pytorch as smp

    widths = (32, 16, 8, 8, 8)
    return smp.Unet("tu-test_resnet", encoder_weights=None, decoder_channels=widths, in_channels=3, classes=11)


@functools.cache
def super_resolution() -> Workbench:
    task = SuperResolution("photographs", "edsr-tiny", patch=12, crops=24, example_size=(24, 24))
    return workbench(task, 4)


def chain(channels: int = 4) -> tuple[nn.Module, PruningGraph]:
    """conv(1 -> n) and conv(n -> 2), 3×3 on 4×4: 9·16·n + 9·16·2n = 432 n multiply-adds, n being `channels` at most."""
    torch.manual_seed(0)
    first = nn.Conv2d(1, channels, 3, padding=1, bias=False)
    model = nn.Sequential(first, nn.ReLU(), nn.Conv2d(channels, 2, 3, padding=1))
    return model, PruningGraph.trace(model, torch.randn(1, 1, 4, 4))


def rows_of(ctx: Context) -> list[dict[str, Any]]:
    """What was logged, but for how long it took."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in ctx.log.rows]


def assert_resuming_is_exact(bench: Workbench, method: Method, ratio: float, folder: Path) -> None:
    """A search of four epochs that was killed after its second, or after its last, ends as one that was not."""
    whole = bench.context(4, workdir=folder / "whole")
    expected = bench.search(method, ratio, whole)[0]
    with pytest.raises(Killed):
        bench.search(method, ratio, bench.context(4, workdir=folder / "part", observer=Kill(2)))
    again = bench.context(4, workdir=folder / "part")
    found = bench.search(method, ratio, again)[0]
    assert [row["epoch"] for row in again.log.rows] == [1, 2, 3, 4]
    assert rows_of(again) == rows_of(whole)
    assert again.log.snapshots == whole.log.snapshots
    assert_same_found(expected, found)
    over = bench.context(4, workdir=folder / "whole")
    assert_same_found(expected, bench.search(method, ratio, over)[0])
    assert rows_of(over) == rows_of(whole)


def assert_same_found(a: Found, b: Found) -> None:
    assert (a.model is None) == (b.model is None)
    if a.model is not None and b.model is not None:
        for (name, p), q in zip(a.model.state_dict().items(), b.model.state_dict().values(), strict=True):
            assert torch.equal(p, q), name
    for name in a.scores:
        assert torch.equal(a.scores[name], b.scores[name]), name
    assert a.widths == b.widths
    assert a.drop_blocks == b.drop_blocks


@dataclass
class Cost:
    """In place of training: weighs and times epochs of the search against epochs of the dense network."""

    bench: Workbench
    rounds: int = 1
    memory: float = math.nan
    """Bytes kept for backward passes, in units of the dense network's, over the same number of passes."""
    time: float = math.nan
    """Processor time in the same unit."""

    def __call__(
        self, model: nn.Module, search: Search | None, recipe: Recipe, penalty: Penalty | None = None
    ) -> nn.Module:
        assert search is not None
        dense = copy.deepcopy(self.bench.model)
        start_of = {name: copy.deepcopy(part.state_dict()) for name, part in search.state.items()}

        def epoch(network: nn.Module, extra: Search | None) -> None:
            for name, part in extra.state.items() if extra else ():
                part.load_state_dict(start_of[name])  # a finished search has less to do
            train(network, self.bench.task, self.bench.data.train, recipe, Phase("p", 1, 0, CPU), search=extra)

        # Halves may give one batch less than the whole: compare passes, not epochs.
        n, size = len(self.bench.data.train), recipe.batch_size
        passes = (2 * (n // 2 // size) if search.bilevel else n // size) / (n // size)
        self.memory = saved_bytes(lambda: epoch(model, search)) / saved_bytes(lambda: epoch(dense, None)) / passes
        searching, plain = [], []
        for _ in range(self.rounds):
            searching.append(processor_time(lambda: epoch(model, search)))
            plain.append(processor_time(lambda: epoch(dense, None)))
        self.time = statistics.median(searching) / statistics.median(plain) / passes
        return model


def cost_of(bench: Workbench, method: Method, *, rounds: int = 1, **recipe: Any) -> Cost:
    """What epochs of a search cost."""
    cost = Cost(bench, rounds)
    ctx = bench.context(1, recipe=bench.recipe.model_copy(update=recipe))
    bench.search(method, 0.5, dataclasses.replace(ctx, trainer=cost))
    return cost


def saved_bytes(run: Callable[[], Any]) -> int:
    """Bytes of the tensors that autograd keeps for backward passes while `run` runs."""
    total = 0

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal total
        total += tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return total


def processor_time(run: Callable[[], Any]) -> float:
    """Seconds of this process alone, not those that other processes take."""
    start = time.process_time()
    run()
    return time.process_time() - start
