"""Which channels belong together: channel labels carried along a traced network.

Torch-Pruning's `DependencyGraph` traces the network and says which layers it holds. Along that trace labels
(`bench.structure.labels`) are carried from the input to the outputs: layers make and read them
(`bench.structure.layers`), operations between layers move them (`bench.structure.operations`).

Labels replace Torch-Pruning's own index mappings, which (1.6.1) raise on PixelShuffle and ShuffleNetV2, never end on
MAnet, and take a one-channel gate that is broadcast for a coupling.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import numpy as np
import torch
import torch.nn as nn
import torch_pruning as tp

from bench.structure.counter import MacsCounter
from bench.structure.labels import Labels, LayerCall, LayerSide, Value
from bench.structure.layers import makes_channels, require_rule, rule_of
from bench.structure.operations import follow, tails
from bench.structure.tensors import tensors_in
from bench.structure.uncounted import Uncounted

Source = tuple[Any, int]
"""An autograd node and which of its outputs."""


@dataclass
class Atoms:
    """The result: labels by atom, frozen atoms with their reasons, and what each layer reads and makes."""

    of_label: np.ndarray  # int64 [labels] -> atom
    frozen: dict[int, str]
    sides: list[LayerSide]
    positions: dict[str, int]  # layer -> how often its kernel is multiplied, over all calls
    unreached: tuple[str, ...]
    order: tuple[str, ...]  # layers in the order of their first call
    tails: dict[str, set[str]]  # layer -> the affine layers right before it
    macs: dict[str, int]  # multiply-adds by module, containers included; "" is the whole network
    uncounted: dict[str, str]  # by module, what multiplies there out of the counter's sight


@dataclass
class _Run:
    """What one call of a layer saw."""

    module: nn.Module
    call: LayerCall
    source: Source | None  # what made its input; None: a constant


def trace_atoms(model: nn.Module, example: torch.Tensor, protect: Iterable[str] = ()) -> Atoms:
    """Run `model` once on `example` and label every channel.

    Args:
        model: in eval mode, all its parameters requiring gradients: the trace is read off autograd.
        protect: names of layers whose output channels stay.
    """
    leaf = example.detach().clone().requires_grad_()
    with _Recorder(model) as recorder:
        nodes = _trace(model, leaf, recorder)
    labels = Labels(protect)
    parameters = {id(p): name for name, p in model.named_parameters()}
    walk = _Walk(labels, recorder.runs, id(leaf), parameters)
    for tensor in recorder.outputs:
        walk.value(tensor.grad_fn, tensor.output_nr)
        for value in walk.memo[tensor.grad_fn]:
            if value is not None:
                labels.freeze(value.labels, "output of the network")
    for node, output in recorder.ends:  # what runs without reaching the output reads its inputs all the same
        walk.value(node, output)
    reached = {*nodes, *(run.module for run in recorder.runs.values())}
    unreached = tuple(n for m, n in recorder.names.items() if makes_channels(m) and m not in reached)
    of_label, frozen = labels.atoms()
    order = tuple(dict.fromkeys(run.call.name for run in recorder.runs.values()))
    sides = list(labels.sides.values())
    macs = recorder.counter.by_module(model)
    found = recorder.out_of_sight.found if recorder.out_of_sight is not None else {}
    return Atoms(of_label, frozen, sides, labels.positions, unreached, order, walk.tails, macs, found)


def _trace(model: nn.Module, leaf: torch.Tensor, recorder: _Recorder) -> dict[nn.Module, Any]:
    """The layers that Torch-Pruning's trace holds; `recorder` has seen them run."""
    dependencies = tp.DependencyGraph()
    try:
        dependencies.build_dependency(model, leaf, forward_fn=recorder.forward, verbose=False)
    except (ArithmeticError, LookupError, TypeError, RecursionError):
        # Its trace is complete before its index mappings are made, and only those can fail here.
        if not hasattr(dependencies, "module2node"):
            raise
    return dependencies.module2node


class _Recorder:
    """Hooks that note, while a network runs, which autograd node each layer's output came from."""

    def __init__(self, model: nn.Module) -> None:
        self.names = {module: name for name, module in model.named_modules()}
        self.runs: dict[Any, _Run] = {}
        """By the autograd node of the layer's output."""
        self.ends: list[Source] = []
        """Outputs of all modules."""
        self.outputs: list[torch.Tensor] = []
        """Of the network."""
        self.counter = MacsCounter()
        self.out_of_sight: Uncounted | None = None
        self._entered: dict[nn.Module, list[tuple[Source | None, tuple[int, ...]]]] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> _Recorder:
        layers = [module for module in self.names if rule_of(module) is not None]
        # A layer is taken whole: timm's BatchNormAct2d runs its activation inside.
        inner = {part for layer in layers for part in layer.modules()} - set(layers)
        for module in self.names:
            if module not in inner:
                self._handles.append(module.register_forward_hook(self._end))
            if rule_of(module) is not None:
                self._handles.append(module.register_forward_pre_hook(self._before, with_kwargs=True))
                self._handles.append(module.register_forward_hook(self._after))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def forward(self, network: nn.Module, inputs: Any) -> Any:
        """Run the network once and keep what the hooks see. Torch-Pruning calls this; the last call counts."""
        for record in (self.outputs, self.runs, self.ends):
            record.clear()
        self.out_of_sight = Uncounted(network, inputs)
        with self.out_of_sight, self.counter:
            result = network(inputs.clone())  # not a leaf: a network may change its input in place
        self.outputs.extend(t for t in tensors_in(result) if t.grad_fn is not None)
        return self.outputs

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = next(tensors_in((*args, *kwargs.values())))
        source = (x.grad_fn, x.output_nr) if x.grad_fn is not None else None
        self._entered.setdefault(module, []).append((source, tuple(x.shape)))

    def _after(self, module: nn.Module, args: object, output: torch.Tensor) -> None:
        source, in_shape = self._entered[module].pop()
        call = LayerCall(self.names[module], in_shape, tuple(output.shape))
        self.runs[output.grad_fn] = _Run(module, call, source)

    def _end(self, module: nn.Module, args: object, output: object) -> None:
        if self.out_of_sight is not None:
            self.out_of_sight.note_functions(tensors_in(output), self.names[module])
        self.ends.extend((t.grad_fn, t.output_nr) for t in tensors_in(output) if t.grad_fn is not None)


class _Walk:
    """Labels along the autograd graph, from the input to the outputs."""

    def __init__(self, labels: Labels, runs: dict[Any, _Run], leaf: int, parameters: dict[int, str]) -> None:
        self.labels, self.runs, self.leaf, self.parameters = labels, runs, leaf, parameters
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
        """What made the inputs of a node: of a layer, which may be many nodes, the one tensor that it was given."""
        run = self.runs.get(node)
        if run is not None:
            return [run.source]
        return [(f, k) if f is not None else None for f, k in node.next_functions]

    def results(self, node: Any, inputs: list[Value | None]) -> list[Value | None]:
        """Labels of all outputs of a node."""
        shapes = [tuple(int(n) for n in meta.shape) for meta in node._input_metadata]
        run = self.runs.get(node)
        if run is not None:
            return [self.layer(run, inputs[0])] + [None] * (len(shapes) - 1)
        if hasattr(node, "variable"):
            return [self.variable(node.variable)]
        before = tails(node, [v for v in inputs if v is not None])
        return [v and replace(v, tails=before) for v in follow(self.labels, node, inputs, shapes)]

    def layer(self, run: _Run, value: Value | None) -> Value | None:
        """Labels of a layer's output."""
        rule, name = require_rule(run.module), run.call.name
        made = rule.label(run.module, run.call, value, self.labels)
        self.tails.setdefault(name, set()).update(value.tails if value is not None else ())
        return replace(made, tails=frozenset({name})) if made is not None and rule.takes_factor else made

    def variable(self, leaf: torch.Tensor) -> Value | None:
        """Labels of the network's input, or of a parameter that an operation outside of layers uses."""
        shape = tuple(leaf.shape)
        if id(leaf) == self.leaf:
            ids = self.labels.fresh(shape[1] if len(shape) > 1 else 1)
            self.labels.freeze(ids, "channels of the input")
            return Value(shape, ids.reshape(1, -1, *[1] * (len(shape) - 2)) if len(shape) > 1 else ids)
        name = self.parameters.get(id(leaf), "a parameter")
        vector = sum(n > 1 for n in shape) <= 1  # a scale or shift per channel
        ids = self.labels.fresh(math.prod(shape) if vector else 1)
        self.labels.freeze(ids, f"parameter {name} acts on the channels outside a known layer")
        return Value(shape, ids.reshape(shape if vector else [1] * len(shape)))
