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
    with pytest.raises(RequestError, match=r"unknown suite 'demmo'; did you mean 'demo'\? available: .*demo"):
        load_suite("demmo")
    with pytest.raises(
        RequestError, match=r"there is no suite file /.*/absent\.toml; give a \.toml file, or one of bsd-edsr, "
    ):
        load_suite(str(tmp_path / "absent.toml"))
    with pytest.raises(RequestError, match=r"folder\.toml cannot be read: Is a directory"):
        (tmp_path / "folder.toml").mkdir()
        load_suite(str(tmp_path / "folder.toml"))
    bad = tmp_path / "bad.toml"
    bad.write_text("name = ")
    with pytest.raises(RequestError, match=r"bad\.toml is not valid TOML"):
        load_suite(str(bad))
    bad.write_bytes(b"\xff\xfe")
    with pytest.raises(RequestError, match="not UTF-8"):
        load_suite(str(bad))


@pytest.mark.parametrize("name", ["suite.toml", "SUITE.TOML", "my suite é.Toml"])
def test_a_file_is_read_whatever_its_suffix_and_byte_order_mark(name: str, tmp_path: Path) -> None:
    text = (
        'name = "t"\nmethods = ["l1"]\ncontrols = []\nbudgets = [0.5]\nseeds = [0]\n[[workloads]]\n'
        'task = "classification"\ndataset = "digits"\nmodel = "resnet8"\nepochs = { dense = 1, recovery = 1 }\n'
    )
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    (cell,) = load_suite(str(tmp_path / name)).cells
    assert cell.label == "digits-resnet8 l1 0.5 seed 0"


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ('budgets=["0.5"]', "budgets"),
        ("budgets=[true]", "budgets"),
        ("seeds=[true]", "seeds"),
        ('seeds=["1"]', "seeds"),
        ("seeds=[1.0]", "seeds"),
        ('tolerance="0.01"', "tolerance"),
        ("round_to=true", "round_to"),
        ('workloads.0.epochs.dense="2"', "workloads.0.epochs.dense"),
        ("workloads.0.epochs.dense=true", "workloads.0.epochs.dense"),
        ('workloads.0.train.lr="0.1"', "lr"),
        ("workloads.0.train.batch_size=32.0", "batch_size"),
        ('workloads.0.train_size="100"', "train_size"),
        ("workloads.0.train_size=true", "train_size"),
        ('workloads.0.val_fraction="0.1"', "val_fraction"),
        ("workloads.0.train_size=2020-01-01", "train_size"),
        ("method.l1.scope=true", "scope"),
        ('method.dais.flops_band="1"', "flops_band"),
    ],
)
def test_values_of_another_type_are_refused_and_not_converted(override: str, field: str) -> None:
    with pytest.raises(RequestError, match=rf"{field}[.0-9]* = .* is not allowed") as refusal:
        load_suite("demo", [override])
    assert "\n" not in str(refusal.value)


def test_a_whole_number_stands_for_a_fraction() -> None:
    assert load_suite("demo", ["workloads.0.train.lr=1", "budgets=[1]"]).cells[0].workload.train.lr == 1.0


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
    assert select(cells, ["method=l1,random,seed=0, budget=0.5"]) == chosen
    with pytest.raises(RequestError, match="method: dense-longer, l1, random, random-widths, uniform-scratch"):
        select(cells, ["method=gdp9"])
    with pytest.raises(RequestError, match="KEY one of method, seed"):
        select(cells, ["colour=red"])
    with pytest.raises(RequestError, match="'half' is no number"):
        select(cells, ["budget=half"])
