"""Which channels belong together: channel labels carried along a traced network.

One run of the network (`bench.structure.recorder`) leaves an autograd graph and says which layers made it. Along that
graph labels (`bench.structure.labels`) are carried from the input to the outputs: layers make and read them
(`bench.structure.layers`), operations between layers move them (`bench.structure.operations`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn as nn

from bench.structure import computing, moving  # noqa: F401  (they register what they know)
from bench.structure.labels import Labels, LayerSide, Raw, Value
from bench.structure.layers import computes_weight, makes_channels, own_vectors, rule_of
from bench.structure.module_numbers import Numbers
from bench.structure.operations import follow, tails
from bench.structure.recorder import Record, Run, Source
from bench.structure.ties import keep_ties

NOT_CALLED = "not called when the network runs in eval mode"
USED_ELSEWHERE = "its weight is used by a function and not by its own call"
COMPUTED = "its weight is computed from others at every run (a parametrisation, or masks)"
UNSEEN = "runs where autograd does not follow"


@dataclass
class Atoms:
    """The result: labels by atom, frozen atoms with their reasons, and what each layer reads and makes."""

    of_label: np.ndarray  # int64 [labels] -> atom
    frozen: dict[int, str]
    sides: list[LayerSide]
    positions: dict[str, int]  # layer -> how often its kernel is multiplied, over all calls
    unreached: dict[str, str]  # layers whose channels nothing was seen of, and why
    order: tuple[str, ...]  # layers in the order of their first call
    tails: dict[str, set[str]]  # layer -> the affine layers right before it
    record: Record


def label(
    run: Record,
    model: nn.Module,
    protect: Iterable[str] = (),
    without: Iterable[str] = (),
    trained: Record | None = None,
) -> Atoms:
    """Label every channel of a network that ran once.

    Args:
        run: what it did.
        protect: names of layers whose output channels stay.
        without: numbers that modules keep (`bench.structure.module_numbers`) and that are not to be changed.
        trained: what it did in training mode, where more layers run. What those read stays.
    """
    protected = frozenset(protect)
    numbers = Numbers({name: m for name, m in model.named_modules() if rule_of(m) is None}, without)

    def walked(leading: Iterable[int]) -> _Walk:
        return _walked(run, trained, model, Labels(protected, leading, numbers))

    walk = walked(())
    of_label, frozen = walk.labels.atoms()
    collapsed = walk.labels.collapsed(of_label, frozen)
    if collapsed:  # split the other way, where that helps
        other = walked(collapsed)
        saved = collapsed - other.labels.collapsed(*other.labels.atoms())
        if saved:
            walk = walked(saved)
            of_label, frozen = walk.labels.atoms()
    order = tuple(dict.fromkeys(layer.call.name for layer in run.runs.values()))
    unreached = _unreached(model, run, set(order), walk.used)
    labels = walk.labels
    return Atoms(of_label, frozen, list(labels.sides.values()), labels.positions, unreached, order, walk.tails, run)


def _walked(run: Record, trained: Record | None, model: nn.Module, labels: Labels) -> _Walk:
    """All labels of one run."""
    labels.operands, labels.owners = run.operands, run.owners
    walk = _Walk(labels, run, model)
    for node, output in run.outputs:
        walk.value(node, output)
        for value in walk.memo[node]:
            if value is not None:
                labels.freeze(value.labels, "output of the network")
    for node, output in run.read:  # what runs without reaching the output reads its inputs all the same
        walk.value(node, output)
    with labels.leniently():
        for node, output in run.made:  # what is computed in vain must still fit together
            walk.value(node, output)
    if trained is not None:
        _freeze_training(run, trained, model, labels)
    keep_ties(model, labels, walk.outside)
    return walk


def _freeze_training(run: Record, trained: Record, model: nn.Module, labels: Labels) -> None:
    """Freeze what is read by layers that run in training mode alone: a head that helps there keeps fitting."""
    positions = dict(labels.positions)
    labels.operands, labels.owners = trained.operands, trained.owners
    walk = _Walk(labels, trained, model)
    walk.known = set(run.entered)
    for node, output in (*trained.outputs, *trained.read):
        walk.value(node, output)
    labels.positions = positions


def _unreached(model: nn.Module, run: Record, followed: set[str], used: set[str]) -> dict[str, str]:
    """The layers whose channels nothing was seen of, and why."""
    found: dict[str, str] = {}
    for name, module in model.named_modules():
        if not makes_channels(module) or name in followed:
            continue
        if name not in run.entered:
            found[name] = USED_ELSEWHERE if name in used else NOT_CALLED
        elif computes_weight(module):
            found[name] = COMPUTED
        else:
            found[name] = UNSEEN
    return found


class _Walk:
    """Labels along the autograd graph, from the input to the outputs."""

    def __init__(self, labels: Labels, run: Record, model: nn.Module) -> None:
        self.labels, self.runs, self.leaf, self.statistics = labels, run.runs, run.leaf, run.statistics
        tensors = (*model.named_parameters(), *model.named_buffers())
        self.tensors = {id(tensor): name for name, tensor in tensors}
        self.layers = {layer.call.name for layer in run.runs.values()}
        self.known: set[str] | None = None
        """The layers that run in eval mode, where this is a run in training mode."""
        self.used: set[str] = set()
        """Modules whose own parameters or buffers operations use."""
        self.outside: dict[str, None] = {}
        """Layers whose parameters are used outside of them, too."""
        self.memo: dict[Any, list[Value | None]] = {}
        """Labels of each node's outputs."""
        self.tails: dict[str, set[str]] = {}

    def value(self, node: Any, output: int) -> Value | None:
        """The labels of output number `output` of an autograd node; what it needs is labelled first."""
        stack = [node]
        while stack:
            current = stack[-1]
            if current in self.memo:
                stack.pop()
                continue
            sources = self.sources(current)
            missing = [s[0] for s in sources if s is not None and s[0] not in self.memo]
            if missing:
                stack.extend(missing)
                continue
            self.memo[current] = self.results(current, [None if s is None else self.memo[s[0]][s[1]] for s in sources])
            stack.pop()
        return self.memo[node][output]

    def sources(self, node: Any) -> list[Source | None]:
        """What made the inputs of a node: of a layer, which may be many nodes, the tensors that it was given."""
        run = self.runs.get(node)
        if run is not None:
            return [run.source, *run.others]
        return [(f, k) if f is not None else None for f, k in node.next_functions]

    def results(self, node: Any, inputs: list[Value | None]) -> list[Value | None]:
        """Labels of all outputs of a node."""
        shapes = [tuple(int(n) for n in meta.shape) for meta in node._input_metadata]
        run = self.runs.get(node)
        if run is not None:
            for other in inputs[1:]:
                if other is not None:
                    self.labels.freeze(other.labels, f"{run.call.name} reads it beside its input")
            return [self.layer(run, inputs[0])] + [None] * (len(shapes) - 1)
        if hasattr(node, "variable"):
            return [self.variable(node.variable)]
        before = tails(node, [v for v in inputs if v is not None])
        inputs = [*inputs, *(self.variable(buffer) for buffer in self.statistics.get(node, ()))]
        return [v and replace(v, tails=before) for v in follow(self.labels, node, inputs, shapes)]

    def layer(self, run: Run, value: Value | None) -> Value | None:
        """Labels of a layer's output."""
        name = run.call.name
        made = run.rule.label(run.layer, run.call, value, self.labels)
        if self.known is not None and name not in self.known:
            for given in (value, made):
                if given is not None:
                    self.labels.freeze(given.labels, f"read by {name}, which runs in training mode alone")
        self.tails.setdefault(name, set()).update(value.tails if value is not None else ())
        takes_factor = run.rule.takes_factor and not (run.rule.convolves and own_vectors(run.layer))
        return replace(made, tails=frozenset({name})) if made is not None and takes_factor else made

    def variable(self, leaf: torch.Tensor) -> Value | None:
        """Labels of the network's input, or of a parameter or buffer that an operation outside of layers uses."""
        shape, labels = tuple(leaf.shape), self.labels
        if leaf is self.leaf:
            ids = labels.fresh(shape[1] if len(shape) > 1 else 1)
            labels.freeze(ids, "channels of the input")
            return Value(shape, ids.reshape(1, -1, *[1] * (len(shape) - 2)) if len(shape) > 1 else ids)
        name = self.tensors.get(id(leaf), "")
        self.used.add(name.rpartition(".")[0])
        if labels.lenient and (name, "tensor") not in labels.sides:
            return None
        layer = name.rpartition(".")[0]
        wide = [axis for axis, n in enumerate(shape) if n > 1]
        if name and len(wide) == 1 and layer not in self.layers:
            return Value(shape, labels.tensor(name, wide[0], shape[wide[0]]).reshape(shape))
        ids = labels.fresh(1)
        if layer in self.layers:
            self.outside.setdefault(layer)
        if wide:
            labels.freeze(ids, f"parameter {name or 'of no module'} acts on the channels outside a known layer")
        raw = Raw(name, tuple(range(len(shape)))) if name and layer not in self.layers else None
        return Value(shape, ids.reshape([1] * len(shape)), raw=raw)
