"""Sample pictures side by side, as the methods left them.

A picture named `target_0.png` is the target of sample 0. What all methods have the same, byte for byte, is shown once.
A wide picture is taken for a strip that holds the panels of one sample already.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.interface.record import Record
from bench.report.entry import Entry
from bench.report.figures import style
from bench.report.figures.drawing import Drawing, at_smallest_budget, by_workload, numbered
from bench.report.matrix import Matrix

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STRIP = 1.8
"""From this ratio of width to height on, a picture is taken for a strip of several panels."""
MAX_SAMPLES = 4
MAX_COLUMNS = 10

LoadPicture = Callable[[Record, str], bytes | None]
Pictures = dict[str, dict[tuple[str, str], bytes]]
"""Method -> (kind, sample) -> the picture's file."""


class _Column(NamedTuple):
    """What one column of a grid shows: pictures of a kind, from a method."""

    kind: str
    method: str
    title: str


def samples(matrix: Matrix, load: LoadPicture) -> Iterator[Drawing]:
    """One figure a workload, at its smallest budget: the first seed of each method."""
    for index, (name, protocol), entries in by_workload(matrix, lambda e: any(r.pictures for r in e.records)):
        budget, shown = at_smallest_budget(entries)
        pictures = _loaded(shown, load)
        if pictures:
            yield Drawing(
                numbered("samples", index),
                f"Samples: {name}, protocol {protocol}, budget {budget:g}",
                "The same test samples after recovery, by method; the first seed of each.",
                partial(_figure, pictures),
                further=pictures,
            )


def _loaded(entries: Sequence[Entry], load: LoadPicture) -> Pictures:
    """The pictures that have a sample's number and could be read; methods without any are left out."""
    found: Pictures = {}
    for entry in entries:
        record = next(r for r in entry.records if r.pictures)
        for path in record.pictures:
            kind, sample = picture_name(path)
            data = load(record, path)
            if data is not None and sample:
                found.setdefault(entry.method, {})[(kind, sample)] = data
    return found


def picture_name(path: str) -> tuple[str, str]:
    """What a picture shows and of which sample: `pictures/target_0.png` is ("target", "0")."""
    match = re.fullmatch(r"(.*?)[-_ ]?(\d+)[-_ ]?(.*)", PurePosixPath(path).stem)
    return (f"{match[1]}{match[3]}" or "picture", match[2]) if match else (PurePosixPath(path).stem, "")


def _figure(pictures: Pictures) -> Figure:
    firsts = [next(iter(of_method.values())) for of_method in pictures.values()]
    if any(strip_ratio(data) is not None for data in firsts):
        return _strips(pictures)
    return _grid(pictures)


def opened(data: bytes) -> Any:
    """The picture in `data`, or None where it is none."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as found:
            return found.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return None


def strip_ratio(data: bytes) -> float | None:
    """Width over height of a strip; None for a picture that is not one."""
    picture = opened(data)
    ratio = picture.width / picture.height if picture else 0.0
    return ratio if ratio >= STRIP else None


def _grid(pictures: Pictures) -> Figure:
    """Rows are samples; columns are what does not depend on the method, then the methods."""
    numbers = sorted({number for of_method in pictures.values() for _, number in of_method})[:MAX_SAMPLES]
    columns = _columns(pictures, numbers)
    figure = style.new_figure(max(4.0, 1.25 * len(columns)), 1.12 * len(numbers) + 0.4)
    axes = figure.subplots(len(numbers), len(columns), squeeze=False)
    for axis, column in zip(axes[0], columns, strict=True):
        title = "\n".join(style.label(line, 18) for line in column.title.split("\n"))
        axis.set_title(title, fontsize=7.5, loc="center")
    for row, number in zip(axes, numbers, strict=True):
        for axis, column in zip(row, columns, strict=True):
            axis.set_axis_off()
            _show(axis, pictures[column.method].get((column.kind, number)), 384)
    return figure


def _columns(pictures: Pictures, numbers: Sequence[str]) -> list[_Column]:
    kinds = list(dict.fromkeys(kind for of_method in pictures.values() for kind, _ in of_method))
    common: list[_Column] = []
    own: list[_Column] = []
    for kind in kinds:
        versions = [
            {of_method.get((kind, number)) for of_method in pictures.values()}  # the same bytes count once
            for number in numbers
        ]
        if len(pictures) > 1 and all(len(version) == 1 for version in versions):
            common.append(_Column(kind, next(iter(pictures)), kind))
        else:
            several = len(kinds) - len(common) > 1
            own += [_Column(kind, method, f"{method}\n{kind}" if several else method) for method in pictures]
    return (common + sorted(own, key=lambda c: list(pictures).index(c.method)))[:MAX_COLUMNS]


def _strips(pictures: Mapping[str, Mapping[tuple[str, str], bytes]]) -> Figure:
    """Strips that hold a sample's panels already: one below the other, by method."""
    methods = list(pictures)[:MAX_COLUMNS]
    keys = sorted({key for of_method in pictures.values() for key in of_method}, key=lambda key: (key[1], key[0]))
    keys = keys[: 2 if len(methods) <= 3 else 1]
    files = [pictures[method].get(key) for method in methods for key in keys]
    ratio = max((found for data in files if data and (found := strip_ratio(data))), default=STRIP)
    shown = [(key, method) for key in keys for method in methods]
    columns = 1 if len(shown) < 3 else 2
    rows = math.ceil(len(shown) / columns)
    width = 7.0 if columns == 1 else 9.0
    figure = style.new_figure(width, (width / columns / ratio + 0.3) * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (key, method) in zip(axes.flat, shown, strict=False):
        axis.set_title(style.label(method) + (f", sample {key[1]}" if len(keys) > 1 else ""), fontsize=8)
        _show(axis, pictures[method].get(key), 1400)
    return figure


def _show(axis: Any, data: bytes | None, size: int) -> None:
    """Draw a picture at no more than `size` pixels a side; nothing where there is none."""
    picture = opened(data) if data is not None else None
    if picture is not None:
        picture.thumbnail((size, size))
        axis.imshow(picture, interpolation="nearest")
