"""What a task and a method must offer, and what they are handed. Imports no torch.

Adapters are frozen dataclasses: their fields are the hyper-parameters, data arrives in the calls. Methods are
handed `TrainVal`; the test split exists for the runner alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from bench.cell import Recipe, Recovery

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from bench.budget import Budget
    from bench.graph import PruningGraph
    from bench.train import Search


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

    def references(self, splits: Splits, test: Split) -> dict[str, dict[str, float]]:
        """Metrics on `test` of baselines that need no network, by name: what a result must clearly beat."""
        ...

    def pictures(
        self, networks: Mapping[str, nn.Module], test: Split, folder: Path, device: torch.device, recipe: Recipe
    ) -> list[str]:
        """Draw what each network makes of the same few test samples, as PNG files below `folder`.

        The samples are the same for every cell of a workload, so that a report can place them side by side.

        Args:
            networks: by name, in drawing order ("dense", "pruned").

        Returns:
            File names relative to `folder`; none where a picture says nothing.
        """
        ...


@dataclass(frozen=True)
class Found:
    """What a method decided: scores alone, widths, or keep masks.

    Exactly one of three forms: `scores` with a `scope` (the budget fit removes the lowest); `widths` with scores
    (the fit starts from these widths and keeps the highest scores); `keep` (the fit starts from these masks and
    adds or removes the channels whose scores say so).
    """

    scores: Mapping[str, Tensor]
    """Per group, one score a channel, [C_g]; the highest are kept."""
    scope: str = "layer"
    """`layer`: one keep-ratio for all groups; `global`: one threshold over all scores."""
    widths: Mapping[str, int] | None = None
    keep: Mapping[str, Tensor] | None = None
    """Per group, [C_g] bool."""
    drop_blocks: tuple[str, ...] = ()
    model: nn.Module | None = None
    """The searched network at full width, where recovery should start from its weights; None: the dense one."""


@dataclass
class Context:
    """What a search may use. The shared loop, the visible splits, and where to log."""

    task: Task
    data: TrainVal
    device: torch.device
    seed: int
    epochs: int
    """Length of the search."""
    recipe: Recipe
    workdir: Path | None = None
    """Where a search's checkpoints go; None: it cannot be resumed."""
    trajectory: list[dict[str, Any]] = field(default_factory=list)
    snapshots: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    on_epoch: Callable[[str, int, dict[str, Any]], None] | None = None
    progress: Callable[[str, int, int, float], None] | None = None
    """Called with (phase, step, steps, loss) for the live display."""

    def note(self, text: str) -> None:
        """Something that a reader of the result should know, once."""
        if text not in self.notes:
            self.notes.append(text)

    def train(self, model: nn.Module, search: Search | None = None, *, recipe: Recipe | None = None) -> nn.Module:
        """Train `model` for the search's epochs in the shared loop; returns it, trained in place."""
        from bench.train import train

        return train(
            model,
            self.task,
            self.data.train,
            recipe or self.recipe,
            epochs=self.epochs,
            seed=self.seed,
            device=self.device,
            phase="search",
            val=self.data.val,
            search=search,
            checkpoint=self.workdir / "search.pt" if self.workdir else None,
            trajectory=self.trajectory,
            snapshots=self.snapshots,
            on_epoch=self.on_epoch,
            progress=self.progress,
        )


@runtime_checkable
class Method(Protocol):
    """A method adapter: a frozen dataclass whose fields are the method's hyper-parameters."""

    searches: ClassVar[bool]
    """True where `search` trains, and so spends the workload's search epochs."""
    needs_dense: ClassVar[bool]
    """False where nothing of a trained dense network is used."""
    recovery: ClassVar[Recovery]
    """The paper's own recovery, used under protocol `paper`."""
    standing: ClassVar[str]
    """One line: what is published and what is reconstructed."""
    # Optional. `prunes: ClassVar[bool] = False`: a control that prunes nothing stands once per seed, at budget 1.
    # `paper: ClassVar[dict[str, Any]]`: hyper-parameters that differ from the defaults under protocol `paper`.

    def search(self, model: nn.Module, graph: PruningGraph, task: Task, budget: Budget, ctx: Context) -> Found:
        """Decide what to keep. `model` is the method's own copy of the dense network."""
        ...
