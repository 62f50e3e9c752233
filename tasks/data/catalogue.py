"""Catalogues of data sets: one entry says all that a task knows of a data set before it is read. Imports no torch."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.errors import RequestError, unknown


@dataclass(frozen=True)
class DataSet:
    """One data set of a task."""

    about: str
    """One line for `prunebench list datasets`."""
    reader: str = ""
    """The function that reads it into memory, "module:function"; loaded when it is called."""
    size: tuple[int, int] = (0, 0)
    """Height and width of its images where a suite names none."""
    fixed_size: bool = False
    """Whether its images have no other size."""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    """Of each channel, in units of 0 to 255, as images are brought to a network."""
    resized: str = ""
    """How an image of any size becomes one of the network's, in words."""
    folders: tuple[str, ...] = ()
    """Names of the folder that it is looked for in, below the data folder."""
    crop: str = ""
    """How its training images are cut where they are streamed, as in `tasks.data.streamed`; empty: they never are."""

    def read(self, *args: Any, **kwargs: Any) -> Any:
        """Call the reader."""
        module, _, function = self.reader.partition(":")
        return getattr(importlib.import_module(module), function)(*args, **kwargs)


def lines(catalogue: Mapping[str, DataSet]) -> dict[str, str]:
    """Name -> what the data set is."""
    return {name: entry.about for name, entry in catalogue.items()}


def entry_of(catalogue: Mapping[str, DataSet], name: str) -> DataSet:
    """The entry of a data set; that of "folder:PATH" for the name of any folder.

    Raises:
        RequestError: there is none, or PATH is left as it is or empty.
    """
    kind, colon, path = name.partition(":")
    pattern = f"{kind}:PATH"
    if colon and pattern in catalogue:
        if path in ("", "PATH"):
            raise RequestError(f"data set {pattern!r} needs a folder's path in place of PATH")
        return catalogue[pattern]
    if name not in catalogue:
        raise unknown("data set", name, catalogue)
    return catalogue[name]
