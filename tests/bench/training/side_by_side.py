"""What one process and two are compared on: phases and searches of a few steps on embedded digits."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from bench.interface.cell import Recipe
from bench.interface.loading import set_workers
from bench.interface.log import TrainingLog
from bench.interface.method import Budget, Method, Search
from bench.interface.task import DataInfo, Splits
from bench.structure.graph import PruningGraph
from bench.training import parallel
from bench.training.context import search_context
from bench.training.loop import Phase, train
from methods.dais import DAIS
from methods.dcss import DCSS
from methods.gdp import GDP
from methods.slimming import Slimming
from methods.tas import TAS
from tasks.classification import Classification
from tasks.data.reading import Sample
from tasks.data.streamed import Streamed
from tests.bench.training.killed import Kill, Killed
from tests.bench.training.small import SmallResNet

CPU = torch.device("cpu")


class Exact(Classification):
    """Computes in float64, so that rounding stays rounding: a search decides, and would make much of little."""

    def network(self, info: DataInfo) -> nn.Module:
        model = SmallResNet(len(info.classes), info.channels).double()
        model.register_forward_pre_hook(_widened)
        return model

    def loss(self, output: Tensor, target: Tensor, recipe: Recipe) -> Tensor:
        return F.cross_entropy(output, target, label_smoothing=recipe.label_smoothing)


def _widened(model: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (args[0].double(),)


TASK = Exact("digits", "resnet8", train_size=60)
RECIPE = TASK.recipe.model_copy(update={"precision": "fp32", "batch_size": 15, "lr": 0.02, "grad_clip": 1.0})
"""Fifteen samples: of two processes one has a sample more."""
METHODS: dict[str, Method] = {
    "dcss": DCSS(),
    "dais": DAIS(),
    "tas": TAS(),
    "gdp": GDP(),
    "slimming": Slimming(),
    "slimming, no penalty": Slimming(strength=0.0),
}


class Noisy(nn.Module):
    """A network that draws random numbers: of each pixel, of each channel and of each sample."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.pixels, self.channels = net, nn.Dropout(0.2), nn.Dropout2d(0.3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.channels(self.pixels(x).expand(-1, 4, -1, -1)).mean(1, keepdim=True)
        kept = torch.empty(len(x), 1, 1, 1).bernoulli_(0.9)
        return self.net(x * kept)


class OverBatch(Exact):
    """A loss that is not a mean over samples."""

    def loss(self, output: Tensor, target: Tensor, recipe: Recipe) -> Tensor:
        return super().loss(output, target, recipe) + output.softmax(1).mean(0).square().sum().sqrt()


class Counting(Streamed):
    """Counts the samples that this process reads to train on."""

    read: ClassVar[int] = 0

    def _sample(self, number: int, seeds: tuple[int, ...]) -> Sample:
        Counting.read += bool(seeds)
        return super()._sample(number, seeds)


def streamed(root: Path) -> Splits:
    """2 × 20 images that are read from files."""
    data = Classification("imagefolder:pictures", "resnet8", image_size=16, stream=True).load(root)
    assert isinstance(data.train, Streamed)
    return replace(data, train=Counting(**vars(data.train)))


def results(root: Path) -> dict[str, Tensor]:
    """Weights, statistics and figures that each case ends with, by case and name.

    Args:
        root: of `streamed`; checkpoints are put there.
    """
    torch.set_num_threads(1)
    set_workers(0)
    data = TASK.load(None)
    graph = PruningGraph.trace(SmallResNet(), TASK.example(data.info))
    torch.set_default_dtype(torch.float64)
    try:
        return _results(data, graph) | _from_files(streamed(root)) | _resumed(data, root / f"{parallel.size()}.pt")
    finally:
        torch.set_default_dtype(torch.float32)


def _results(data: Splits, graph: PruningGraph) -> dict[str, Tensor]:
    torch.manual_seed(0)
    model = TASK.network(data.info)
    found: dict[str, Tensor] = {}

    def trained(case: str, network: nn.Module, task: Exact = TASK, **options: Any) -> nn.Module:
        log = TrainingLog()
        val = data.val if case == "dense" else None
        given = copy.deepcopy(network)
        train(given, task, data.train, RECIPE, Phase("dense", 2, 0, CPU), val=val, log=log, **options)
        found.update({f"{case}/{name}": t for name, t in given.state_dict().items()})
        found[f"{case}/loss"] = torch.tensor([row["loss"] for row in log.rows])
        return given

    teacher = trained("dense", model)
    trained("noise", Noisy(model))
    trained("distilled", model, teacher=copy.deepcopy(teacher))
    trained("loss over the batch", model, OverBatch("digits", "resnet8", train_size=60))
    for name, method in METHODS.items():
        for blind in (False, True) if name in ("dcss", "gdp") else (False,):
            found.update(_searched(f"{name}{', blind' * blind}", method, teacher, graph, data, blind=blind))
    return found


def _resumed(data: Splits, checkpoint: Path) -> dict[str, Tensor]:
    """The dense network of `_results`, from the checkpoint that a run left which was stopped after its first epoch."""
    phase, log = Phase("dense", 2, 0, CPU, checkpoint), TrainingLog()
    torch.manual_seed(0)
    model = TASK.network(data.info)
    with contextlib.suppress(Killed):
        train(copy.deepcopy(model), TASK, data.train, RECIPE, phase, observer=Kill(1))
    train(model, TASK, data.train, RECIPE, phase, log=log)
    found = {f"resumed/{name}": t for name, t in model.state_dict().items()}
    return found | {"resumed/loss": torch.tensor([row["loss"] for row in log.rows])}


def _from_files(data: Splits) -> dict[str, Tensor]:
    """A network, and a bi-level search, trained on images that are read from files."""
    task = Exact("imagefolder:pictures", "resnet8", image_size=16, stream=True)
    torch.manual_seed(0)
    model = task.network(data.info)
    recipe, found = RECIPE.model_copy(update={"batch_size": 5}), dict[str, Tensor]()
    given, log = copy.deepcopy(model), TrainingLog()
    train(given, task, data.train, recipe, Phase("dense", 2, 0, CPU), log=log)
    found.update({f"streamed/{name}": t for name, t in given.state_dict().items()})
    found["streamed/loss"] = torch.tensor([row["loss"] for row in log.rows])
    gates = torch.zeros(16, requires_grad=True)
    model.register_forward_pre_hook(lambda _, args: (args[0] * gates.sigmoid(),))
    search = Search(torch.optim.SGD([gates], lr=0.5))
    train(model, task, data.train, recipe, Phase("search", 1, 0, CPU), search=search)
    return found | {"streamed/gates": gates.detach()}


def _searched(
    case: str, method: Method, model: nn.Module, graph: PruningGraph, data: Splits, *, blind: bool
) -> dict[str, Tensor]:
    """What is in the search's state and in the network's, seen as the search ends its last step."""
    ctx = search_context(TASK, data.visible, RECIPE, epochs=2, seed=0, device=CPU, blind=blind)
    plain: Callable[..., nn.Module] = ctx.trainer
    found: dict[str, Tensor] = {}

    def watched(network: nn.Module, search: Any, recipe: Any, penalty: Any) -> nn.Module:
        plain(network, search, recipe, penalty)
        found.update({f"{case}/{name}": t.detach().clone() for name, t in network.state_dict().items()})
        for part, held in search.state.items() if search else ():
            for name, t in held.state_dict().items():
                found[f"{case}/search/{part}.{name}"] = t.detach().clone()
        return network

    ctx.trainer = watched
    method.search(copy.deepcopy(model), graph, TASK, Budget(0.5), ctx)
    found[f"{case}/loss"] = torch.tensor([row["loss"] for row in ctx.log.rows])
    return found


def one_of_two(rank: int, port: int, file: Path, root: Path) -> None:
    """One of two processes; each writes what came of it, and how much it has read."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    parallel.join(CPU)
    found = results(root) | {"read": torch.tensor(Counting.read)}
    save_file({name: t.contiguous() for name, t in found.items()}, file.with_suffix(f".{rank}"))
    parallel.leave()
