"""How channel labels pass through operations that move channels: joins, splits, views, shuffles."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bench.structure.labels import Labels, NotFollowed, Raw, Value, along
from bench.structure.operations import Inputs, Outputs, Shapes, channels_along, linked, only, operation, signed


@operation("cat")
def concatenation(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    shape = shapes[0]
    axis = signed(node._saved_dim) % len(shape)
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
    axis = signed(node._saved_dim) % len(shapes[0])
    for value in values[1:]:
        labels.link(values[0].labels, value.labels)
    return [Value(shapes[0], np.expand_dims(values[0].labels, axis))]


@operation("split", "splitwithsizes", "chunk")
def splitting(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    value = only(inputs)
    axis = signed(node._saved_dim) % len(value.shape)
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
    value = only(inputs)
    axis = signed(node._saved_dim) % len(value.shape)
    if value.labels.shape[axis] > 1:
        raise NotFollowed
    ids = value.labels.reshape([n for a, n in enumerate(value.labels.shape) if a != axis])
    return [Value(shape, ids) for shape in shapes]


@operation("slice")
def slicing(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    value = only(inputs)
    axis = signed(node._saved_dim) % len(value.shape)
    if value.labels.shape[axis] == 1 or shapes[0][axis] == value.shape[axis]:
        return [Value(shapes[0], value.labels)]
    n, step = value.shape[axis], int(node._saved_step)
    start, end, _ = slice(signed(node._saved_start), min(signed(node._saved_end), n)).indices(n)
    if step != 1 or value.labels.size != n:
        raise NotFollowed
    labels.counted(node, value.labels)
    bounds = [bound for bound in (start, end) if 0 < bound < n]
    counted = [labels.counted(node, value.labels.take(range(bound), axis)) for bound in bounds]
    if not all(counted):
        _follow_the_width(labels, value, axis, bounds)
    return [Value(shapes[0], value.labels.take(range(start, end), axis))]


@operation("constantpadnd")
def padding(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    value = only(inputs)
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
    value = only(inputs)
    r = int(node._saved_upscale_factor)
    ids = channels_along(value, -3)
    parts = ids.reshape(-1, r * r)
    labels.link_rows(parts)
    return [Value(shapes[0], along(parts[:, 0], -3, len(shapes[0])))]


@operation("pixelunshuffle")
def pixel_unshuffle(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    value = only(inputs)
    ids = channels_along(value, -3)
    r = int(node._saved_downscale_factor)
    return [Value(shapes[0], along(np.repeat(ids, r * r), -3, len(shapes[0])))]


@operation("permute", "transpose", "t", "movedim")
def permutation(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    value = only(inputs)
    rank = len(value.shape)
    if hasattr(node, "_saved_dims"):
        order = [signed(d) % rank for d in node._saved_dims]
    else:
        order = list(range(rank))
        given = hasattr(node, "_saved_dim0")
        a, b = (signed(node._saved_dim0), signed(node._saved_dim1)) if given else (0, -1)
        a, b = a % rank, b % rank
        order[a], order[b] = order[b], order[a]
    raw = value.raw and Raw(value.raw.name, tuple(value.raw.axes[a] for a in order))
    return [Value(shapes[0], value.labels.transpose(order), raw=raw)]


@operation("view", "unsafeview", "reshapealias", "reshape", "squeeze", "unsqueeze", "flatten", "alias", "clone")
def reshape(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    """Views, block by block: runs of dimensions that hold the same elements before and after."""
    value = only(inputs)
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
                moved = linked(labels, moved, split[1:])
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
    value = only(inputs)
    repeats = node._saved_repeats
    ids = value.labels.reshape((1,) * (len(repeats) - value.labels.ndim) + value.labels.shape)
    if any(r > 1 and n > 1 for r, n in zip(repeats, ids.shape, strict=True)):
        ids = np.tile(ids, [r if n > 1 else 1 for r, n in zip(repeats, ids.shape, strict=True)])
    return [Value(shapes[0], ids)]


@operation("flip")
def flipping(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    value = only(inputs)
    axes = [signed(d) % len(value.shape) for d in node._saved_dims]
    return [Value(shapes[0], np.flip(value.labels, tuple(axes)))]


@operation("roll")
def rolling(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    value = only(inputs)
    axes = [signed(d) % len(value.shape) for d in node._saved_dims]
    if not axes or any(value.labels.shape[a] > 1 for a in axes):
        raise NotFollowed  # how far is written in the network's code
    return [Value(shapes[0], value.labels)]


@operation("viewasreal")
def view_as_real(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    value = only(inputs)
    return [Value(shapes[0], value.labels[..., None])]


@operation("viewascomplex")
def view_as_complex(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    value = only(inputs)
    if value.labels.shape[-1] > 1:
        raise NotFollowed
    return [Value(shapes[0], value.labels[..., 0])]


@operation("im2col")
def unfold(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    """Each channel becomes one for every place of the kernel, next to each other."""
    value = only(inputs)
    ids = channels_along(value, -3)
    size = math.prod(node._saved_kernel_size)
    return [Value(shapes[0], along(np.repeat(ids, size), len(shapes[0]) - 2, len(shapes[0])))]


@operation("col2im")
def fold(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    value = only(inputs)
    ids = channels_along(value, -2)
    parts = ids.reshape(-1, math.prod(node._saved_kernel_size))
    labels.link_rows(parts)
    return [Value(shapes[0], along(parts[:, 0], len(shapes[0]) - 3, len(shapes[0])))]


@operation("channelshuffle")
def channel_shuffle(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    value = only(inputs)
    ids = channels_along(value, -3)
    parts = ids.reshape(int(node._saved_groups), -1)
    labels.link_columns(parts)
    return [Value(shapes[0], along(parts.T.ravel(), -3, len(shapes[0])))]


@operation("asstrided")
def as_strided(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    """What a view of a tensor in channels_last may be, where it only drops or adds dimensions of one."""
    value = only(inputs)
    if [n for n in value.shape if n > 1] != [n for n in shapes[0] if n > 1]:
        raise NotFollowed
    return reshape(labels, node, inputs, shapes)


@operation("index", "indexselect", "gather")
def reordering(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    raise NotFollowed


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
