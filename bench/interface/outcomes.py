"""What a network made of each test sample: packed into a record, and taken out again. Imports no torch.

A metric over a test split is an estimate as well: another draw of test samples would give another figure. With the
outcomes of single samples a report can say how far, by resampling them (`bench.report`).
"""

from __future__ import annotations

import base64
import math
import zlib
from typing import TYPE_CHECKING, Any, Literal

from bench.interface.record import Outcomes

if TYPE_CHECKING:
    import numpy as np

Kind = Literal["correct", "iou", "mean"]


def packed(kind: Kind, values: Any) -> Outcomes:
    """Outcomes from an array-like.

    Args:
        values: `correct`: bool [samples]; `iou`: whole numbers [samples, 2, classes], intersection and union of each
            class in pixels; `mean`: float [samples], kept to float32.

    Raises:
        ValueError: another shape, or nothing in it.
    """
    import numpy as np

    array = np.asarray(values)
    rank = 3 if kind == "iou" else 1
    if array.ndim != rank or array.size == 0 or (kind == "iou" and array.shape[1] != 2):
        raise ValueError(f"outcomes of kind {kind!r} cannot have shape {list(array.shape)}")
    if kind == "correct":
        raw = np.packbits(array.astype(bool)).tobytes()
    else:
        raw = array.astype("<u4" if kind == "iou" else "<f4").tobytes()
    data = base64.b64encode(zlib.compress(raw, 9)).decode("ascii")
    return Outcomes(kind=kind, shape=list(array.shape), data=data)


def unpacked(outcomes: Outcomes) -> np.ndarray:
    """The array behind `packed`: bool, int64 or float64.

    Raises:
        ValueError: the data are damaged or do not have the shape that is stated.
    """
    import numpy as np

    count = math.prod(outcomes.shape)
    try:
        raw = zlib.decompress(base64.b64decode(outcomes.data, validate=True))
    except (ValueError, zlib.error) as error:
        raise ValueError(f"outcomes cannot be read: {error}") from None
    size = -(-count // 8) if outcomes.kind == "correct" else 4 * count
    if len(raw) != size:
        raise ValueError(f"outcomes hold {len(raw)} bytes, where shape {outcomes.shape} needs {size}")
    if outcomes.kind == "correct":
        return np.unpackbits(np.frombuffer(raw, np.uint8), count=count).astype(bool)
    kind = "<u4" if outcomes.kind == "iou" else "<f4"
    array = np.frombuffer(raw, kind).reshape(outcomes.shape)
    return array.astype(np.int64 if outcomes.kind == "iou" else np.float64)


def metric(kind: Kind, array: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The metric of the samples in `array`: percent for `correct` and `iou`, the samples' own unit for `mean`.

    Args:
        weights: how often each sample counts, [samples] or, for many resamples at once, [resamples, samples].

    Returns:
        A float, or float64 [resamples].
    """
    import numpy as np

    w = np.ones(len(array)) if weights is None else np.asarray(weights, float)
    if kind != "iou":
        scale = 100.0 if kind == "correct" else 1.0
        return scale * (w @ array.astype(float)) / w.sum(-1)
    inter, union = w @ array[:, 0].astype(float), w @ array[:, 1].astype(float)  # [..., classes]
    present = union > 0
    iou = np.divide(inter, union, out=np.zeros_like(union), where=present)
    return 100.0 * iou.sum(-1) / np.maximum(1, present.sum(-1))
