"""How channel labels pass through the operations between layers.

An operation is known by the name of its autograd node, in lower case and without "Backward" (`CatBackward0` is
"cat"). `operation` registers a rule for more of them. Two kinds have none: operations that mix what they are given
(`MIXING`), at which labels end, and all others, which are taken for elementwise. That may be wrong of an operation
that nobody thought of; the check of the traced network (`bench.structure.verify`) then finds that pruned and masked
networks differ, and its groups are left whole.
"""

from __future__ import annotations

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
          "sort", "topk", "fft", "gridsampler", "cdist", "deformconv2d")  # fmt: skip
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


def linked(labels: Labels, ids: np.ndarray, axes: Iterable[int]) -> np.ndarray:
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


def only(inputs: Inputs) -> Value:
    """The one operand that is no constant.

    Raises:
        NotFollowed: there are several.
    """
    known = [value for value in inputs if value is not None]
    if len(known) != 1:
        raise NotFollowed
    return known[0]


def channels_along(value: Value, axis: int) -> np.ndarray:
    """The labels along `axis`, [n].

    Raises:
        NotFollowed: they vary elsewhere, too.
    """
    ids = channel_labels(value, axis, value.shape[axis])
    if ids is None:
        raise NotFollowed
    return ids


def signed(dim: int) -> int:
    return dim - (1 << 64) if dim >= 1 << 63 else dim  # autograd saves negative dimensions unsigned
