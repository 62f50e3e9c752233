"""What the tests of searches share: a trained network on embedded digits, and ways to run or to watch a search."""

from __future__ import annotations

import copy
import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.interface.cell import Recipe
from bench.interface.method import Budget, Context, Found, Method, Search
from bench.interface.task import Splits, Task
from bench.search.fit import Fitted, fit
from bench.structure.graph import PruningGraph
from bench.training.loop import train
from tasks.classification import Classification
from tasks.segmentation import Segmentation
from tasks.super_resolution import SuperResolution

CPU = torch.device("cpu")


@dataclass
class Workbench:
    """A dense network with its task, data and graph."""

    task: Task
    data: Splits
    recipe: Recipe
    model: nn.Module
    graph: PruningGraph

    def context(self, epochs: int, seed: int = 0, kind: type[Context] = Context, **options: Any) -> Any:
        options.setdefault("recipe", self.recipe)
        return kind(task=self.task, data=self.data.visible, device=CPU, seed=seed, epochs=epochs, **options)

    def search(self, method: Method, ratio: float, ctx: Context) -> tuple[Found, Fitted]:
        found = method.search(copy.deepcopy(self.model), self.graph, self.task, Budget(ratio), ctx)
        return found, fit(self.graph, found, Budget(ratio))


def workbench(task: Task, epochs: int, **recipe: Any) -> Workbench:
    torch.set_num_threads(1)
    data = task.load(None)
    chosen = task.recipe.model_copy(update={"precision": "fp32", **recipe})
    torch.manual_seed(0)
    model = task.network(data.info)
    train(model, task, data.train, chosen, epochs=epochs, seed=0, device=CPU, phase="dense")
    return Workbench(task, data, chosen, model, PruningGraph.trace(model, task.example(data.info)))


@functools.cache
def digits(model: str = "resnet8", epochs: int = 6, **recipe: Any) -> Workbench:
    return workbench(Classification("digits", model), epochs, **{"batch_size": 32, "lr": 0.05, **recipe})


@functools.cache
def segmentation() -> Workbench:
    task = Segmentation("scattered-digits", "smp:unet/mobilenet_v2", (32, 32), train_size=160, test_size=8)
    return workbench(task, 1, batch_size=8)


@functools.cache
def super_resolution() -> Workbench:
    task = SuperResolution("photographs", "edsr-tiny", patch=12, crops=24, example_size=(24, 24))
    return workbench(task, 4)


class Stop(Exception):
    """Raised in the middle of a search."""


def resumed_and_not(bench: Workbench, method: Method, ratio: float, folder: Path) -> tuple[Any, Any]:
    """(found, rows) of an uninterrupted search, and of one that was killed after its second epoch of four."""

    def stop(phase: str, epoch: int, row: dict[str, Any]) -> None:
        if epoch == 2:
            raise Stop

    whole = bench.context(4, workdir=folder / "whole")
    expected = bench.search(method, ratio, whole)[0]
    try:
        bench.search(method, ratio, bench.context(4, workdir=folder / "part", on_epoch=stop))
        raise AssertionError("the search was not interrupted")
    except Stop:
        pass
    again = bench.context(4, workdir=folder / "part")
    found = bench.search(method, ratio, again)[0]
    assert [row["epoch"] for row in again.trajectory] == [1, 2, 3, 4]

    def rows(ctx: Context) -> list[dict[str, Any]]:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in ctx.trajectory]

    assert again.snapshots == whole.snapshots
    return (expected, rows(whole)), (found, rows(again))


def assert_same_found(a: Found, b: Found) -> None:
    assert a.model is not None and b.model is not None
    for (name, p), q in zip(a.model.state_dict().items(), b.model.state_dict().values(), strict=True):
        assert torch.equal(p, q), name
    for name in a.scores:
        assert torch.equal(a.scores[name], b.scores[name]), name
    assert a.drop_blocks == b.drop_blocks


class Cost(Context):
    """Instead of training: epochs of a dense network and of the search in turn, timed and weighed."""

    def train(self, model: nn.Module, search: Search | None = None, *, recipe: Recipe | None = None) -> nn.Module:
        dense = copy.deepcopy(model)  # hooks of the copy act on copies of the gates and are removed
        for module in dense.modules():
            module._forward_hooks.clear()
            module._forward_pre_hooks.clear()

        assert search is not None
        start_of = {name: copy.deepcopy(part.state_dict()) for name, part in search.state.items()}

        def epoch(network: nn.Module, extra: Search | None) -> None:
            for name, part in extra.state.items() if extra else ():
                part.load_state_dict(start_of[name])  # a finished search has less to do
            train(
                network, self.task, self.data.train, self.recipe, epochs=1, seed=0, device=CPU, phase="p", search=extra
            )

        def saved(network: nn.Module, extra: Search | None) -> int:
            total = 0

            def pack(tensor: torch.Tensor) -> torch.Tensor:
                nonlocal total
                total += tensor.nbytes
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                epoch(network, extra)
            return total

        # Halves may give one batch less than the whole: compare passes, not epochs.
        n, size = len(self.data.train), self.recipe.batch_size
        passes = (2 * (n // 2 // size) if search.bilevel else n // size) / (n // size)
        self.memory = saved(model, search) / saved(dense, None) / passes
        times: list[tuple[float, float]] = []
        for _ in range(self.epochs):
            pair = []
            for network, extra in ((model, search), (dense, None)):
                start = time.process_time()  # not the time that other processes take
                epoch(network, extra)
                pair.append(time.process_time() - start)
            times.append((pair[0], pair[1]))
        self.time = statistics.median(t for t, _ in times) / statistics.median(t for _, t in times) / passes
        return model


@dataclass
class Watched(Context):
    """Calls `look(model, search)` in place of training."""

    look: Callable[[nn.Module, Search], None] = lambda model, search: None

    def train(self, model: nn.Module, search: Search | None = None, *, recipe: Recipe | None = None) -> nn.Module:
        assert search is not None
        self.look(model, search)
        return model
