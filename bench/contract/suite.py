"""The contract suite: what every method and every task must hold, checked by `prunebench check NAME` and by the tests.

Each property is a function whose docstring says what holds; it raises AssertionError, with what was seen, where it
does not. Methods are tried on a small network and 200 handwritten digits.
"""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.interface import registry
from bench.interface.cell import RECOVERIES, Recipe
from bench.interface.method import Budget, Context, Found, Method
from bench.interface.task import Splits, Task
from bench.search import fit as budgets
from bench.structure.graph import PruningGraph
from bench.structure.measure import count_macs
from bench.structure.surgery import prune
from bench.training.context import search_context
from bench.training.loop import Phase, train

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Verdict:
    """Whether one property holds."""

    name: str
    passed: bool
    reason: str = ""


class MethodTrial:
    """A method on a small classification network."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.kind = registry.method_class(name)
        self.task: Task = registry.make_task(
            "classification", {"dataset": "digits", "model": "resnet8", "train_size": 200}
        )
        self.data: Splits = self.task.load(None)

    @cached_property
    def dense(self) -> nn.Module:
        torch.manual_seed(0)
        recipe = Recipe(batch_size=32, precision="fp32")
        model = self.task.network(self.data.info)
        return train(model, self.task, self.data.train, recipe, Phase("dense", 2, 0, CPU)).cpu()

    @cached_property
    def graph(self) -> PruningGraph:
        return PruningGraph.trace(self.dense, self.task.example(self.data.info))

    def search(self, ratio: float, seed: int = 0, epochs: int = 2) -> tuple[Found, Context]:
        """One search from the same dense network."""
        method: Method = registry.make_method(self.name, {})
        recipe = Recipe(batch_size=32, precision="fp32")
        ctx = search_context(self.task, self.data.visible, recipe, epochs=epochs, seed=seed, device=CPU)
        torch.manual_seed(seed)
        return method.search(copy.deepcopy(self.dense), self.graph, self.task, Budget(ratio), ctx), ctx

    @cached_property
    def found(self) -> tuple[Found, Context]:
        return self.search(0.5)


def method_is_a_frozen_dataclass(trial: MethodTrial) -> None:
    """is a frozen dataclass with a docstring"""
    kind = trial.kind
    assert dataclasses.is_dataclass(kind), f"{kind.__name__} is no dataclass"
    assert kind.__dataclass_params__.frozen, f"{kind.__name__} is not frozen"
    text = (kind.__doc__ or "").strip()
    assert text and not text.startswith(kind.__name__ + "("), "it has no docstring"


def method_declares_itself(trial: MethodTrial) -> None:
    """declares searches, needs_dense, recovery and standing"""
    for name, allowed in (("searches", bool), ("needs_dense", bool), ("recovery", str), ("standing", str)):
        assert isinstance(getattr(trial.kind, name, None), allowed), f"{name} is missing or not {allowed.__name__}"
    assert trial.kind.recovery in RECOVERIES, f"recovery {trial.kind.recovery!r} is none of {', '.join(RECOVERIES)}"


def method_has_defaults(trial: MethodTrial) -> None:
    """can be made without arguments, and its fields survive JSON"""
    import json

    method = registry.make_method(trial.name, {})
    fields = dataclasses.asdict(method)  # pyright: ignore[reportArgumentType]
    again = registry.make_method(trial.name, json.loads(json.dumps(fields)))
    assert again == method, f"{again} differs from {method}"


def method_scores_every_group(trial: MethodTrial) -> None:
    """gives finite scores for every channel of every group"""
    found, _ = trial.found
    for group in trial.graph.groups:
        assert group.name in found.scores, f"no scores for group {group.name}"
        scores = found.scores[group.name]
        assert tuple(scores.shape) == (group.size,), f"scores of {group.name} have shape {tuple(scores.shape)}"
        assert bool(torch.isfinite(scores).all()), f"scores of {group.name} are not finite"


def method_meets_budgets(trial: MethodTrial) -> None:
    """lands within the tolerance of budgets 0.7, 0.5 and 0.3, measured on the pruned network"""
    example = trial.task.example(trial.data.info)
    dense = count_macs(trial.dense, example)
    for ratio in (0.7, 0.5, 0.3):
        found, _ = trial.found if ratio == 0.5 else trial.search(ratio)
        fitted = budgets.fit(trial.graph, found, Budget(ratio))
        macs = count_macs(prune(found.model or trial.dense, trial.graph, fitted.pruning), example)
        assert Budget(ratio).holds(macs, dense), f"budget {ratio}: measured {macs / dense:.4f}"


def method_is_reproducible(trial: MethodTrial) -> None:
    """finds the same with the same seed, whatever the global random state"""
    first, _ = trial.found
    torch.rand(17)
    again, _ = trial.search(0.5)
    one, other = (budgets.fit(trial.graph, f, Budget(0.5)).pruning for f in (first, again))
    for name, mask in one.keep.items():
        assert torch.equal(mask, other.keep[name]), f"group {name} differs between two searches with one seed"
    assert one.drop_blocks == other.drop_blocks, "removed blocks differ between two searches with one seed"


def method_spends_what_it_declares(trial: MethodTrial) -> None:
    """trains exactly the search's epochs if it searches, and none if it does not"""
    _, ctx = trial.found
    epochs = [row["epoch"] for row in ctx.log.epochs("search")]
    expected = list(range(1, ctx.epochs + 1)) if trial.kind.searches else []
    assert epochs == expected, f"epochs {epochs} were trained where {expected} were due"


def method_returns_a_whole_network(trial: MethodTrial) -> None:
    """returns, if any, a network of the dense network's shape and free of gates"""
    found, _ = trial.found
    if found.model is None:
        return
    state, like = found.model.state_dict(), trial.dense.state_dict()
    assert state.keys() == like.keys(), f"its parameters differ: {sorted(state.keys() ^ like.keys())[:3]}"
    assert all(state[k].shape == like[k].shape for k in like), "its parameters have other shapes"
    x = trial.task.example(trial.data.info)
    plain = copy.deepcopy(trial.dense).eval()
    plain.load_state_dict(state)
    with torch.no_grad():
        assert torch.allclose(found.model.cpu().eval()(x), plain(x), atol=1e-5), "gates or hooks were left in it"


METHOD_PROPERTIES: tuple[Callable[[MethodTrial], None], ...] = (
    method_is_a_frozen_dataclass,
    method_declares_itself,
    method_has_defaults,
    method_scores_every_group,
    method_meets_budgets,
    method_is_reproducible,
    method_spends_what_it_declares,
    method_returns_a_whole_network,
)


class TaskTrial:
    """A task on its embedded data set with the smallest of its networks."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.kind = registry.task_class(name)
        options = getattr(self.kind, "trial", None)
        if options is None:
            raise AssertionError(f"{self.kind.__name__} has no `trial`: the options of a quick trial on embedded data")
        self.task: Task = registry.make_task(name, options)

    @cached_property
    def data(self) -> Splits:
        return self.task.load(None)

    @cached_property
    def network(self) -> nn.Module:
        torch.manual_seed(0)
        return self.task.network(self.data.info)

    def batch(self, epoch: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        return next(iter(self.data.train.batches(4, seed=1, epoch=epoch, device=CPU)))


def task_declares_itself(trial: TaskTrial) -> None:
    """declares its metric and lists its data sets and models"""
    kind = trial.kind
    for name, allowed in (("metric", str), ("unit", str), ("higher_is_better", bool), ("recipe", Recipe)):
        assert isinstance(getattr(kind, name, None), allowed), f"{name} is missing or not {allowed.__name__}"
    assert kind.datasets() and kind.models(), "it lists no data sets or no models"


def task_has_three_splits(trial: TaskTrial) -> None:
    """loads training, validation and test splits that are not empty"""
    sizes = {n: len(s) for n, s in (("train", trial.data.train), ("val", trial.data.val), ("test", trial.data.test()))}
    assert all(sizes.values()), f"sizes are {sizes}"


def task_batches_are_reproducible(trial: TaskTrial) -> None:
    """gives the same batch for the same seed and epoch, and another in another epoch"""
    (x, y), (again, y2), (other, _) = trial.batch(), trial.batch(), trial.batch(epoch=1)
    assert torch.equal(x, again) and torch.equal(y, y2), "the same seed and epoch gave two different batches"
    assert not torch.equal(x, other), "two epochs gave the same batch"


def task_halves_are_disjoint(trial: TaskTrial) -> None:
    """halves its training split for bi-level searches"""
    a, b = trial.data.train.halves(0)
    assert abs(len(a) - len(b)) <= 1 and len(a) + len(b) in (len(trial.data.train), len(trial.data.train) - 1)


def task_trains(trial: TaskTrial) -> None:
    """has a loss that is finite and reaches every part of the network"""
    model = copy.deepcopy(trial.network).train()
    x, y = trial.batch()
    loss = trial.task.loss(model(x), y, trial.kind.recipe)
    assert loss.ndim == 0 and bool(torch.isfinite(loss)), f"the loss is {loss}"
    loss.backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None]
    assert not idle, f"no gradient reaches {idle[:3]}"


def task_distils(trial: TaskTrial) -> None:
    """distils: the loss against itself as teacher is finite, and lower than against another network"""
    x, y = trial.batch()
    model = copy.deepcopy(trial.network).eval()
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * (0.3 * p.std() if p.numel() > 1 else 0.3))
        output, distant = model(x), other(x)
        same = trial.task.distil(output, output, y, trial.kind.recipe)
        apart = trial.task.distil(output, distant, y, trial.kind.recipe)
    assert bool(torch.isfinite(same)) and same < apart, f"{float(same)} against itself, {float(apart)} against another"


def task_evaluates(trial: TaskTrial) -> None:
    """evaluates to finite figures, the ranked one among them"""
    figures = trial.task.evaluate(trial.network, trial.data.val, CPU, trial.kind.recipe)
    assert trial.kind.metric in figures, f"{trial.kind.metric!r} is not among {sorted(figures)}"
    value = torch.tensor(figures[trial.kind.metric])
    assert bool(torch.isfinite(value)), f"{trial.kind.metric} is {float(value)}"


def task_has_a_reference(trial: TaskTrial) -> None:
    """measures a baseline that needs no network, in the same figure"""
    rows = trial.task.references(trial.data, trial.data.test())
    assert rows and all(trial.kind.metric in row for row in rows.values()), f"references are {rows}"


def task_can_be_pruned(trial: TaskTrial) -> None:
    """has a network that is pruned to half its MACs and keeps its output's shape"""
    example = trial.task.example(trial.data.info)
    graph = PruningGraph.trace(trial.network, example)
    scores = graph.channel_scores(trial.network)
    fitted = budgets.fit(graph, Found(scores=scores), Budget(0.5))
    small = prune(trial.network, graph, fitted.pruning).eval()
    assert budgets.check(small, example, Budget(0.5), count_macs(trial.network, example))[1], "it missed 0.5 ± 0.005"
    with torch.no_grad():
        before, after = trial.network.eval()(example), small(example)
    assert before.shape == after.shape, f"{tuple(before.shape)} became {tuple(after.shape)}"


def task_draws(trial: TaskTrial) -> None:
    """draws only PNG files, inside the folder it is given"""
    with tempfile.TemporaryDirectory() as folder:
        networks = {"dense": trial.network, "pruned": trial.network}
        names = trial.task.pictures(networks, trial.data.test(), Path(folder), CPU, trial.kind.recipe)
        for name in names:
            assert Path(folder, name).read_bytes()[:4] == b"\x89PNG", f"{name} is no PNG"


TASK_PROPERTIES: tuple[Callable[[TaskTrial], None], ...] = (
    task_declares_itself,
    task_has_three_splits,
    task_batches_are_reproducible,
    task_halves_are_disjoint,
    task_trains,
    task_distils,
    task_evaluates,
    task_has_a_reference,
    task_can_be_pruned,
    task_draws,
)


def check(name: str) -> Iterator[Verdict]:
    """Try every property of the adapter `name`, one verdict each; a property that raises has failed.

    Raises:
        RequestError: there is no adapter of that name.
    """
    from bench.errors import unknown

    trial: Any
    if name in registry.method_names():
        trial, properties = MethodTrial, METHOD_PROPERTIES
    elif name in registry.task_names():
        trial, properties = TaskTrial, TASK_PROPERTIES
    else:
        raise unknown("adapter", name, [*registry.method_names(), *registry.task_names()])
    try:
        made = trial(name)
    except AssertionError as error:
        yield Verdict("can be tried", False, str(error))
        return
    for prop in properties:
        title = (prop.__doc__ or prop.__name__).strip()
        try:
            prop(made)
            yield Verdict(title, True)
        except Exception as error:
            reason = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
            yield Verdict(title, False, " ".join(reason.split())[:300])
