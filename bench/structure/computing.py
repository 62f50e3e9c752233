"""How channel labels pass through operations that compute: reductions, norms, convolutions outside of layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bench.structure.labels import Labels, NotFollowed, Value, along
from bench.structure.operations import Inputs, Outputs, Shapes, channels_along, linked, only, operation, signed


@operation("mean", "sum", "amax", "amin", "max", "min", "var", "std", "logsumexp", "prod")
def reduction(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    value = only(inputs)
    rank = len(value.shape)
    saved = getattr(node, "_saved_dim", None)
    dims = range(rank) if saved is None else (saved if isinstance(saved, tuple) else (saved,))
    axes = {signed(d) % rank for d in dims} or set(range(rank))
    result: list[Value | None] = []
    for shape in shapes:
        if len(shape) == rank and value.shape != shape and not hasattr(node, "_saved_dim"):
            raise NotFollowed
        ids = value.labels
        if any(ids.shape[a] > 1 for a in axes):
            ids = linked(labels, ids, axes)
        if len(shape) < rank:
            ids = ids.reshape([n for a, n in enumerate(ids.shape) if a not in axes])
        result.append(Value(shape, ids))
    return result


@operation("nativebatchnorm", "cudnnbatchnorm", "miopenbatchnorm", "batchnormimplindex")
def batch_norm(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    """A norm outside of known layers: its scale, shift and statistics go with the channels."""
    value, *vectors = inputs
    if value is None:
        raise NotFollowed
    ids = channels_along(value, 1)
    for vector in vectors:
        if vector is not None:
            labels.link(vector.labels, ids)
    return [Value(shapes[0], value.labels), *[None] * (len(shapes) - 1)]


@operation("nativegroupnorm")
def group_norm(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    """A norm over groups of channels outside of known layers: a group goes as a whole."""
    if inputs[0] is None:
        raise NotFollowed
    parts = channels_along(inputs[0], 1).reshape(int(node._saved_group), -1)
    labels.link_rows(parts)
    labels.counted(node, parts[:, 0])
    return batch_norm(labels, node, inputs, shapes)


@operation("convolution")
def convolution(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    """A depthwise convolution outside of known layers, such as a fixed blur; others are not followed."""
    value, weight, *rest = inputs
    axis = len(shapes[0]) - len(node._saved_stride) - 1
    channels = shapes[0][axis]
    if value is None or node._saved_transposed or not node._saved_groups == channels == value.shape[axis]:
        raise NotFollowed
    ids = channels_along(value, axis)
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


@operation("softmax", "logsoftmax", "cumsum", "cumprod")
def along_dimension(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    """Softmax and the like: each channel keeps its own result unless they run over the channels."""
    value = only(inputs)
    axis = signed(node._saved_dim) % len(value.shape)
    if value.labels.shape[axis] > 1:
        linked(labels, value.labels, {axis})
    return [Value(shapes[0], value.labels)]


@operation("fftr2c", "fftc2r", "fftc2c")
def fourier(labels: Labels, node: Any, inputs: Inputs, shapes: Shapes) -> Outputs:
    value = only(inputs)
    if any(value.labels.shape[signed(d) % len(value.shape)] > 1 for d in node._saved_dim):
        raise NotFollowed
    return [Value(shapes[0], value.labels)]


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
    value = only(inputs)
    axis = signed(node._saved_dim) % len(value.shape)
    if value.labels.shape[axis] == 1:
        return [Value(shapes[0], value.labels)]
    first, second = np.split(value.labels, 2, axis)
    labels.link(first, second)
    return [Value(shapes[0], first)]
