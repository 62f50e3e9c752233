"""What a network does in one run: its layers, the operations between them, its multiply-adds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from bench.structure.copies import FAILURES, asking_for_gradients, borrowed, duplicate
from bench.structure.labels import LayerCall
from bench.structure.layers import LayerRule, computes_weight, makes_channels, rule_of
from bench.structure.stack import running
from bench.structure.tensors import tensors_in
from bench.structure.uncounted import WatchfulCounter

NORMS = (F.batch_norm, torch.batch_norm, F.instance_norm, torch.instance_norm)
LIKE = (torch.zeros_like, torch.ones_like, torch.full_like, torch.rand_like, torch.randn_like)
KEPT_IN_PLACE = frozenset(("requires_grad_", "detach_", "copy_", "zero_", "fill_"))
"""Functions of an underscore that have no twin without one, or whose operand's old content does not matter."""
CONCATENATIONS = (torch.cat, torch.concat, torch.concatenate)
Source = tuple[Any, int]
"""An autograd node and which of its outputs."""


@dataclass(frozen=True)
class Run:
    """What one call of a layer saw."""

    layer: nn.Module
    rule: LayerRule
    call: LayerCall
    source: Source | None  # what made its input; None: a constant
    others: tuple[Source, ...]  # what made whatever else it was given


@dataclass(frozen=True)
class Call:
    """How a module was called: the shape of its one tensor, and whatever else it was given."""

    shape: tuple[int, ...]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass
class Record:
    """One run of a network, read off autograd."""

    leaf: torch.Tensor
    """The input."""
    runs: dict[Any, Run] = field(default_factory=dict)
    """By the autograd node of the layer's output."""
    outputs: list[Source] = field(default_factory=list)
    """Of the network."""
    read: dict[Source, None] = field(default_factory=dict)
    """What modules gave, whether it reaches an output or not."""
    made: dict[Source, None] = field(default_factory=dict)
    """What operations gave, used or not."""
    owners: dict[Any, str] = field(default_factory=dict)
    """By autograd node, the module in which it ran."""
    operands: dict[Any, list[tuple[int, ...]]] = field(default_factory=dict)
    """By the autograd node of a concatenation, the shapes of all that it was given, constants included."""
    statistics: dict[Any, list[torch.Tensor]] = field(default_factory=dict)
    """By the autograd node of a norm outside of layers, the buffers that it reads."""
    calls: dict[str, list[Call | None]] = field(default_factory=dict)
    """By module that keeps the shape of its one tensor; None for a call that does not."""
    entered: dict[str, None] = field(default_factory=dict)
    """Modules that ran, in the order of their first call."""
    inside: dict[str, int] = field(default_factory=dict)
    own: dict[str, int] = field(default_factory=dict)
    total: int = 0
    """Multiply-adds: inside each module, of each module's own, and of the network."""
    uncounted: dict[str, str] = field(default_factory=dict)
    """By module, what multiplies there out of the counter's sight."""


def record(model: nn.Module, example: torch.Tensor, *, training: bool = False) -> Record:
    """Run `model` once on `example`, in eval mode and with gradients even where it turns them off.

    The network is left as it was; in training mode its norms' statistics change.
    """
    leaf = example.detach().clone()
    with ExitStack() as stack:
        stack.enter_context(borrowed(model))
        stack.enter_context(asking_for_gradients((*model.parameters(), *_loose_buffers(model))))
        for module in model.modules():
            module.training = training
        if leaf.is_floating_point():
            leaf.requires_grad_()
        found = Record(leaf)
        names = stack.enter_context(running(model))
        counter = WatchfulCounter(model, leaf, names)
        _Recorder(found, model, counter)
        with _Functions(found, names), counter:
            result = model(leaf.clone())  # not a leaf: a network may change its input in place
        found.outputs = list(_sources(result))
        found.inside, found.own, found.total = counter.inside, counter.own, counter.total
        found.uncounted = counter.uncounted
    return found


def record_training(model: nn.Module, example: torch.Tensor, run: Record) -> Record | None:
    """Run a copy in training mode, if layers did not run in eval mode; None if all did, or it does not run so."""
    idle = [name for name, module in model.named_modules() if makes_channels(module) and name not in run.entered]
    if not idle:
        return None
    twice = example if len(example) > 1 else torch.cat([example, example])  # norms need more than one value
    with contextlib.suppress(*FAILURES):
        return record(duplicate(model), twice, training=True)
    return None


class _Functions(TorchFunctionMode):
    """Notes what every function of PyTorch gives, and lets none of them cut the way back to the input."""

    def __init__(self, found: Record, stack: list[str]) -> None:
        super().__init__()
        self.found, self.stack = found, stack

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch._C._set_grad_enabled:
            return None
        if func in (torch.Tensor.detach, torch.detach) and args and args[0].grad_fn is not None:
            return args[0].view_as(args[0])
        if func in NORMS:
            return self._norm(func, args, kwargs)
        if args and isinstance(args[0], torch.Tensor) and args[0]._is_view():
            func, kwargs = _out_of_place(func, kwargs)
        result = func(*args, **kwargs)
        if func in LIKE and args and args[0].grad_fn is not None:
            # Its size follows the other's: so do its channels.
            result = torch.where(torch.ones_like(args[0], dtype=torch.bool), result, args[0])
        if func in CONCATENATIONS and result.grad_fn is not None:
            self.found.operands[result.grad_fn] = [tuple(t.shape) for t in args[0]]
        if isinstance(result, (torch.Tensor, tuple, list)):
            for source in _sources(result):
                self._note(source)
        return result

    def _note(self, source: Source) -> None:
        """Note what was made, and in which module the operations ran that made it."""
        self.found.made.setdefault(source)
        owner = self.stack[-1] if self.stack else ""
        nodes = [source[0]]
        while nodes:
            node = nodes.pop()
            if node is not None and node not in self.found.owners:
                self.found.owners[node] = owner
                nodes += [before for before, _ in node.next_functions]

    def _norm(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A norm with running statistics, which must not ask for gradients."""
        statistics: list[torch.Tensor] = []

        def plain(value: Any) -> Any:
            if not isinstance(value, torch.Tensor) or isinstance(value, nn.Parameter) or value is self.found.leaf:
                return value
            if value.is_leaf and value.requires_grad:
                statistics.append(value)
                return value.detach()
            return value

        result = func(*map(plain, args), **{key: plain(value) for key, value in kwargs.items()})
        self._note((result.grad_fn, result.output_nr))
        self.found.statistics[result.grad_fn] = statistics
        return result


def _out_of_place(func: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A function that leaves its operand alone: what is written into a view, autograd only shows by strides."""
    if kwargs.get("inplace") is True:
        return func, {**kwargs, "inplace": False}
    name = getattr(func, "__name__", "")
    if name in KEPT_IN_PLACE:
        return func, kwargs
    if name.startswith("__i"):  # __iadd__
        return getattr(torch.Tensor, f"__{name[3:]}", func), kwargs
    if name.endswith("_") and not name.endswith("__"):  # add_
        return getattr(torch.Tensor, name[:-1], func), kwargs
    return func, kwargs


def _loose_buffers(model: nn.Module) -> Iterator[torch.Tensor]:
    """Buffers of modules that are no known layers."""
    for module in model.modules():
        if rule_of(module) is None:
            yield from module.buffers(recurse=False)


class _Recorder:
    """Hooks that note what each module was given and gave."""

    def __init__(self, found: Record, model: nn.Module, counter: WatchfulCounter) -> None:
        self.found, self.counter = found, counter
        self.names = {module: name for name, module in model.named_modules()}
        self._sources: dict[nn.Module, list[tuple[Source | None, tuple[int, ...], tuple[Source, ...]]]] = {}
        layers = {m: rule for m in self.names if (rule := rule_of(m)) is not None and not computes_weight(m)}
        # A layer is taken whole: timm's BatchNormAct2d runs its activation inside.
        inner = {part for layer in layers for part in layer.modules()} - set(layers)
        for module in self.names:
            module.register_forward_pre_hook(_unseen(self._before), with_kwargs=True)
            if module not in inner:
                module.register_forward_hook(_unseen(self._after))
            if module in layers:
                module.register_forward_pre_hook(_unseen(self._layer_before), with_kwargs=True)
                module.register_forward_hook(_unseen(self._layer_after(layers[module])))

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        name = self.names[module]
        self.found.entered.setdefault(name)
        plain = bool(args) and isinstance(args[0], torch.Tensor)
        plain = plain and len(list(tensors_in((*args, *kwargs.values())))) == 1
        call = Call(tuple(args[0].shape), args[1:], kwargs) if plain else None
        self.found.calls.setdefault(name, []).append(call)

    def _after(self, module: nn.Module, args: object, output: object) -> None:
        calls = self.found.calls[self.names[module]]
        if calls[-1] is not None and not (isinstance(output, torch.Tensor) and tuple(output.shape) == calls[-1].shape):
            calls[-1] = None
        self.counter.note_functions(tensors_in(output), self.names[module])
        self.found.read.update(dict.fromkeys(_sources(output)))

    def _layer_before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x, *others = tensors_in((*args, *kwargs.values()))
        source = (x.grad_fn, x.output_nr) if x.grad_fn is not None else None
        self._sources.setdefault(module, []).append((source, tuple(x.shape), tuple(_sources(others))))

    def _layer_after(self, rule: LayerRule) -> Any:
        def note(module: nn.Module, args: object, output: object) -> None:
            source, in_shape, others = self._sources[module].pop()
            first = next(tensors_in(output), None)  # some return more than what they made
            if first is not None and first.grad_fn is not None:
                call = LayerCall(self.names[module], in_shape, tuple(first.shape))
                self.found.runs[first.grad_fn] = Run(module, rule, call, source, others)

        return note


def _unseen(hook: Any) -> Any:
    """A hook whose own look at tensors is no function of the network."""

    def wrapped(*args: Any) -> None:
        with torch._C.DisableTorchFunction():
            hook(*args)

    return wrapped


def _sources(value: object) -> Iterator[Source]:
    """The autograd sources of the tensors in a value."""
    for tensor in tensors_in(value):
        if tensor.grad_fn is not None:
            yield tensor.grad_fn, tensor.output_nr
