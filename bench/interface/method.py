"""What a method must offer, and what it is handed. Imports no torch.

A method is a frozen dataclass: its fields are its hyper-parameters, data arrives in the call of `search`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, get_args, runtime_checkable

from bench.errors import RequestError
from bench.interface.cell import BUDGET_WORDS, BudgetKind, Recipe, Recovery
from bench.interface.log import Observer, TrainingLog
from bench.interface.task import Task, TrainVal

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from bench.structure.graph import PruningGraph

Penalty = Callable[[], "Tensor"]
"""A finite scalar with a gradient, computed anew in every step."""
Scope = Literal["layer", "global", "raw"]


@dataclass(frozen=True)
class Budget:
    """MACs or parameters to keep, as a fraction of the dense network's; `tolerance` on both sides, in the same unit.

    A method's `search` is always handed one of MACs: see `bench.search.fit.search_budget`.

    Raises:
        RequestError: a ratio outside (0, 1], a tolerance outside (0, 1), or another kind.
    """

    ratio: float
    tolerance: float = 0.005
    kind: BudgetKind = "macs"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.ratio) and 0 < self.ratio <= 1):
            raise RequestError(f"budget {self.ratio} is not allowed; use a kept fraction above 0 and up to 1")
        if not (math.isfinite(self.tolerance) and 0 < self.tolerance < 1):
            raise RequestError(f"tolerance {self.tolerance} is not allowed; use a fraction between 0 and 1")
        if self.kind not in BUDGET_WORDS:
            raise RequestError(f"budget kind {self.kind!r} is not allowed; use one of {', '.join(BUDGET_WORDS)}")

    @property
    def unit(self) -> str:
        """What is counted, in words: `MACs` or `parameters`."""
        return BUDGET_WORDS[self.kind]

    def holds(self, cost: float, dense: int) -> bool:
        """Whether `cost`, MACs or parameters as the kind says, lies inside the tolerance, its ends included."""
        # A relative 1e-12 forgives the rounding of the product, not a single operation of any real network.
        return abs(cost - self.ratio * dense) <= self.tolerance * dense * (1 + 1e-12)


@dataclass(frozen=True)
class Found:
    """What a method decided, in one of three forms.

    * `scores` with a `scope`: the budget fit removes the channels with the lowest scores;
    * `scores` and `widths`: the fit starts from these widths and keeps the highest scores;
    * `scores` and `keep`: the fit starts from these masks and adds or removes the channels whose scores say so.

    Raises:
        ValueError: an unknown scope, or `widths` and `keep` together.
    """

    scores: Mapping[str, Tensor]
    """Per group, one score a channel, [C_g]; the highest are kept."""
    scope: Scope = "layer"
    """`layer`: one keep-ratio for all groups; `global`: one threshold over scores divided by their group's mean; `raw`:
    one threshold over the scores as they are, a bundle at the mean of its channels."""
    widths: Mapping[str, int] | None = None
    """Per group, kept channels; groups that are not named stay whole."""
    keep: Mapping[str, Tensor] | None = None
    """Per group, [C_g] bool; groups that are not named stay whole."""
    drop_blocks: tuple[str, ...] = ()
    fixed: frozenset[str] = frozenset()
    """Groups that stay whole: the budget fit does not touch them."""
    model: nn.Module | None = None
    """The searched network at full width, where recovery should start from its weights; None: the dense one."""

    def __post_init__(self) -> None:
        if self.scope not in get_args(Scope):
            raise ValueError(f"scope {self.scope!r} is not allowed; use one of {', '.join(get_args(Scope))}")
        if self.widths is not None and self.keep is not None:
            raise ValueError("a method gives widths or keep masks, not both")
        if self.scope != "layer" and (self.widths is not None or self.keep is not None):
            raise ValueError(f"scope {self.scope!r} belongs to scores alone; widths and keep masks have no scope")


class Stateful(Protocol):
    """Whatever has a state that a checkpoint can hold: modules, optimisers, parameter lists."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


class SearchParts(Protocol):
    """What `Search.of` reads; its calls are looked up by name."""

    @property
    def optimizer(self) -> torch.optim.Optimizer: ...
    @property
    def state(self) -> Mapping[str, Stateful]: ...


@dataclass
class Search:
    """What a differentiable search adds to the training loop: an optimiser of its own, and calls in each iteration.

    One iteration of the loop, p being the progress of the search from 0 to 1::

        before(p)
        weight step                 # task loss of a batch
        before_architecture(p)
        architecture step           # task loss of a batch + penalty()
        after(p)

    With `bilevel` the training split is halved. The weight step takes its batch from one half and the architecture
    step from the other, so that an epoch still passes once over the training split. Without it, both steps follow the
    gradients of one batch, and the penalty belongs to its loss.
    """

    optimizer: torch.optim.Optimizer
    """Of the architecture parameters. The loop never changes its learning rate."""
    bilevel: bool = True
    penalty: Callable[[], Tensor] | None = None
    """A scalar that is added to the loss of the architecture step."""
    before: Callable[[float], None] | None = None
    """Called at the start of each iteration with the progress in [0, 1): annealing."""
    before_architecture: Callable[[float], None] | None = None
    """Called between the two steps with the progress in [0, 1)."""
    after: Callable[[float], None] | None = None
    """Called at the end of each iteration with the progress in (0, 1]: proximal steps, controllers."""
    metrics: Callable[[], dict[str, float]] | None = None
    """Figures of the search that the log gets once an epoch, by name."""
    snapshot: Callable[[], dict[str, list[float]]] | None = None
    """Arrays of the search that the log gets once an epoch, by name, to draw over time."""
    state: Mapping[str, Stateful] = field(default_factory=dict)
    """What a checkpoint must hold beside the network and the optimisers, by name: architecture parameters above all."""

    @classmethod
    def of(cls, parts: SearchParts, *, bilevel: bool) -> Search:
        """A search from an object that has an optimiser, a state, and those of the calls above that it needs."""
        names = ("penalty", "before", "before_architecture", "after", "metrics", "snapshot")
        calls = {name: getattr(parts, name) for name in names if hasattr(parts, name)}
        return cls(optimizer=parts.optimizer, bilevel=bilevel, state=parts.state, **calls)

    @property
    def parameters(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]


@dataclass
class Context:
    """What a search may use: the visible splits, the shared training loop, and where to log.

    Made by `bench.training.context.search_context`.
    """

    data: TrainVal
    device: torch.device
    seed: int
    epochs: int
    """Length of the search."""
    recipe: Recipe
    trainer: Callable[[nn.Module, Search | None, Recipe, Penalty | None], nn.Module]
    """The shared loop, bound to this search's task, data, length and checkpoint."""
    log: TrainingLog = field(default_factory=TrainingLog)
    observer: Observer = field(default_factory=Observer)
    blind: bool = False
    """Whether the task's gradient is kept from the architecture: the cost alone decides. The loop sees to it."""

    def note(self, text: str) -> None:
        """Something that a reader of the result should know, once."""
        self.log.note(text)

    def train(
        self,
        model: nn.Module,
        search: Search | None = None,
        *,
        recipe: Recipe | None = None,
        penalty: Penalty | None = None,
    ) -> nn.Module:
        """Train `model` for the search's epochs in the shared loop; returns it, trained in place.

        Args:
            search: what is learned beside the weights.
            penalty: added to the loss of the weights' steps, such as a norm of some weights that should become small.
                These are steps of the weights like all others: the same epochs, rates and counts in the ledger.
        """
        return self.trainer(model, search, recipe or self.recipe, penalty)


@runtime_checkable
class Method(Protocol):
    """A method adapter: a frozen dataclass whose fields are the method's hyper-parameters.

    Six class variables are optional:

    * `prunes: ClassVar[bool] = True`: False for a control that prunes nothing; it stands once a seed, at budget 1.
    * `weight_share: ClassVar[float] = 1.0`: share of a search's samples on which the weights take steps; 0.5 where
      the search is bi-level.
    * `architecture: ClassVar[bool] = True`: False where a search has no parameters but the network's weights, and so no
      steps of an architecture from which a `blind` search could keep the task's gradient.
    * `dead_lowest: ClassVar[bool] = False`: True where a channel of zeros, which is of no use to any network, always
      has the lowest score of its group; the contract then tries it, so that scores with the wrong sign are found.
    * `paper: ClassVar[Mapping[str, Any]] = {}`: hyper-parameters that differ from the defaults under protocol `paper`.
    * `paper_recipe: ClassVar[PaperRecipe]`: how the paper trains; without it the workload's recipes and epochs hold.

    So is a method, `left_whole(graph) -> frozenset[str]`: names of the groups that `search` always leaves whole,
    whatever the weights, so that a budget that cannot be reached beside them is refused before anything is trained. It
    may raise `RequestError` for a network that the method cannot prune at all.

    Read them with the functions of these names below.
    """

    searches: ClassVar[bool]
    """True where `search` trains, and so spends the workload's search epochs."""
    needs_dense: ClassVar[bool]
    """False where nothing of a trained dense network is used."""
    recovery: ClassVar[Recovery]
    """The paper's own recovery, used under protocol `paper`."""
    standing: ClassVar[str]
    """One line: what is published and what is reconstructed."""

    def search(self, model: nn.Module, graph: PruningGraph, task: Task, budget: Budget, ctx: Context) -> Found:
        """Decide what to keep. `model` is the method's own copy of the dense network."""
        ...


@dataclass(frozen=True)
class PaperRecipe:
    """How a paper trains its method: recipes and epochs in place of the workload's, under protocol `paper`.

    Published values; what a paper leaves open is left to the workload.
    """

    search_epochs: int
    recovery_epochs: int
    search: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `Recipe` in which a search differs from the workload's training recipe."""
    recovery: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `Recipe` in which recovery differs from it."""
    tasks: tuple[str, ...] = ("classification",)
    """Tasks that the paper states this for; on others the workload's recipes and epochs are used."""


def prunes(kind: type[Any]) -> bool:
    """Whether methods of this class prune; False for a control that leaves the network whole."""
    return bool(getattr(kind, "prunes", True))


def left_whole(method: Method, graph: PruningGraph) -> frozenset[str]:
    """Groups of the graph that the method never prunes."""
    own = getattr(method, "left_whole", None)
    return frozenset(own(graph)) if own is not None else frozenset()


def paper_settings(kind: type[Any]) -> dict[str, Any]:
    """Hyper-parameters of this class that differ from its defaults under protocol `paper`."""
    return dict(getattr(kind, "paper", {}))


def weight_share(kind: type[Any]) -> float:
    """Share of a search's samples on which the weights take steps."""
    return float(getattr(kind, "weight_share", 1.0))


def learns_architecture(kind: type[Any]) -> bool:
    """Whether searches of this class take steps of an architecture beside those of the weights."""
    return bool(kind.searches and getattr(kind, "architecture", True))


def paper_recipe(kind: type[Any], task: str) -> PaperRecipe | None:
    """How the method's paper trains on this task; None where nothing is stated."""
    recipe: PaperRecipe | None = getattr(kind, "paper_recipe", None)
    return recipe if recipe is not None and task in recipe.tasks else None
