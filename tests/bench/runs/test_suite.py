"""Suite files: which there are, how they are changed from the command line, and which of their cells are chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import RequestError
from bench.runs.suite import load_suite, select, shipped, suite_from_table
from tests.bench.runs.tables import table


@pytest.mark.parametrize("name", list(shipped()))
def test_shipped_suites_are_valid_and_described(name: str) -> None:
    suite = load_suite(name)
    assert suite.name == name
    assert suite.description and suite.cells


def test_files_that_are_no_suites_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"unknown suite 'demmo'; available: .*demo"):
        load_suite("demmo")
    with pytest.raises(RequestError, match="cannot be read"):
        load_suite(str(tmp_path / "absent.toml"))
    bad = tmp_path / "bad.toml"
    bad.write_text("name = ")
    with pytest.raises(RequestError, match=r"bad\.toml is not valid TOML"):
        load_suite(str(bad))
    bad.write_bytes(b"\xff\xfe")
    with pytest.raises(RequestError, match="not UTF-8"):
        load_suite(str(bad))


def test_overrides_reach_every_field() -> None:
    overrides = ["budgets=[0.3]", "workloads.0.epochs.dense=7", "method.l1.scope=global", "seeds=[4]", "controls=[]"]
    cells = load_suite("demo", overrides).cells
    first = next(c for c in cells if c.method == "l1")
    assert (first.budget, first.workload.epochs.dense, first.hyper["scope"], first.seed) == (0.3, 7, "global", 4)
    with pytest.raises(RequestError, match="use KEY=VALUE"):
        load_suite("demo", ["budgets"])
    with pytest.raises(RequestError, match="no field of a suite"):
        load_suite("demo", ["workloads.99.model=x"])


def test_seeds_are_counted_from_zero() -> None:
    assert {c.seed for c in load_suite("demo", seeds=3).cells} == {0, 1, 2}
    # Also where a workload has seeds of its own, as the demo's first.
    assert {c.seed for c in load_suite("demo", seeds=1).cells} == {0}
    with pytest.raises(RequestError, match="--seeds 0"):
        load_suite("demo", seeds=0)


def test_only_selects_and_explains_what_there_is() -> None:
    cells = suite_from_table(table(), "t").cells
    chosen = select(cells, ["method=l1", "method=random", "seed=0", "budget=0.50"])
    assert {(c.method, c.seed, c.budget) for c in chosen} == {("l1", 0, 0.5), ("random", 0, 0.5)}
    with pytest.raises(RequestError, match="method: dense-longer, l1, random, random-widths, uniform-scratch"):
        select(cells, ["method=gdp9"])
    with pytest.raises(RequestError, match="KEY one of method, seed"):
        select(cells, ["colour=red"])
    with pytest.raises(RequestError, match="'half' is no number"):
        select(cells, ["budget=half"])
