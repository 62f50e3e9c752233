"""Transfer: a pruning found on one workload, on the network of another with the same backbone; and dense-longer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench.cli.app import main
from bench.errors import CellError, RequestError
from bench.interface.method import Budget
from bench.interface.record import GroupWidth, Record
from bench.runs.suite import suite_from_table
from bench.search.fit import fit
from bench.search.transfer import matching, transferred
from bench.structure.graph import PruningGraph
from bench.structure.surgery import prune
from tasks.models.resnet import cifar_resnet


class WithDecoder(nn.Module):
    """A network that holds a classification backbone and goes on behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = cifar_resnet(20)
        self.encoder.fc = nn.Linear(64, 48)
        self.decoder = nn.Sequential(nn.Linear(48, 40), nn.ReLU(), nn.Linear(40, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(x).relu())


@pytest.fixture(scope="module")
def pair() -> tuple[PruningGraph, PruningGraph, nn.Module]:
    torch.manual_seed(0)
    x, target = torch.randn(1, 3, 16, 16), WithDecoder()
    return PruningGraph.trace(cifar_resnet(20), x), PruningGraph.trace(target, x), target


def widths_of(graph: PruningGraph, share: float) -> list[GroupWidth]:
    chosen = {g.name: max(1, round(g.size * (share - 0.02 * i))) for i, g in enumerate(graph.groups)}
    return [GroupWidth(name=g.name, size=g.size, width=chosen[g.name], native_width=g.size) for g in graph.groups]


def test_groups_match_by_name_and_size_behind_a_prefix(pair: Any) -> None:
    source, target, _ = pair
    names, ours, theirs = matching([(g.name, g.size) for g in source.groups], target)
    assert (ours, theirs) == ("encoder.", "")
    assert names == {f"encoder.{g.name}": g.name for g in source.groups}
    back, ours, theirs = matching([(g.name, g.size) for g in target.groups], source)
    assert (ours, theirs) == ("", "encoder.")
    assert back == {name: other for other, name in names.items()}
    assert matching([(g.name, g.size + 1) for g in source.groups], target) == ({}, "", "")


def test_the_backbone_takes_over_widths_and_blocks_and_the_rest_meets_the_budget(pair: Any) -> None:
    source, target, model = pair
    widths = widths_of(source, 0.75)
    ratio = 0.5
    found, note = transferred(widths, ["layer1.2"], model, target, Budget(ratio))
    assert found.drop_blocks == ("encoder.layer1.2",)
    assert found.widths is not None
    for width in widths:
        assert found.widths[f"encoder.{width.name}"] == width.width
    assert note.startswith("12 of 14 channel groups took their widths")
    fitted = fit(target, found, Budget(ratio))
    small = prune(model, target, fitted.pruning)
    assert fitted.within and small(torch.randn(2, 3, 16, 16)).shape == (2, 5)
    scores = target.channel_scores(model)
    kept = fitted.pruning.keep["encoder.layer1.0.conv1"]
    assert scores["encoder.layer1.0.conv1"][kept].min() >= scores["encoder.layer1.0.conv1"][~kept].max()


def test_groups_of_the_target_alone_keep_one_share(pair: Any) -> None:
    """With the backbone whole, only the decoder can give: a budget in its reach is met by it alone."""
    source, target, model = pair
    whole = [GroupWidth(name=g.name, size=g.size, width=g.size, native_width=g.size) for g in source.groups]
    names = [g.name for g in target.groups if g.name.removeprefix("encoder.") not in {g.name for g in source.groups}]
    assert len(names) == 2
    goal = target.macs({name: target.group(name).size // 2 for name in names}) / target.macs()
    found, note = transferred(whole, [], model, target, Budget(goal))
    assert found.widths is not None
    assert [found.widths[name] / target.group(name).size for name in names] == pytest.approx([0.5, 0.5], abs=0.05)
    assert "the other 2 keep 0.5" in note or "the other 2 keep 0.4" in note


def test_networks_without_a_common_part_are_refused(pair: Any) -> None:
    _, target, model = pair
    with pytest.raises(CellError, match="namesake"):
        transferred([GroupWidth(name="x", size=7, width=3, native_width=3)], [], model, target, Budget(0.5))


SUITE: dict[str, Any] = {
    "name": "t",
    "methods": ["l1", "dcss"],
    "budgets": [0.5],
    "seeds": [0],
    "workloads": [
        {"name": name, "task": "classification", "dataset": "digits", "model": "resnet8", "train_size": size}
        | {"epochs": {"dense": 1, "search": 1, "recovery": 1}}
        for name, size in (("small", 100), ("large", 128))
    ],
}
SUITE["workloads"][1]["transfer"] = {"from": "small"}


def test_each_method_stands_once_more_with_what_it_found_elsewhere() -> None:
    cells = suite_from_table(SUITE, "t").cells
    moved = [c for c in cells if c.transfer]
    assert [(c.workload.name, c.method) for c in moved] == [("large", "l1"), ("large", "dcss")]
    by_id = {c.id: c for c in cells}
    for cell in moved:
        source = by_id[cell.transfer or ""]
        assert (source.workload.name, source.method, source.budget, source.seed) == ("small", cell.method, 0.5, 0)
        own = next(c for c in cells if c.workload.name == "large" and c.method == cell.method and not c.transfer)
        assert own.total_epochs == cell.total_epochs and own.id != cell.id
    chosen = {**SUITE["workloads"][1], "transfer": {"from": "small", "methods": ["dcss"]}}
    cells = suite_from_table({**SUITE, "workloads": [SUITE["workloads"][0], chosen]}, "t").cells
    assert [c.method for c in cells if c.transfer] == ["dcss"]
    with pytest.raises(RequestError, match="unknown method to transfer 'gdp'"):
        chosen["transfer"]["methods"] = ["gdp"]
        suite_from_table({**SUITE, "workloads": [SUITE["workloads"][0], chosen]}, "t")


TOML = """
name = "t"
methods = ["thin"]
controls = ["dense-longer"]
budgets = [0.5, 0.3]
seeds = [0]

[method.thin]
base = "l1"
scope = "global"

[[workloads]]
name = "source"
task = "classification"
dataset = "digits"
model = "resnet8"
train_size = 64
epochs = { dense = 1, search = 1, recovery = 1 }
train = { batch_size = 32, precision = "fp32" }

[[workloads]]
name = "target"
transfer = { from = "source" }
task = "classification"
dataset = "digits"
model = "resnet8"
train_size = 96
epochs = { dense = 1, search = 1, recovery = 1 }
train = { batch_size = 32, precision = "fp32" }
"""


@pytest.mark.usefixtures("undrawn")
def test_a_suite_with_a_variant_a_transfer_and_dense_longer_runs(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.toml").write_text(TOML)
    monkeypatch.setattr(sys, "argv", ["prunebench", "run", "t.toml", "--quiet", "--tracking-uri", store])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    lines = Path("reports/t/cells.jsonl").read_text().splitlines()
    records = [Record.model_validate(json.loads(line)) for line in lines]
    assert len(records) == 8 and all(r.status == "finished" for r in records)
    by_id = {r.cell_id: r for r in records}
    moved = [r for r in records if r.config.transfer]
    assert {r.config.method for r in records} == {"thin", "dense-longer"}
    assert [r.config.workload.name for r in moved] == ["target", "target"]
    for record in moved:
        source = by_id[record.config.transfer or ""]
        assert [g.width for g in record.groups] == [g.width for g in source.groups]
        assert any(note.startswith("transfer from source thin 0.5") for note in record.notes) == (
            source.cell["budget"] == 0.5
        )
        assert record.ledger is not None and (record.ledger.search_epochs, record.ledger.recovery_epochs) == (0, 2)
    longer = [r for r in records if r.config.method == "dense-longer"]
    assert len(longer) == 2
    for record in longer:
        assert record.macs_pruned == record.macs_dense and record.params_pruned == record.params_dense
        assert record.audit is not None and record.audit.within and record.config.budget == 1
        assert record.final_metrics != record.pruned_metrics
