"""The files that `prunebench new` writes: adapters that work as they stand, their tests, and a package for them.

In each text `{cls}`, `{name}` and `{module}` stand for the adapter's class, its name, and the module that has it.
"""

from __future__ import annotations

METHOD = '''"""{cls}: say what it does, and cite paper, section and equation.

Published: … Reconstructed: …
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from bench.interface.cell import Recovery
from bench.interface.method import Budget, Context, Found
from bench.interface.task import Task

if TYPE_CHECKING:
    from torch import nn

    from bench.structure.graph import PruningGraph


@dataclass(frozen=True)
class {cls}:
    """Keep the channels whose weights have the largest norms."""

    power: Annotated[float, Field(gt=0)] = 2.0
    """Exponent of the norm. Every field is a hyper-parameter and is part of a cell's identity."""

    searches: ClassVar[bool] = False  # True: train with ctx.train(...), which spends the search's epochs
    needs_dense: ClassVar[bool] = True
    dead_lowest: ClassVar[bool] = True  # a channel of zeros has the lowest score of its group; `check` tries it
    recovery: ClassVar[Recovery] = "finetune"  # the paper's own, used under protocol "paper"
    standing: ClassVar[str] = "say what is published and what is reconstructed"

    def search(self, model: nn.Module, graph: PruningGraph, task: Task, budget: Budget, ctx: Context) -> Found:
        # One score a channel, [C_g] a group. The budget fit removes the lowest until the MACs are on target.
        return Found(scores=graph.channel_scores(model, p=self.power), scope="layer")
'''

METHOD_TEST = '''"""The method {name}."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from bench import PruningGraph
from bench.contract.suite import METHOD_PROPERTIES, MethodTrial
from bench.interface.registry import make_method


@pytest.fixture(scope="module")
def trial() -> MethodTrial:
    return MethodTrial("{name}")


@pytest.mark.parametrize("holds", METHOD_PROPERTIES, ids=lambda p: p.__name__)
def test_contract(trial: MethodTrial, holds: Callable[[MethodTrial], None]) -> None:
    holds(trial)


def test_hyper_parameters() -> None:
    assert make_method("{name}", {{"power": 1.0}}) != make_method("{name}", {{}})


def test_the_scores_by_hand() -> None:
    """Replace by values of the method's equations, computed on paper."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(2, 1, 1, bias=False))
    with torch.no_grad():
        model.get_parameter("0.weight").copy_(torch.tensor([3.0, -2.0]).view(2, 1, 1, 1))
    graph = PruningGraph.trace(model, torch.randn(1, 1, 4, 4))
    assert graph.channel_scores(model, p=2)["0"].tolist() == [9.0, 4.0]
'''

TASK = '''"""{cls}: say what the networks are to find, and where the data come from.

As it stands, they find the centre of a bright spot in images that are drawn at random.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bench.errors import RequestError, unknown
from bench.interface.cell import Recipe
from bench.interface.task import DataInfo, Split, Splits
from bench.lazy import F, nn, torch

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 16
"""Height and width of an image, in pixels."""


class Spots:
    """Images [N, 1, SIDE, SIDE] and the centres of their spots [N, 2], as shares of a side."""

    def __init__(self, images: Tensor, centres: Tensor) -> None:
        self.images, self.centres = images, centres

    def __len__(self) -> int:
        return len(self.images)

    def batches(
        self, batch_size: int, *, seed: int, epoch: int, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        # The same seed and epoch must give the same batches. Seeds go up to 2⁴⁸.
        random = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
        order = torch.randperm(len(self), generator=random)
        for start in range(0, len(self) - batch_size + 1, batch_size):
            yield self._gather(order[start : start + batch_size], device)

    def ordered(self, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        for index in torch.arange(len(self)).split(batch_size):
            yield self._gather(index, device)

    def halves(self, seed: int) -> tuple[Spots, Spots]:
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        one, other = (order[: len(self) // 2], order[len(self) // 2 :])
        return Spots(self.images[one], self.centres[one]), Spots(self.images[other], self.centres[other])

    def _gather(self, index: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        return self.images[index].to(device), self.centres[index].to(device)


def draw(count: int, seed: int) -> Spots:
    """Spots at random places in noise."""
    random = torch.Generator().manual_seed(seed)
    centres = 0.2 + 0.6 * torch.rand(count, 2, generator=random)
    grid = (torch.arange(SIDE) + 0.5) / SIDE
    squares = (grid - centres[..., None]) ** 2  # [N, 2, SIDE]
    spots = torch.exp(-50 * (squares[:, 0, :, None] + squares[:, 1, None, :]))
    return Spots((spots + 0.2 * torch.randn(spots.shape, generator=random))[:, None], centres)


@dataclass(frozen=True)
class {cls}:
    """Networks that map an image [1, H, W] to the centre of its spot [2]."""

    dataset: str
    model: str
    train_size: int = 400
    """Images of the training split. Every field is an option of a suite's workload."""

    metric: ClassVar[str] = "error"
    unit: ClassVar[str] = "px"
    higher_is_better: ClassVar[bool] = False
    recipe: ClassVar[Recipe] = Recipe(lr=0.05, batch_size=32, precision="fp32")
    finetune: ClassVar[Recipe] = Recipe(lr=0.01, batch_size=32, precision="fp32")
    trial: ClassVar[Mapping[str, Any]] = {{"dataset": "spots", "model": "small", "train_size": 100}}

    @classmethod
    def datasets(cls) -> Mapping[str, str]:
        return {{"spots": "bright spots in noise, drawn at random; embedded"}}

    @classmethod
    def models(cls) -> Mapping[str, str]:
        return {{"small": "three convolutions and a linear layer"}}

    def validate(self) -> None:
        if self.dataset not in self.datasets():
            raise unknown("data set", self.dataset, self.datasets())
        if self.model not in self.models():
            raise unknown("model", self.model, self.models())
        if self.train_size < 2:
            raise RequestError(f"train_size = {{self.train_size}} is not allowed; use 2 or more")

    def load(self, root: Path | None, *, download: bool = False) -> Splits:
        # Data of your own lie below `root`, the folder that --data names. Raise DataError where they are not there.
        train, val, test = draw(self.train_size, 0), draw(100, 1), draw(200, 2)
        stored = b"".join(t.numpy().tobytes() for s in (train, val, test) for t in (s.images, s.centres))
        fingerprint = hashlib.sha256(stored).hexdigest()[:16]
        return Splits(train, val, lambda: test, DataInfo(1, SIDE, SIDE), fingerprint)

    def network(self, info: DataInfo) -> nn.Module:
        def layer(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
            conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
            return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]

        layers = [*layer(info.channels, 16, 1), *layer(16, 32, 2), *layer(32, 32, 2)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * (info.height // 4) * (info.width // 4), 2))

    def example(self, info: DataInfo) -> Tensor:
        return torch.zeros(1, info.channels, info.height, info.width)

    def loss(self, output: Any, target: Tensor, recipe: Recipe) -> Tensor:
        return F.mse_loss(output, target)

    def distil(self, output: Any, teacher: Any, target: Tensor, recipe: Recipe) -> Tensor:
        return F.mse_loss(output, teacher)

    def evaluate(self, model: nn.Module, split: Split, device: torch.device, recipe: Recipe) -> dict[str, float]:
        model.to(device).eval()
        with torch.no_grad():
            distances = [(model(x) - y).norm(dim=1) for x, y in split.ordered(recipe.batch_size, device)]
        return {{self.metric: SIDE * float(torch.cat(distances).mean())}}

    def references(self, splits: Splits, test: Split) -> dict[str, dict[str, float]]:
        cpu = torch.device("cpu")
        distances = [(y - 0.5).norm(dim=1) for _, y in test.ordered(100, cpu)]
        return {{"middle of the image": {{self.metric: SIDE * float(torch.cat(distances).mean())}}}}

    def pictures(
        self, networks: Mapping[str, nn.Module], test: Split, folder: Path, device: torch.device, recipe: Recipe
    ) -> list[str]:
        return []  # PNG files drawn below `folder`: sample-1.png, …; the same samples for every network
'''

TASK_TEST = '''"""The task {name}."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from bench.contract.suite import TASK_PROPERTIES, TaskTrial
from bench.errors import RequestError
from bench.interface.registry import make_task


@pytest.fixture(scope="module")
def trial() -> TaskTrial:
    return TaskTrial("{name}")


@pytest.mark.parametrize("holds", TASK_PROPERTIES, ids=lambda p: p.__name__)
def test_contract(trial: TaskTrial, holds: Callable[[TaskTrial], None]) -> None:
    holds(trial)


def test_the_loss_by_hand(trial: TaskTrial) -> None:
    """Replace by values of the task's own losses and metrics, computed on paper."""
    output, target = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.5, 0.1]])
    assert float(trial.task.loss(output, target, trial.task.recipe)) == pytest.approx(0.08)


def test_an_unknown_data_set_is_refused() -> None:
    with pytest.raises(RequestError, match="unknown data set 'nope'"):
        make_task("{name}", {{"dataset": "nope", "model": "small"}})
'''

PROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "prunebench-{name}"
version = "0.1.0"
description = "{kind} {name} for prunebench"
readme = "README.md"
requires-python = ">=3.11"
# prunebench is installed from its checkout, and not from an index; torch and pydantic come with it.
dependencies = []

[project.entry-points."prunebench.{group}"]
{name} = "{module}:{cls}"

[tool.setuptools]
packages = ["{module}"]

[tool.ruff]
line-length = 120
target-version = "py311"

[tool.ruff.lint]
select = ["E", "F", "I", "B", "UP"]

[tool.ruff.lint.isort]
known-first-party = ["bench", "methods", "tasks"]

[tool.pyright]
pythonVersion = "3.11"
"""

README = """# prunebench-{name}

The {kind} `{name}`, for prunebench.

```sh
pip install -e .            # in the environment that has prunebench: its entry point registers {name};
                            # where there is no network: pip install --no-build-isolation -e .
prunebench check {name}     # the contract that every {kind} holds, property by property
python -m pytest            # the same as tests, with those of your own
{run}
```

`{module}/__init__.py` has the {kind}, `tests/test_{module}.py` its tests.
"""
