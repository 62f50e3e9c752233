"""What every task must hold, tried on its embedded data set with the smallest of its networks.

Each property is a function whose docstring says what holds; it raises AssertionError, with what was seen, where it
does not.
"""

from __future__ import annotations

import copy
import hashlib
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from itertools import combinations
from pathlib import Path

import torch
from torch import nn

from bench.interface import registry
from bench.interface.method import Budget, Found
from bench.interface.task import Split, Splits, Task
from bench.search import fit as budgets
from bench.structure.graph import PruningGraph
from bench.structure.measure import count_macs
from bench.structure.surgery import prune

CPU = torch.device("cpu")
LARGEST_SEED = 2**48 - 1
"""That a run hands to `batches` and `halves` (`bench.training.device.stage_seed`)."""


class TaskTrial:
    """A task on its embedded data set with the smallest of its networks, or with the one that is named."""

    def __init__(self, name: str, model: str | None = None) -> None:
        self.name = name
        self.kind = registry.task_class(name)
        options = getattr(self.kind, "trial", None)
        if options is None:
            raise AssertionError(f"{self.kind.__name__} has no `trial`: the options of a quick trial on embedded data")
        self.task: Task = registry.make_task(name, {**options, **({"model": model} if model else {})})

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
    for name, allowed in registry.TASK_DECLARES.items():
        assert isinstance(getattr(kind, name, None), allowed), f"{name} is missing or not {allowed.__name__}"
    assert kind.datasets() and kind.models(), "it lists no data sets or no models"


def task_has_three_splits(trial: TaskTrial) -> None:
    """loads training, validation and test splits that are not empty"""
    sizes = {n: len(s) for n, s in (("train", trial.data.train), ("val", trial.data.val), ("test", trial.data.test()))}
    assert all(sizes.values()), f"sizes are {sizes}"


def task_splits_are_disjoint(trial: TaskTrial) -> None:
    """has no sample in two of its splits"""
    data = trial.data
    parts = {"training": samples(data.train), "validation": samples(data.val), "test": samples(data.test())}
    for (one, left), (other, right) in combinations(parts.items(), 2):
        shared = left.keys() & right.keys()
        assert not shared, f"{len(shared)} samples stand in the {one} and in the {other} split"


def task_tells_its_data_apart(trial: TaskTrial) -> None:
    """has a fingerprint of its data, the same each time they are loaded"""
    first, again = trial.data.fingerprint, trial.task.load(None).fingerprint
    assert first, "the fingerprint is empty, so that results of other data could stand in one table"
    assert first == again, f"loaded twice, the data have the fingerprints {first} and {again}"


def task_batches_are_reproducible(trial: TaskTrial) -> None:
    """gives the same batch for the same seed and epoch, and another in another epoch"""
    (x, y), (again, y2), (other, _) = trial.batch(), trial.batch(), trial.batch(epoch=1)
    assert torch.equal(x, again) and torch.equal(y, y2), "the same seed and epoch gave two different batches"
    assert not torch.equal(x, other), "two epochs gave the same batch"


def task_takes_large_seeds(trial: TaskTrial) -> None:
    """makes batches and halves for every seed up to 2⁴⁸, as runs draw them"""
    split, seen = trial.data.train, set[bytes]()
    for seed in (0, 2**31, 2**32, LARGEST_SEED):
        for epoch in (0, 99_999):
            try:
                x, _ = next(iter(split.batches(4, seed=seed, epoch=epoch, device=CPU)))
                split.halves(seed)
            except (RuntimeError, ValueError, OverflowError, TypeError) as error:
                raise AssertionError(f"seed {seed}, epoch {epoch}: {type(error).__name__}: {error}") from error
            seen.add(hashlib.sha256(x.contiguous().numpy().tobytes()).digest())
    assert len(seen) > 1, "all seeds give the same batch"


def task_halves_are_disjoint(trial: TaskTrial) -> None:
    """halves its training split into two parts that share no sample"""
    split = trial.data.train
    halves = split.halves(0)
    for half in halves:
        assert len(half) >= len(split) / 3, f"a half has {len(half)} of {len(split)} samples"
    of_halves, whole = samples(halves[0]) + samples(halves[1]), samples(split)
    strangers = of_halves.keys() - whole.keys()
    assert not strangers, f"{len(strangers)} samples of the halves are not in the training split"
    twice = of_halves - whole  # a sample that the split holds twice may stand in both halves
    assert not twice, f"{twice.total()} samples stand in the halves more often than in the training split"


def samples(split: Split) -> Counter[bytes]:
    """How often a split holds each sample, by the digest of its input and target as stored."""
    found: Counter[bytes] = Counter()
    for x, y in split.ordered(1, CPU):
        parts = (tensor.contiguous().numpy().tobytes() for tensor in (x, y))
        found[hashlib.sha256(b"".join(parts)).digest()] += 1
    return found


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
    """draws only PNG files, inside the folder it is given, with a sample's number in each name"""
    with tempfile.TemporaryDirectory() as folder:
        networks = {"dense": trial.network, "pruned": trial.network}
        names = trial.task.pictures(networks, trial.data.test(), Path(folder), CPU, trial.kind.recipe)
        for name in names:
            assert Path(folder, name).read_bytes()[:4] == b"\x89PNG", f"{name} is no PNG"
            numbered = re.search(r"\d", Path(name).stem)
            assert numbered, (
                f"{name} has no sample's number in its name (sample-1.png), so that no figure would show it"
            )


TASK_PROPERTIES: tuple[Callable[[TaskTrial], None], ...] = (
    task_declares_itself,
    task_has_three_splits,
    task_splits_are_disjoint,
    task_tells_its_data_apart,
    task_batches_are_reproducible,
    task_takes_large_seeds,
    task_halves_are_disjoint,
    task_trains,
    task_distils,
    task_evaluates,
    task_has_a_reference,
    task_can_be_pruned,
    task_draws,
)
