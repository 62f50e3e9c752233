"""Catalogues of data sets: every entry can be read, and names are looked up in one way."""

from __future__ import annotations

import importlib

import pytest

import tasks.classification
import tasks.segmentation
import tasks.super_resolution
from bench.errors import RequestError
from tasks.data.catalogue import DataSet, entry_of, lines

CATALOGUES = {m.__name__: m.DATASETS for m in (tasks.classification, tasks.segmentation, tasks.super_resolution)}


@pytest.mark.parametrize("module", CATALOGUES)
def test_every_reader_exists(module: str) -> None:
    for entry in CATALOGUES[module].values():
        if entry.reader:
            place, _, function = entry.reader.partition(":")
            assert callable(getattr(importlib.import_module(place), function))


def test_a_folder_is_found_by_its_pattern() -> None:
    catalogue = {"a": DataSet("one"), "folder:PATH": DataSet("any")}
    assert lines(catalogue) == {"a": "one", "folder:PATH": "any"}
    assert entry_of(catalogue, "folder:some/where") is catalogue["folder:PATH"]
    for name in ("folder:", "folder:PATH"):
        with pytest.raises(RequestError, match="'folder:PATH' needs a folder's path in place of PATH"):
            entry_of(catalogue, name)
    for name in ("b", "folder", "other:x"):
        with pytest.raises(RequestError, match=f"unknown data set '{name}'.* available: a, folder:PATH"):
            entry_of(catalogue, name)


def test_a_reader_is_called_with_what_it_is_given() -> None:
    assert DataSet("", "builtins:dict").read([("a", 1)], b=2) == {"a": 1, "b": 2}
