"""How channel labels pass through the operations between layers.

An operation is known by the name of its autograd node, in lower case and without "Backward" (`CatBackward0` is
"cat"). `operation` registers a rule for more of them. Two kinds have none: operations that mix what they are given
(`MIXING`), at which labels end, and all others, which are taken for elementwise. That may be wrong of an operation
that nobody thought of; the check of the traced network (`bench.structure.verify`) then finds that pruned and masked
networks differ, and its groups are left whole.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bench.structure.labels import Labels, NotFollowed, Raw, Value, along, channel_labels

Inputs = Sequence["Value | None"]
"""Labels of an operation's operands; None for a constant."""
Shapes = Sequence[tuple[int, ...]]
"""Shapes of its results."""
Outputs = list["Value | None"]
Rule = Callable[[Labels, Any, Inputs, Shapes], Outputs]
"""(labels, autograd node, inputs, shapes of the results) -> labels of the results; raises NotFollowed."""

MIXING = ("mm", "bmm", "addmm", "baddbmm", "scaleddotproduct", "einsum", "convolution", "nativelayernorm",
          "sort", "topk", "fft", "gridsampler", "cdist")  # fmt: skip
"""Beginnings of the names of operations that mix what they are given: without one channel the rest changes."""

_RULES: dict[str, Rule] = {}


def operation(*names: str) -> Callable[[Rule], Rule]:
    """Decorator: a function is the rule of the operations of these names."""

    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def follow(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    """Labels of the results of one autograd node. Where they cannot be followed, the operands' are frozen."""
    known = [v for v in inputs if v is not None]
    if not known:
        return [None] * len(shapes)
    name = node.name().rsplit("::", 1)[-1]
    kind = name.split("Backward")[0].lower()
    rule = _RULES.get(kind)
    try:
        if rule is not None:
            return rule(labels, node, inputs, shapes)
        if kind.startswith(MIXING) or name == "CopySlices":
            raise NotFollowed
        return [elementwise(labels, known, shape) for shape in shapes]
    except (NotFollowed, ValueError, AttributeError):
        reason = f"operation {kind} is not followed channel by channel"
        for value in known:
            labels.freeze(value.labels, reason)
        ids = labels.fresh(1)
        labels.freeze(ids, reason)
        return [Value(shape, ids.reshape([1] * len(shape))) for shape in shapes]


def tails(node: Any, values: Sequence[Value]) -> frozenset[str]:
    """Where a factor for the result's channels belongs: at each operand, but at one factor of a product."""
    if node.name().startswith("Mul"):
        largest = max((math.prod(v.shape) for v in values), default=0)
        values = [v for v in values if math.prod(v.shape) == largest]
    return frozenset[str]().union(*(v.tails for v in values))


def elementwise(labels: Labels, values: Sequence[Value], shape: tuple[int, ...]) -> Value:
    """Operands are broadcast together; pooling and resizing count here too: they keep the channels."""
    rank = len(shape)
    if len(values) == 1 and values[0].raw is not None and len(values[0].shape) == rank:
        (value,) = values
        axes = [a if n == m else None for a, n, m in zip(values[0].raw.axes, value.shape, shape, strict=True)]
        return replace(value, shape=shape, raw=Raw(values[0].raw.name, tuple(axes)))
    values = _resolved(labels, values, shape)
    aligned: list[np.ndarray] = []
    for value in values:
        if len(value.shape) > rank:
            raise NotFollowed
        padded = (1,) * (rank - len(value.shape)) + value.shape
        ids = value.labels.reshape((1,) * (rank - value.labels.ndim) + value.labels.shape)
        for axis in range(rank):
            if ids.shape[axis] > 1 and padded[axis] != shape[axis]:
                raise NotFollowed
        aligned.append(ids)
    full = np.broadcast_shapes(*(ids.shape for ids in aligned))
    main = next((ids for ids in aligned if ids.shape == full), None)
    if main is None:  # labels vary along different axes: no single channel dimension
        raise NotFollowed
    for value, ids in zip(values, aligned, strict=True):
        padded = (1,) * (rank - len(value.shape)) + value.shape
        spread = [a for a in range(rank) if ids.shape[a] == 1 and full[a] > 1]
        # One channel that is broadcast over many couples nothing; one label on many real channels does.
        if ids is not main and not any(padded[a] == 1 for a in spread):
            labels.link(ids, main)
    return Value(shape, main)


def _resolved(labels: Labels, values: Sequence[Value], shape: tuple[int, ...]) -> list[Value]:
    """The operands, with channels for the parameters that meet channels along one of their dimensions."""
    rank = len(shape)
    axes = {v.labels.ndim - a for v in values if v.raw is None for a, n in enumerate(v.labels.shape) if n > 1}
    if len(axes) != 1:
        return list(values)
    (back,) = axes  # counted from the last dimension
    result: list[Value] = []
    for value in values:
        place = len(value.shape) - back
        if value.raw is None or place < 0 or value.shape[place] != shape[rank - back] or value.shape[place] == 1:
            result.append(value)
            continue
        axis = value.raw.axes[place]
        if axis is None:
            raise NotFollowed
        ids = labels.tensor(value.raw.name, axis, value.shape[place])
        result.append(Value(value.shape, along(ids, place, len(value.shape))))
    return result


@operation("mean", "sum", "amax", "amin", "max", "min", "var", "std", "logsumexp", "prod")
def reduction(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    (value,) = [v for v in inputs if v is not None]
    rank = len(value.shape)
    saved = getattr(node, "_saved_dim", None)
    dims = range(rank) if saved is None else (saved if isinstance(saved, tuple) else (saved,))
    axes = {_signed(d) % rank for d in dims} or set(range(rank))
    result: list[Value | None] = []
    for shape in shapes:
        if len(shape) == rank and value.shape != shape and not hasattr(node, "_saved_dim"):
            raise NotFollowed
        ids = value.labels
        if any(ids.shape[a] > 1 for a in axes):
            ids = _linked(labels, ids, axes)
        if len(shape) < rank:
            ids = ids.reshape([n for a, n in enumerate(ids.shape) if a not in axes])
        result.append(Value(shape, ids))
    return result


def _linked(labels: Labels, ids: np.ndarray, axes: Iterable[int]) -> np.ndarray:
    """`ids` with those along `axes` linked and the first in place of all; for what mixes them along there.

    Raises:
        NotFollowed: they vary along no other dimension, so that all channels would be mixed.
    """
    if not any(n > 1 for a, n in enumerate(ids.shape) if a not in axes):
        raise NotFollowed
    for axis in axes:
        if ids.shape[axis] > 1:
            first = ids.take([0], axis)
            labels.link(first, ids)
            ids = first
    return ids


@operation("nativebatchnorm", "cudnnbatchnorm", "miopenbatchnorm", "batchnormimplindex")
def batch_norm(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    """A norm outside of known layers: its scale, shift and statistics go with the channels."""
    value, *vectors = inputs
    ids = None if value is None else channel_labels(value, 1, value.shape[1])
    if value is None or ids is None:
        raise NotFollowed
    for vector in vectors:
        if vector is not None:
            labels.link(vector.labels, ids)
    return [Value(shapes[0], value.labels), *[None] * (len(shapes) - 1)]


@operation("nativegroupnorm")
def group_norm(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    """A norm over groups of channels outside of known layers: a group goes as a whole."""
    value, *vectors = inputs
    ids = None if value is None else channel_labels(value, 1, value.shape[1])
    if value is None or ids is None:
        raise NotFollowed
    parts = ids.reshape(int(node._saved_group), -1)
    labels.link_rows(parts)
    labels.counted(node, parts[:, 0])
    for vector in vectors:
        if vector is not None:
            labels.link(vector.labels, ids)
    return [Value(shapes[0], value.labels), *[None] * (len(shapes) - 1)]


@operation("convolution")
def convolution(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    """A depthwise convolution outside of known layers, such as a fixed blur; others are not followed."""
    value, weight, *rest = inputs
    axis = len(shapes[0]) - len(node._saved_stride) - 1
    channels = shapes[0][axis]
    if value is None or node._saved_transposed or not node._saved_groups == channels == value.shape[axis]:
        raise NotFollowed
    ids = channel_labels(value, axis, channels)
    if ids is None:
        raise NotFollowed
    size = math.prod(node._saved_weight.shape[2:])
    if weight is not None and weight.raw is not None and weight.raw.axes[0] is not None:
        labels.link(labels.tensor(weight.raw.name, weight.raw.axes[0], channels), ids)
    elif weight is not None and weight.labels.size == channels > 1:
        labels.link(weight.labels.ravel(), ids)
    elif weight is not None and weight.raw is None:
        raise NotFollowed
    for bias in rest:
        if bias is not None:
            labels.link(bias.labels, ids)
    labels.counted(node, ids)
    labels.works(node, ids, size * math.prod(shapes[0]) // channels)
    return [Value(shapes[0], along(ids, axis, len(shapes[0])))]


@operation("cat")
def concatenation(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    shape = shapes[0]
    axis = _signed(node._saved_dim) % len(shape)
    sizes = _sizes(labels, node, inputs, axis, shape[axis])
    parts: list[np.ndarray] = []
    for value, size in zip(inputs, sizes, strict=True):
        if value is None:  # a constant part: its channels stay
            ids = labels.fresh(size)
            labels.freeze(ids, "a constant is concatenated")
            parts.append(ids.reshape([size if a == axis else 1 for a in range(len(shape))]))
        else:
            parts.append(value.labels)
    elsewhere = np.broadcast_shapes(*([1 if a == axis else n for a, n in enumerate(p.shape)] for p in parts))
    if any(n > 1 for n in elsewhere):  # joined along another dimension: channels meet one to one
        if any(p.shape[axis] > 1 for p in parts):
            raise NotFollowed
        for part in parts[1:]:
            labels.link(parts[0], part)
        return [Value(shape, np.broadcast_to(parts[0], elsewhere))]
    if all(p.shape[axis] == 1 for p in parts) and all(v is None or v.labels.size == 1 < v.shape[axis] for v in inputs):
        for part in parts[1:]:
            labels.link(parts[0], part)
        return [Value(shape, parts[0])]
    spread = [np.broadcast_to(p, [n if a == axis else 1 for a in range(len(shape))])
              for p, n in zip(parts, sizes, strict=True)]  # fmt: skip
    return [Value(shape, np.concatenate(spread, axis))]


def _sizes(labels: Labels, node: Any, inputs: Inputs, axis: int, total: int) -> list[int]:
    """How much each operand of a concatenation adds to it."""
    known = labels.operands.get(node)
    if known is not None and len(known) == len(inputs):
        return [shape[axis] for shape in known]
    if sum(v is None for v in inputs) > 1:
        raise NotFollowed
    left = total - sum(v.shape[axis] for v in inputs if v is not None)
    return [left if v is None else v.shape[axis] for v in inputs]


@operation("stack")
def stack(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    if any(v is None for v in inputs):
        raise NotFollowed
    values = [v for v in inputs if v is not None]
    axis = _signed(node._saved_dim) % len(shapes[0])
    for value in values[1:]:
        labels.link(values[0].labels, value.labels)
    return [Value(shapes[0], np.expand_dims(values[0].labels, axis))]


@operation("split", "splitwithsizes", "chunk")
def splitting(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    (value,) = [v for v in inputs if v is not None]
    axis = _signed(node._saved_dim) % len(value.shape)
    if value.labels.shape[axis] == 1:
        return [Value(shape, value.labels) for shape in shapes]
    sizes = [shape[axis] for shape in shapes]
    ends = np.cumsum(sizes).tolist()
    parts = np.split(value.labels, ends[:-1], axis)
    labels.counted(node, value.labels)
    counted = [labels.counted(node, part) for part in parts] if value.labels.size == ends[-1] else [False]
    if not all(counted):
        _follow_the_width(labels, value, axis, ends)
    return [Value(shape, part) for shape, part in zip(shapes, parts, strict=True)]


def _follow_the_width(labels: Labels, value: Value, axis: int, bounds: Sequence[int]) -> None:
    """Bounds that the network computes from the number of channels: as many of them go from each part.

    If they are written in the code, the check of the traced network finds that out.
    """
    part = math.gcd(value.shape[axis], *bounds)
    moved = np.moveaxis(value.labels, axis, 0)
    parts = moved.reshape(-1, part, *moved.shape[1:])
    labels.link(parts[:1], parts)


@operation("unbind", "select")
def unbind(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    (value,) = [v for v in inputs if v is not None]
    axis = _signed(node._saved_dim) % len(value.shape)
    if value.labels.shape[axis] > 1:
        raise NotFollowed
    ids = value.labels.reshape([n for a, n in enumerate(value.labels.shape) if a != axis])
    return [Value(shape, ids) for shape in shapes]


@operation("slice")
def slicing(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    (value,) = [v for v in inputs if v is not None]
    axis = _signed(node._saved_dim) % len(value.shape)
    if value.labels.shape[axis] == 1 or shapes[0][axis] == value.shape[axis]:
        return [Value(shapes[0], value.labels)]
    n, step = value.shape[axis], int(node._saved_step)
    start, end, _ = slice(_signed(node._saved_start), min(_signed(node._saved_end), n)).indices(n)
    if step != 1 or value.labels.size != n:
        raise NotFollowed
    labels.counted(node, value.labels)
    bounds = [bound for bound in (start, end) if 0 < bound < n]
    if not all([labels.counted(node, value.labels.take(range(bound), axis)) for bound in bounds]):
        _follow_the_width(labels, value, axis, bounds)
    return [Value(shapes[0], value.labels.take(range(start, end), axis))]


@operation("constantpadnd")
def padding(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    (value,) = [v for v in inputs if v is not None]
    ids = value.labels
    pads = list(node._saved_pad)
    for i in range(0, len(pads), 2):
        axis = ids.ndim - 1 - i // 2
        if ids.shape[axis] == 1 or not (pads[i] or pads[i + 1]):
            continue
        if ids.size != ids.shape[axis] or min(pads[i : i + 2]) < 0:
            raise NotFollowed
        # Constant channels. The check of the traced network says whether the padding fits a thinner one.
        parts = [labels.fresh(pads[i]), ids.ravel(), labels.fresh(pads[i + 1])]
        ids = along(np.concatenate(parts), axis, ids.ndim)
    return [Value(shapes[0], ids)]


@operation("pixelshuffle")
def pixel_shuffle(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    (value,) = [v for v in inputs if v is not None]
    r = int(node._saved_upscale_factor)
    ids = channel_labels(value, -3, value.shape[-3])
    if ids is None:
        raise NotFollowed
    parts = ids.reshape(-1, r * r)
    labels.link_rows(parts)
    return [Value(shapes[0], along(parts[:, 0], -3, len(shapes[0])))]


@operation("pixelunshuffle")
def pixel_unshuffle(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    (value,) = [v for v in inputs if v is not None]
    ids = channel_labels(value, -3, value.shape[-3])
    if ids is None:
        raise NotFollowed
    r = int(node._saved_downscale_factor)
    return [Value(shapes[0], along(np.repeat(ids, r * r), -3, len(shapes[0])))]


@operation("permute", "transpose", "t", "movedim")
def permutation(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    (value,) = [v for v in inputs if v is not None]
    rank = len(value.shape)
    if hasattr(node, "_saved_dims"):
        order = [_signed(d) % rank for d in node._saved_dims]
    else:
        order = list(range(rank))
        given = hasattr(node, "_saved_dim0")
        a, b = (_signed(node._saved_dim0), _signed(node._saved_dim1)) if given else (0, -1)
        a, b = a % rank, b % rank
        order[a], order[b] = order[b], order[a]
    raw = value.raw and Raw(value.raw.name, tuple(value.raw.axes[a] for a in order))
    return [Value(shapes[0], value.labels.transpose(order), raw=raw)]


@operation("view", "unsafeview", "reshapealias", "reshape", "squeeze", "unsqueeze", "flatten", "alias", "clone")
def reshape(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    """Views, block by block: runs of dimensions that hold the same elements before and after."""
    (value,) = [v for v in inputs if v is not None]
    ids = value.labels
    if value.shape == shapes[0]:
        return [value]
    pieces = _blocks(value.shape, shapes[0])
    full: list[int] = []
    sizes: list[int] = []
    for before, after in pieces:
        live = any(ids.shape[a] > 1 for a in before)
        full.extend(value.shape[a] if live else 1 for a in before)
        sizes.extend(shapes[0][a] if live else 1 for a in after)
    moved = np.ascontiguousarray(np.broadcast_to(ids, full)).reshape(sizes)
    for axis in range(moved.ndim):  # drop the axes along which the label does not vary
        first = moved.take([0], axis)
        if (moved == first).all():
            moved = first
    for before, after in pieces:
        split = [a for a in after if moved.shape[a] > 1]
        if sum(ids.shape[a] > 1 for a in before) == 1 and len(split) > 1:
            # One channel dimension split as (g, m). If g is written in the code, the same offsets in each of the g
            # parts stay; if m is, parts stay whole.
            if labels.split(moved):
                moved = _linked(labels, moved, split[1:])
                labels.counted(node, moved)
            else:
                for axis in split[:-1]:
                    labels.link(moved.take([0], axis), moved)
                labels.counted(node, functools.reduce(lambda ids, axis: ids.take([0], axis), split[:-1], moved))
        elif moved.size in (value.shape[a] for a in before) or moved.size in (shapes[0][a] for a in after):
            labels.counted(node, moved)
    return [replace(value, shape=shapes[0], labels=moved, raw=_raw(value, pieces, shapes[0]))]


def _raw(value: Value, pieces: Sequence[tuple[list[int], list[int]]], shape: tuple[int, ...]) -> Raw | None:
    """The dimensions of a parameter after a view, as far as they are still there one by one."""
    if value.raw is None:
        return None
    axes: list[int | None] = [None] * len(shape)
    for before, after in pieces:
        old, new = [a for a in before if value.shape[a] > 1], [a for a in after if shape[a] > 1]
        if len(old) == len(new) == 1:
            axes[new[0]] = value.raw.axes[old[0]]
    return Raw(value.raw.name, tuple(axes))


@operation("repeat")
def repetition(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    (value,) = [v for v in inputs if v is not None]
    repeats = node._saved_repeats
    ids = value.labels.reshape((1,) * (len(repeats) - value.labels.ndim) + value.labels.shape)
    if any(r > 1 and n > 1 for r, n in zip(repeats, ids.shape, strict=True)):
        ids = np.tile(ids, [r if n > 1 else 1 for r, n in zip(repeats, ids.shape, strict=True)])
    return [Value(shapes[0], ids)]


@operation("softmax", "logsoftmax", "cumsum", "cumprod")
def along_dimension(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    """Softmax and the like: each channel keeps its own result unless they run over the channels."""
    (value,) = [v for v in inputs if v is not None]
    axis = _signed(node._saved_dim) % len(value.shape)
    if value.labels.shape[axis] > 1:
        _linked(labels, value.labels, {axis})
    return [Value(shapes[0], value.labels)]


@operation("flip")
def flipping(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    (value,) = [v for v in inputs if v is not None]
    axes = [_signed(d) % len(value.shape) for d in node._saved_dims]
    return [Value(shapes[0], np.flip(value.labels, axes))]


@operation("roll")
def rolling(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    (value,) = [v for v in inputs if v is not None]
    axes = [_signed(d) % len(value.shape) for d in node._saved_dims]
    if not axes or any(value.labels.shape[a] > 1 for a in axes):
        raise NotFollowed  # how far is written in the network's code
    return [Value(shapes[0], value.labels)]


@operation("fftr2c", "fftc2r", "fftc2c")
def fourier(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    (value,) = [v for v in inputs if v is not None]
    if any(value.labels.shape[_signed(d) % len(value.shape)] > 1 for d in node._saved_dim):
        raise NotFollowed
    return [Value(shapes[0], value.labels)]


@operation("viewasreal")
def view_as_real(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    (value,) = [v for v in inputs if v is not None]
    return [Value(shapes[0], value.labels[..., None])]


@operation("viewascomplex")
def view_as_complex(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    (value,) = [v for v in inputs if v is not None]
    if value.labels.shape[-1] > 1:
        raise NotFollowed
    return [Value(shapes[0], value.labels[..., 0])]


@operation("gridsampler2d", "gridsampler3d", "cudnngridsampler")
def grid_sample(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    """The image keeps its channels; where it is read from is read whole."""
    image, grid = inputs
    if grid is not None:
        labels.freeze(grid.labels, "where a grid is sampled is read from all its channels")
    return [None if image is None else Value(shapes[0], image.labels)]


@operation("glu")
def gated_linear_unit(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    """One half times the sigmoid of the other: channels meet one to one."""
    (value,) = [v for v in inputs if v is not None]
    axis = _signed(node._saved_dim) % len(value.shape)
    if value.labels.shape[axis] == 1:
        return [Value(shapes[0], value.labels)]
    first, second = np.split(value.labels, 2, axis)
    labels.link(first, second)
    return [Value(shapes[0], first)]


@operation("im2col")
def unfold(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    """Each channel becomes one for every place of the kernel, next to each other."""
    (value,) = [v for v in inputs if v is not None]
    ids = channel_labels(value, -3, value.shape[-3])
    if ids is None:
        raise NotFollowed
    size = math.prod(node._saved_kernel_size)
    return [Value(shapes[0], along(np.repeat(ids, size), len(shapes[0]) - 2, len(shapes[0])))]


@operation("col2im")
def fold(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    (value,) = [v for v in inputs if v is not None]
    ids = channel_labels(value, -2, value.shape[-2])
    if ids is None:
        raise NotFollowed
    parts = ids.reshape(-1, math.prod(node._saved_kernel_size))
    labels.link_rows(parts)
    return [Value(shapes[0], along(parts[:, 0], len(shapes[0]) - 3, len(shapes[0])))]


@operation("channelshuffle")
def channel_shuffle(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    (value,) = [v for v in inputs if v is not None]
    ids = channel_labels(value, -3, value.shape[-3])
    if ids is None:
        raise NotFollowed
    parts = ids.reshape(int(node._saved_groups), -1)
    labels.link_columns(parts)
    return [Value(shapes[0], along(parts.T.ravel(), -3, len(shapes[0])))]


@operation("index", "indexselect", "gather", "asstrided")
def reordering(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    raise NotFollowed


def _signed(dim: int) -> int:
    return dim - (1 << 64) if dim >= 1 << 63 else dim  # autograd saves negative dimensions unsigned


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
                raise NotFollowed
        blocks.append((a, b))
    if not blocks:
        blocks.append(([], []))
    blocks[-1][0].extend(range(i, len(before)))  # what is left has sizes of one
    blocks[-1][1].extend(range(j, len(after)))
    return blocks
