"""Which channels belong together: channel labels carried along a traced network.

Torch-Pruning's `DependencyGraph` traces the network and says which layers it holds. Along that trace every
tensor gets *labels*: an integer array that broadcasts to the tensor's shape and names, for each element, the
channel it came from. A convolution makes fresh labels, an addition links the labels of its operands, a
concatenation joins them, a view reshapes them. Channels whose labels end up linked must be removed together
(an *atom*); labels that meet something which pruning would change (a LayerNorm over channels, a matrix
product of activations, the network's output) are *frozen*, with the reason.

Labels replace Torch-Pruning's own index mappings, which (1.6.1) raise on PixelShuffle and ShuffleNetV2, never
end on MAnet and take a broadcast one-channel gate for a coupling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn as nn
import torch_pruning as tp
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch.utils.flop_counter import FlopCounterMode

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)
INSTANCE_NORMS = (nn.modules.instancenorm._InstanceNorm,)
LAYERS = (*CONVS, nn.Linear, *BATCH_NORMS, *INSTANCE_NORMS, nn.GroupNorm, nn.PReLU, nn.LayerNorm, nn.RMSNorm)

# Operations that mix what they are given: removing a channel changes the rest of the result.
MIXING = ("mm", "bmm", "addmm", "baddbmm", "scaleddotproduct", "einsum", "convolution", "nativelayernorm",
          "nativegroupnorm", "cumsum", "sort", "topk", "fft", "gridsampler")  # fmt: skip


@dataclass(frozen=True)
class Value:
    """A traced tensor: its shape, and labels that broadcast to it (size 1 where the label does not vary)."""

    shape: tuple[int, ...]
    labels: np.ndarray  # int64 [d_0, …], d_i in {1, shape[i]}
    tails: frozenset[str] = frozenset()  # the affine layers whose output this is, activations aside


@dataclass
class Side:
    """One side of a layer, over all its calls: `ids[i]` is the label of its channel i."""

    module: str
    kind: str  # "out" (rows made), "in" (columns read), "pass" (affine of a norm, depthwise rows)
    ids: np.ndarray


@dataclass
class Call:
    """One call of a convolution or linear layer: `positions` multiplies its kernel once per place and image."""

    module: str
    positions: int


@dataclass
class Atoms:
    """The result: labels by atom, frozen atoms with their reasons, and what each layer reads and makes."""

    of_label: np.ndarray  # [labels] -> atom
    frozen: dict[int, str]
    sides: list[Side]
    calls: list[Call]
    unreached: tuple[str, ...]
    order: tuple[str, ...]  # layers in the order of their first call
    tails: dict[str, set[str]]  # layer -> the affine layers right before it
    macs: dict[str, int]  # multiply-adds by module, containers included; "" is the whole network


@dataclass
class _Run:
    """What one call of a layer saw."""

    module: nn.Module
    name: str
    source: tuple[Any, int] | None  # autograd node that made its input, and which of its outputs
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]


@dataclass
class _Labels:
    count: int = 0
    left: list[np.ndarray] = field(default_factory=list)
    right: list[np.ndarray] = field(default_factory=list)
    frozen: list[tuple[np.ndarray, str]] = field(default_factory=list)

    def fresh(self, n: int) -> np.ndarray:
        self.count += n
        return np.arange(self.count - n, self.count)

    def link(self, a: np.ndarray, b: np.ndarray) -> None:
        a, b = np.broadcast_arrays(a, b)
        self.left.append(a.ravel())
        self.right.append(b.ravel())

    def freeze(self, ids: np.ndarray, reason: str) -> None:
        self.frozen.append((np.unique(ids), reason))

    def atoms(self) -> tuple[np.ndarray, dict[int, str]]:
        a = np.concatenate([*self.left, np.zeros(0, int)])
        b = np.concatenate([*self.right, np.zeros(0, int)])
        matrix = coo_matrix((np.ones(len(a), np.int8), (a, b)), shape=(self.count, self.count))
        _, of_label = connected_components(matrix, directed=False)
        reasons: dict[int, str] = {}
        for ids, reason in self.frozen:
            for atom in np.unique(of_label[ids]).tolist():
                reasons.setdefault(atom, reason)
        return of_label, reasons


def tensors_in(output: object) -> Iterator[torch.Tensor]:
    """The tensors of a network's output, whether tensor, list, dict, or dataclass."""
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, Mapping):
        for item in output.values():
            yield from tensors_in(item)
    elif isinstance(output, (list, tuple)):
        for item in output:
            yield from tensors_in(item)
    elif is_dataclass(output) and not isinstance(output, type):
        for entry in fields(output):
            yield from tensors_in(getattr(output, entry.name))


def trace_atoms(model: nn.Module, example: torch.Tensor, protect: Iterable[str] = ()) -> Atoms:
    """Run `model` once on `example` and label every channel.

    `model` must be in eval mode with all parameters requiring gradients: the trace is read off autograd.
    `protect` names layers whose output channels stay.
    """
    names = {module: name for name, module in model.named_modules()}
    runs: dict[Any, _Run] = {}
    entered: dict[nn.Module, list[tuple[tuple[Any, int] | None, tuple[int, ...]]]] = {}

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = next(tensors_in((*args, *kwargs.values())))
        source = (x.grad_fn, x.output_nr) if x.grad_fn is not None else None
        entered.setdefault(module, []).append((source, tuple(x.shape)))

    def after(module: nn.Module, args: object, output: torch.Tensor) -> None:
        source, in_shape = entered[module].pop()
        runs[output.grad_fn] = _Run(module, names[module], source, in_shape, tuple(output.shape))

    ends: list[tuple[Any, int]] = []

    def end(module: nn.Module, args: object, output: object) -> None:
        ends.extend((t.grad_fn, t.output_nr) for t in tensors_in(output) if t.grad_fn is not None)

    hooks = []
    # A layer is taken whole: timm's BatchNormAct2d runs its activation inside.
    inner = {part for layer in model.modules() if isinstance(layer, LAYERS) for part in layer.modules()} - {
        layer for layer in model.modules() if isinstance(layer, LAYERS)
    }
    for module in model.modules():
        if module not in inner:
            hooks.append(module.register_forward_hook(end))
        if isinstance(module, LAYERS):
            hooks.append(module.register_forward_pre_hook(before, with_kwargs=True))
            hooks.append(module.register_forward_hook(after))
    outputs: list[torch.Tensor] = []
    leaf = example.detach().clone().requires_grad_()

    counter = FlopCounterMode(display=False)

    def forward(network: nn.Module, inputs: Any) -> Any:
        for record in (outputs, runs, ends):
            record.clear()
        with counter:
            result = network(inputs.clone())  # not a leaf: a network may change its input in place
        outputs.extend(t for t in tensors_in(result) if t.grad_fn is not None)
        return outputs

    dependencies = tp.DependencyGraph()
    try:
        dependencies.build_dependency(model, leaf, forward_fn=forward, verbose=False)
    except (ArithmeticError, LookupError, TypeError, RecursionError):
        # Its trace is complete before its index mappings are made, and only those can fail here.
        if not hasattr(dependencies, "module2node"):
            raise
    finally:
        for hook in hooks:
            hook.remove()
    nodes = dependencies.module2node
    parameters = {id(p): name for name, p in model.named_parameters()}
    walk = _Walk(runs, id(leaf), parameters, frozenset(protect))
    for tensor in outputs:
        walk.value(tensor.grad_fn, tensor.output_nr)
        for value in walk.memo[tensor.grad_fn]:
            if value is not None:
                walk.labels.freeze(value.labels, "output of the network")
    for node, output in ends:  # what runs without reaching the output reads its inputs all the same
        walk.value(node, output)
    reached = {*nodes, *(run.module for run in runs.values())}
    unreached = tuple(
        name for module, name in names.items() if isinstance(module, (*CONVS, nn.Linear)) and module not in reached
    )
    of_label, frozen = walk.labels.atoms()
    order = tuple(dict.fromkeys(run.name for run in runs.values()))
    root = type(model).__name__
    macs = {
        name.removeprefix(root).removeprefix("."): sum(by_op.values()) // 2
        for name, by_op in counter.get_flop_counts().items()
        if name.split(".")[0] == root
    }
    return Atoms(of_label, frozen, list(walk.sides.values()), walk.calls, unreached, order, walk.tails, macs)


class _Walk:
    """Labels along the autograd graph, from the input to the outputs."""

    def __init__(self, runs: dict[Any, _Run], leaf: int, parameters: dict[int, str], protect: frozenset[str]):
        self.runs, self.leaf, self.parameters, self.protect = runs, leaf, parameters, protect
        self.labels = _Labels()
        self.memo: dict[Any, list[Value | None]] = {}
        self.sides: dict[tuple[str, str], Side] = {}
        self.calls: list[Call] = []
        self.tails: dict[str, set[str]] = {}

    def value(self, node: Any, output: int) -> Value | None:
        """The labels of output number `output` of an autograd node; what it needs is labelled first."""
        stack = [node]
        while stack:
            current = stack[-1]
            if current in self.memo:
                stack.pop()
                continue
            run = self.runs.get(current)
            if run is not None:
                sources = [run.source]
            else:
                sources = [(f, k) if f is not None else None for f, k in current.next_functions]
            missing = [s[0] for s in sources if s is not None and s[0] not in self.memo]
            if missing:
                stack.extend(missing)
                continue
            inputs = [None if s is None else self.memo[s[0]][s[1]] for s in sources]
            shapes = [tuple(int(n) for n in meta.shape) for meta in current._input_metadata]
            if run is not None:
                made = self.layer(run, inputs[0])
                before = inputs[0].tails if inputs[0] is not None else frozenset()
                self.tails.setdefault(run.name, set()).update(before)
                if made is not None and not isinstance(run.module, nn.PReLU):
                    made = replace(made, tails=frozenset({run.name}))
                self.memo[current] = [made] + [None] * (len(shapes) - 1)
            elif hasattr(current, "variable"):
                self.memo[current] = [self.variable(current.variable)]
            else:
                tails = _tails(current, [v for v in inputs if v is not None])
                results = self.operation(current, inputs, shapes)
                self.memo[current] = [v and replace(v, tails=tails) for v in results]
            stack.pop()
        return self.memo[node][output]

    def variable(self, leaf: torch.Tensor) -> Value | None:
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

    # -- layers ------------------------------------------------------------------------------------------

    def layer(self, run: _Run, value: Value | None) -> Value | None:
        module, name = run.module, run.name
        if isinstance(module, CONVS):
            return self.convolution(run, module, value)
        if isinstance(module, nn.Linear):
            self.columns(run, value, -1, module.in_features)
            self.calls.append(Call(name, math.prod(run.out_shape[:-1])))
            made = self.make(name, module.out_features)
            return Value(run.out_shape, made.reshape(*[1] * (len(run.out_shape) - 1), -1))
        if value is None:
            return None
        if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
            if value.labels.size > 1:
                self.labels.freeze(value.labels, f"{type(module).__name__} {name} normalises over the channels")
            return value
        if isinstance(module, nn.PReLU) and module.num_parameters == 1:
            return value
        ids = self.channel_ids(value, 1, run.in_shape[1])
        if ids is None:
            self.labels.freeze(value.labels, f"{type(module).__name__} {name} sees no plain channel dimension")
            return value
        if isinstance(module, nn.GroupNorm):
            parts = ids.reshape(module.num_groups, -1)
            self.labels.link(parts[:, :1], parts)
        self.side(name, "pass", ids)
        return value

    def convolution(self, run: _Run, module: nn.Module, value: Value | None) -> Value:
        n_in, n_out, groups = module.in_channels, module.out_channels, module.groups
        assert isinstance(n_in, int) and isinstance(n_out, int) and isinstance(groups, int)
        batched = len(run.in_shape) == len(tuple(module.kernel_size)) + 2  # pyright: ignore[reportArgumentType]
        axis = 1 if batched else 0
        shape = run.in_shape if isinstance(module, TRANSPOSED) else run.out_shape
        self.calls.append(Call(run.name, math.prod(shape) // shape[axis]))
        each = groups > 1 and groups == n_in  # every input channel has filters of its own
        ids = self.columns(run, value, axis, n_in, keep_side=not each)
        if each and ids is not None:
            made = np.repeat(ids, n_out // n_in)
            self.side(run.name, "pass", made)
        else:
            made = self.make(run.name, n_out)
            if each:
                self.labels.freeze(made, f"depthwise convolution {run.name} reads channels that stay")
            elif groups > 1:
                # The same offsets in every group of the convolution, so that the groups stay alike.
                parts = made.reshape(groups, -1)
                self.labels.link(parts[:1], parts)
                if ids is not None:
                    parts = ids.reshape(groups, -1)
                    self.labels.link(parts[:1], parts)
        if run.name in self.protect:
            self.labels.freeze(made, "protected by the caller")
        tail = [1] * (len(run.out_shape) - axis - 1)
        return Value(run.out_shape, made.reshape(*[1] * axis, -1, *tail))

    def make(self, name: str, n: int) -> np.ndarray:
        """Labels of a layer's output channels; the same ones at every call of a shared layer."""
        known = self.sides.get((name, "out"))
        if known is None:
            known = self.sides[name, "out"] = Side(name, "out", self.labels.fresh(n))
            if name in self.protect:
                self.labels.freeze(known.ids, "protected by the caller")
        return known.ids

    def columns(self, run: _Run, value: Value | None, axis: int, n: int, keep_side: bool = True) -> np.ndarray | None:
        """Labels of a layer's input channels, one per weight column; None for a constant input."""
        if value is None:
            return None
        ids = self.channel_ids(value, axis, n)
        if ids is None:
            self.labels.freeze(value.labels, f"{run.name} reads a tensor whose channels lie elsewhere")
            return None
        if keep_side:
            self.side(run.name, "in", ids)
        return ids

    def side(self, name: str, kind: str, ids: np.ndarray) -> None:
        known = self.sides.get((name, kind))
        if known is None:
            self.sides[name, kind] = Side(name, kind, ids)
        else:
            self.labels.link(known.ids, ids)

    def channel_ids(self, value: Value, axis: int, n: int) -> np.ndarray | None:
        """The labels along `axis`, if they vary there and nowhere else."""
        axis %= len(value.shape)
        if value.shape[axis] != n or value.labels.size != value.labels.shape[axis]:
            return None
        ids = value.labels.ravel()
        if len(ids) == n:
            return ids
        return None if n > 1 else ids

    # -- operations between layers -----------------------------------------------------------------------

    def operation(self, node: Any, inputs: list[Value | None], shapes: list[tuple[int, ...]]) -> list[Value | None]:
        known = [v for v in inputs if v is not None]
        if not known:
            return [None] * len(shapes)
        name = node.name().rsplit("::", 1)[-1]
        kind = name.split("Backward")[0].lower()
        rule = _RULES.get(kind)
        try:
            if rule is not None:
                return rule(self, node, inputs, shapes)
            if kind.startswith(MIXING) or name == "CopySlices":
                raise _Unknown
            return [self.elementwise(known, shape) for shape in shapes]
        except (_Unknown, ValueError, AttributeError):
            for value in known:
                self.labels.freeze(value.labels, f"operation {kind} is not followed channel by channel")
            ids = self.labels.fresh(1)
            self.labels.freeze(ids, f"operation {kind} is not followed channel by channel")
            return [Value(shape, ids.reshape([1] * len(shape))) for shape in shapes]

    def elementwise(self, values: list[Value], shape: tuple[int, ...]) -> Value:
        """Operands are broadcast together; pooling and resizing count here too: they keep the channels."""
        rank = len(shape)
        aligned: list[np.ndarray] = []
        for value in values:
            if len(value.shape) > rank:
                raise _Unknown
            padded = (1,) * (rank - len(value.shape)) + value.shape
            labels = value.labels.reshape((1,) * (rank - value.labels.ndim) + value.labels.shape)
            for axis in range(rank):
                if labels.shape[axis] > 1 and padded[axis] != shape[axis]:
                    raise _Unknown
            aligned.append(labels)
        full = np.broadcast_shapes(*(labels.shape for labels in aligned))
        main = next((labels for labels in aligned if labels.shape == full), None)
        if main is None:  # labels vary along different axes: no single channel dimension
            raise _Unknown
        for value, labels in zip(values, aligned, strict=True):
            padded = (1,) * (rank - len(value.shape)) + value.shape
            spread = [a for a in range(rank) if labels.shape[a] == 1 and full[a] > 1]
            # One channel broadcast over many couples nothing; a constant label over real channels does.
            if labels is not main and not any(padded[a] == 1 for a in spread):
                self.labels.link(labels, main)
        return Value(shape, main)

    def reduction(self, node: Any, inputs: list[Value | None], shapes: list[tuple[int, ...]]) -> list[Value | None]:
        (value,) = [v for v in inputs if v is not None]
        rank = len(value.shape)
        saved = getattr(node, "_saved_dim", None)
        dims = range(rank) if saved is None else (saved if isinstance(saved, tuple) else (saved,))
        axes = {_signed(d) % rank for d in dims} or set(range(rank))
        result: list[Value | None] = []
        for shape in shapes:
            if len(shape) == rank and value.shape != shape and not hasattr(node, "_saved_dim"):
                raise _Unknown
            labels = value.labels
            if any(labels.shape[a] > 1 for a in axes):
                raise _Unknown
            if len(shape) < rank:
                labels = labels.reshape([n for a, n in enumerate(labels.shape) if a not in axes])
            result.append(Value(shape, labels))
        return result

    def concatenation(self, node: Any, inputs: list[Value | None], shapes: list[tuple[int, ...]]) -> list[Value | None]:
        shape = shapes[0]
        axis = _signed(node._saved_dim) % len(shape)
        left = shape[axis] - sum(v.shape[axis] for v in inputs if v is not None)
        if sum(v is None for v in inputs) > 1:
            raise _Unknown
        parts: list[np.ndarray] = []
        for value in inputs:
            if value is None:  # a constant part: its channels stay
                ids = self.labels.fresh(left)
                self.labels.freeze(ids, "a constant is concatenated")
                parts.append(ids.reshape([left if a == axis else 1 for a in range(len(shape))]))
            else:
                parts.append(value.labels)
        elsewhere = np.broadcast_shapes(*([1 if a == axis else n for a, n in enumerate(p.shape)] for p in parts))
        if any(n > 1 for n in elsewhere):  # joined along another dimension: channels meet one to one
            if any(p.shape[axis] > 1 for p in parts):
                raise _Unknown
            for part in parts[1:]:
                self.labels.link(parts[0], part)
            return [Value(shape, np.broadcast_to(parts[0], elsewhere))]
        if all(p.shape[axis] == 1 for p in parts) and all(
            v is None or v.labels.size == 1 < v.shape[axis] for v in inputs
        ):
            for part in parts[1:]:
                self.labels.link(parts[0], part)
            return [Value(shape, parts[0])]
        sizes = [left if v is None else v.shape[axis] for v in inputs]
        spread = [np.broadcast_to(p, [n if a == axis else 1 for a in range(len(shape))])
                  for p, n in zip(parts, sizes, strict=True)]  # fmt: skip
        return [Value(shape, np.concatenate(spread, axis))]

    def stack(self, node: Any, inputs: list[Value | None], shapes: list[tuple[int, ...]]) -> list[Value | None]:
        if any(v is None for v in inputs):
            raise _Unknown
        values = [v for v in inputs if v is not None]
        axis = _signed(node._saved_dim) % len(shapes[0])
        for value in values[1:]:
            self.labels.link(values[0].labels, value.labels)
        return [Value(shapes[0], np.expand_dims(values[0].labels, axis))]

    def split(self, node: Any, inputs: list[Value | None], shapes: list[tuple[int, ...]]) -> list[Value | None]:
        (value,) = [v for v in inputs if v is not None]
        axis = _signed(node._saved_dim) % len(value.shape)
        if value.labels.shape[axis] == 1:
            return [Value(shape, value.labels) for shape in shapes]
        sizes = [shape[axis] for shape in shapes]
        if len(set(sizes)) > 1:
            raise _Unknown
        parts = np.split(value.labels, np.cumsum(sizes)[:-1].tolist(), axis)
        for part in parts[1:]:  # equal parts must stay equal
            self.labels.link(parts[0], part)
        return [Value(shape, part) for shape, part in zip(shapes, parts, strict=True)]

    def unbind(self, node: Any, inputs: list[Value | None], shapes: list[tuple[int, ...]]) -> list[Value | None]:
        (value,) = [v for v in inputs if v is not None]
        axis = _signed(node._saved_dim) % len(value.shape)
        if value.labels.shape[axis] > 1:
            raise _Unknown
        labels = value.labels.reshape([n for a, n in enumerate(value.labels.shape) if a != axis])
        return [Value(shape, labels) for shape in shapes]

    def slicing(self, node: Any, inputs: list[Value | None], shapes: list[tuple[int, ...]]) -> list[Value | None]:
        (value,) = [v for v in inputs if v is not None]
        axis = _signed(node._saved_dim) % len(value.shape)
        if value.labels.shape[axis] > 1 and shapes[0][axis] != value.shape[axis]:
            raise _Unknown  # the bounds are written in the network's code
        return [Value(shapes[0], value.labels)]

    def padding(self, node: Any, inputs: list[Value | None], shapes: list[tuple[int, ...]]) -> list[Value | None]:
        (value,) = [v for v in inputs if v is not None]
        labels = value.labels
        pads = list(node._saved_pad)
        for i in range(0, len(pads), 2):
            axis = labels.ndim - 1 - i // 2
            if labels.shape[axis] == 1 or not (pads[i] or pads[i + 1]):
                continue
            if labels.size != labels.shape[axis] or min(pads[i : i + 2]) < 0:
                raise _Unknown
            # Constant channels: whether the padding follows a thinner network is for the check to say.
            parts = [self.labels.fresh(pads[i]), labels.ravel(), self.labels.fresh(pads[i + 1])]
            labels = np.concatenate(parts).reshape([-1 if a == axis else 1 for a in range(labels.ndim)])
        return [Value(shapes[0], labels)]

    def shuffle(self, node: Any, inputs: list[Value | None], shapes: list[tuple[int, ...]]) -> list[Value | None]:
        (value,) = [v for v in inputs if v is not None]
        r = int(node._saved_upscale_factor)
        ids = self.channel_ids(value, -3, value.shape[-3])
        if ids is None:
            raise _Unknown
        parts = ids.reshape(-1, r * r)
        self.labels.link(parts[:, :1], parts)
        return [Value(shapes[0], _at(parts[:, 0], -3, len(shapes[0])))]

    def unshuffle(self, node: Any, inputs: list[Value | None], shapes: list[tuple[int, ...]]) -> list[Value | None]:
        (value,) = [v for v in inputs if v is not None]
        ids = self.channel_ids(value, -3, value.shape[-3])
        if ids is None:
            raise _Unknown
        r = int(node._saved_downscale_factor)
        return [Value(shapes[0], _at(np.repeat(ids, r * r), -3, len(shapes[0])))]

    def permutation(self, node: Any, inputs: list[Value | None], shapes: list[tuple[int, ...]]) -> list[Value | None]:
        (value,) = [v for v in inputs if v is not None]
        rank = len(value.shape)
        if hasattr(node, "_saved_dims"):
            order = [_signed(d) % rank for d in node._saved_dims]
        else:
            order = list(range(rank))
            a, b = (_signed(node._saved_dim0) % rank, _signed(node._saved_dim1) % rank) if hasattr(
                node, "_saved_dim0") else (0, rank - 1)  # fmt: skip
            order[a], order[b] = order[b], order[a]
        return [Value(shapes[0], value.labels.transpose(order))]

    def reshape(self, node: Any, inputs: list[Value | None], shapes: list[tuple[int, ...]]) -> list[Value | None]:
        """Views, block by block: runs of dimensions that hold the same elements before and after."""
        (value,) = [v for v in inputs if v is not None]
        labels = value.labels
        if value.shape == shapes[0]:
            return [value]
        pieces = _blocks(value.shape, shapes[0])
        full: list[int] = []
        sizes: list[int] = []
        for before, after in pieces:
            live = any(labels.shape[a] > 1 for a in before)
            full.extend(value.shape[a] if live else 1 for a in before)
            sizes.extend(shapes[0][a] if live else 1 for a in after)
        moved = np.ascontiguousarray(np.broadcast_to(labels, full)).reshape(sizes)
        for axis in range(moved.ndim):  # drop the axes along which the label does not vary
            first = moved.take([0], axis)
            if (moved == first).all():
                moved = first
        for before, after in pieces:
            split = [a for a in after if moved.shape[a] > 1]
            if sum(labels.shape[a] > 1 for a in before) == 1:
                # One channel dimension split as (g, m): the same offsets in each of the g parts stay.
                for axis in split[:-1]:
                    self.labels.link(moved.take([0], axis), moved)
        return [Value(shapes[0], moved)]

    def repetition(self, node: Any, inputs: list[Value | None], shapes: list[tuple[int, ...]]) -> list[Value | None]:
        (value,) = [v for v in inputs if v is not None]
        repeats = node._saved_repeats
        labels = value.labels.reshape((1,) * (len(repeats) - value.labels.ndim) + value.labels.shape)
        if any(r > 1 and n > 1 for r, n in zip(repeats, labels.shape, strict=True)):
            labels = np.tile(labels, [r if n > 1 else 1 for r, n in zip(repeats, labels.shape, strict=True)])
        return [Value(shapes[0], labels)]

    def along(self, node: Any, inputs: list[Value | None], shapes: list[tuple[int, ...]]) -> list[Value | None]:
        """softmax and its kin: exact unless they run over the channels."""
        (value,) = [v for v in inputs if v is not None]
        if value.labels.shape[_signed(node._saved_dim) % len(value.shape)] > 1:
            raise _Unknown
        return [Value(shapes[0], value.labels)]

    def gather(self, node: Any, inputs: list[Value | None], shapes: list[tuple[int, ...]]) -> list[Value | None]:
        raise _Unknown


class _Unknown(Exception):
    """The operation moves channels in a way the labels cannot follow."""


_Rule = Callable[[_Walk, Any, list[Value | None], list[tuple[int, ...]]], list[Value | None]]
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(("mean", "sum", "amax", "amin", "max", "min", "var", "std", "logsumexp", "prod"),
                    _Walk.reduction),
    **dict.fromkeys(("view", "unsafeview", "reshapealias", "reshape", "squeeze", "unsqueeze", "flatten",
                     "alias", "clone", "asstrided"), _Walk.reshape),
    **dict.fromkeys(("permute", "transpose", "t", "movedim"), _Walk.permutation),
    **dict.fromkeys(("softmax", "logsoftmax", "cumsum", "cumprod"), _Walk.along),
    **dict.fromkeys(("split", "splitwithsizes", "chunk"), _Walk.split),
    **dict.fromkeys(("index", "indexselect", "gather", "roll", "flip", "channelshuffle", "asstrided"),
                    _Walk.gather),
    "cat": _Walk.concatenation,
    "stack": _Walk.stack,
    "unbind": _Walk.unbind,
    "select": _Walk.unbind,
    "slice": _Walk.slicing,
    "constantpadnd": _Walk.padding,
    "pixelshuffle": _Walk.shuffle,
    "pixelunshuffle": _Walk.unshuffle,
    "repeat": _Walk.repetition,
}  # fmt: skip


def _tails(node: Any, values: list[Value]) -> frozenset[str]:
    """Where a factor for the result's channels belongs: at each operand, but at one factor of a product."""
    if node.name().startswith("Mul"):
        largest = max((math.prod(v.shape) for v in values), default=0)
        values = [v for v in values if math.prod(v.shape) == largest]
    return frozenset[str]().union(*(v.tails for v in values))


def _signed(dim: int) -> int:
    return dim - (1 << 64) if dim >= 1 << 63 else dim  # autograd saves negative dimensions unsigned


def _at(ids: np.ndarray, axis: int, rank: int) -> np.ndarray:
    shape = [1] * rank
    shape[axis] = -1
    return ids.reshape(shape)


def _blocks(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Shortest runs of dimensions with equal element counts, left to right."""
    blocks: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) and j < len(after):
        a, b = [i], [j]
        p, q = before[i], after[j]
        i, j = i + 1, j + 1
        while p != q:
            if p < q and i < len(before):
                a.append(i)
                p *= before[i]
                i += 1
            elif j < len(after):
                b.append(j)
                q *= after[j]
                j += 1
            else:
                raise _Unknown
        blocks.append((a, b))
    if not blocks:
        blocks.append(([], []))
    blocks[-1][0].extend(range(i, len(before)))  # what is left holds no elements of its own: sizes of one
    blocks[-1][1].extend(range(j, len(after)))
    return blocks
