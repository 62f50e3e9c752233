"""What a task must offer: data in splits, a network, losses and an evaluation. Imports no torch.

A task is a frozen dataclass: its fields are its options, data arrives in the calls. Methods are handed `TrainVal`; the
test split exists for the runner alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from bench.interface.cell import Recipe

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Split(Protocol):
    """One split of a data set, held in memory."""

    def __len__(self) -> int: ...

    def batches(
        self, batch_size: int, *, seed: int, epoch: int, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Shuffled, augmented batches of one epoch; a last batch that is not full is left out.

        The same (seed, epoch) gives the same batches, whatever ran before: this is what makes resuming exact.
        """
        ...

    def ordered(self, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Every sample once, as stored, not augmented."""
        ...

    def halves(self, seed: int) -> tuple[Split, Split]:
        """Two disjoint random halves, for bi-level searches."""
        ...


@runtime_checkable
class DividedSplit(Split, Protocol):
    """A split that can read a part of every batch and leave the rest, where several processes train one network."""

    def part_of_batches(
        self, batch_size: int, rows: slice, *, seed: int, epoch: int, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """These rows of each of the batches that `batches` gives, to the bit."""
        ...


@dataclass(frozen=True)
class DataInfo:
    """What a network must know of its data."""

    channels: int
    height: int
    width: int
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainVal:
    """What a method may see of a data set."""

    train: Split
    val: Split


@dataclass(frozen=True)
class Splits:
    """A data set. `test` is a function so that nothing reads it by accident."""

    train: Split
    val: Split
    test: Callable[[], Split]
    info: DataInfo
    fingerprint: str = ""
    """Digest of what was loaded, recorded with each cell."""
    notes: tuple[str, ...] = ()
    """What a table must say beside the data set's name."""

    @property
    def visible(self) -> TrainVal:
        return TrainVal(self.train, self.val)


@runtime_checkable
class Task(Protocol):
    """A task adapter: a frozen dataclass with `dataset` and `model` and whatever options it needs."""

    metric: ClassVar[str]
    """Name of the figure that methods are ranked by, a key of what `evaluate` returns."""
    unit: ClassVar[str]
    higher_is_better: ClassVar[bool]
    recipe: ClassVar[Recipe]
    """Default training recipe."""
    finetune: ClassVar[Recipe]
    """Default recipe for recovery from trained weights."""
    trial: ClassVar[Mapping[str, Any]]
    """Options of a quick trial on embedded data, for the contract suite."""

    @property
    def dataset(self) -> str: ...

    @property
    def model(self) -> str: ...

    @classmethod
    def datasets(cls) -> Mapping[str, str]:
        """Data sets by name, each with one line about it."""
        ...

    @classmethod
    def models(cls) -> Mapping[str, str]:
        """Networks by name, each with one line about it."""
        ...

    def validate(self) -> None:
        """Refuse impossible options. Imports no torch.

        Raises:
            RequestError: with what was given and what is allowed.
        """
        ...

    def load(self, root: Path | None, *, download: bool = False) -> Splits:
        """Read the data set. `root`: the user's data folder, None for embedded data.

        Raises:
            DataError: naming the folder or file that is missing or unreadable.
        """
        ...

    def network(self, info: DataInfo) -> nn.Module:
        """The dense network, untrained unless the task's `pretrained` option says otherwise."""
        ...

    def example(self, info: DataInfo) -> Tensor:
        """One input batch of one sample, [1, C, H, W]: MACs and latency are stated at its size."""
        ...

    def loss(self, output: Any, target: Tensor, recipe: Recipe) -> Tensor:
        """Mean training loss of a batch, a scalar."""
        ...

    def distil(self, output: Any, teacher: Any, target: Tensor, recipe: Recipe) -> Tensor:
        """Mean loss of a batch against a teacher's output, a scalar."""
        ...

    def evaluate(self, model: nn.Module, split: Split, device: torch.device, recipe: Recipe) -> dict[str, float]:
        """All metrics of `model` on `split`, by name."""
        ...

    # Optional: `evaluate_samples(model, split, device, recipe) -> (metrics, Outcomes)`, the same figures with what was
    # made of each sample (`bench.interface.outcomes`). A report then states a second interval, over test samples.
    # Optional: `output_shape(shape, info) -> shape`, what a network must give for an input of `shape`. A network that
    # gives something else is then refused before anything is trained.
    # Optional: `untrained() -> Task`, the same task with a network for which nothing is fetched; needed by a task that
    # has an option such as `pretrained`.
    # Optional: `deployment(info) -> Mapping`, what a program that runs an exported network must know (plain values, for
    # `card.json`): how an image becomes the input, and what the output means.

    def references(self, splits: Splits, test: Split) -> dict[str, dict[str, float]]:
        """Metrics on `test` of baselines that need no network, by name: what a result must clearly beat."""
        ...

    def pictures(
        self, networks: Mapping[str, nn.Module], test: Split, folder: Path, device: torch.device, recipe: Recipe
    ) -> list[str]:
        """Draw what each network makes of the same few test samples, as PNG files below `folder`.

        The samples are the same for every cell of a workload, so that a report can place them side by side; it takes
        those whose names have a sample's number: `sample-1.png`, a strip of panels, or `target_0.png`, one panel.

        Args:
            networks: by name, in drawing order ("dense", "pruned").

        Returns:
            File names relative to `folder`; none where a picture says nothing.
        """
        ...


def untrained(task: Task) -> Task:
    """The task with a network whose weights are not fetched; the task itself where none would be."""
    own = getattr(task, "untrained", None)
    return own() if own is not None else task


def deployment(task: Task, info: DataInfo) -> dict[str, Any]:
    """What a program that runs the task's networks must know; nothing where the task does not say."""
    own = getattr(task, "deployment", None)
    return dict(own(info)) if own is not None else {}
