"""What is taken off pixels and what they are divided by, as suites write it. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bench.errors import RequestError

if TYPE_CHECKING:
    from bench.interface.task import DataInfo

IMAGENET = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""ImageNet's mean and standard deviation of red, green and blue, of pixel values from 0 to 255."""
Normalise = dict[str, tuple[float, ...]]
"""`{"mean": …, "std": …}`, one value a channel, of pixel values from 0 to 1, as most networks state theirs."""


def require_normalise(given: Mapping[str, tuple[float, ...]] | None) -> None:
    """Refuse what is no mean and deviation of pixel values from 0 to 1.

    Raises:
        RequestError: what was given and what is allowed.
    """
    if given is None:
        return
    form = "use { mean = […], std = […] } of pixel values from 0 to 1, one number a channel"
    if set(given) != {"mean", "std"}:
        raise RequestError(f"normalise has {', '.join(sorted(given)) or 'nothing'}; {form}")
    mean, std = given["mean"], given["std"]
    if len(mean) != len(std) or not mean:
        raise RequestError(f"normalise has {len(mean)} means and {len(std)} deviations; {form}")
    if not all(math.isfinite(v) and -1 <= v <= 1 for v in mean):
        raise RequestError(f"normalise.mean = {list(mean)} is not allowed; {form}")
    if not all(math.isfinite(v) and 0 < v <= 1 for v in std):
        raise RequestError(f"normalise.std = {list(std)} is not allowed; {form}")


def require_channels(given: Mapping[str, tuple[float, ...]] | None, channels: int, dataset: str) -> None:
    """Refuse another number of channels than the images have.

    Raises:
        RequestError: both numbers.
    """
    if given is not None and len(given["mean"]) != channels:
        raise RequestError(f"normalise has {len(given['mean'])} channels; the images of {dataset} have {channels}")


def in_bytes(given: Mapping[str, tuple[float, ...]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of pixel values from 0 to 255."""
    return tuple(255 * v for v in given["mean"]), tuple(255 * v for v in given["std"])


def in_units(mean: tuple[float, ...], std: tuple[float, ...]) -> dict[str, list[float]]:
    """Mean and deviation of pixel values from 0 to 1, as JSON has them, from those of 0 to 255."""
    return {"mean": [round(v / 255, 9) for v in mean], "std": [round(v / 255, 9) for v in std]}


def image_input(info: DataInfo, statistics: Mapping[str, list[float]], resize: str) -> dict[str, Any]:
    """How an image becomes a network's input, as an exported network's card says it.

    Args:
        statistics: "mean" and "std" of each channel, of pixel values from 0 to 1.
        resize: what is done to an image of another size.
    """
    return {
        "layout": "N, channels, height, width; float32",
        "channels": "grey" if info.channels == 1 else "red, green, blue",
        "height": info.height,
        "width": info.width,
        "values": "(pixel / 255 − mean) / std, pixel from 0 to 255",
        **statistics,
        "resize": resize,
    }
