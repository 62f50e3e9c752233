"""The sweep itself, ten real networks of it, and behind a marker all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import torch.nn as nn

from bench.structure.groups import Pruning
from tests.bench.structure import examine as examination
from tests.bench.structure import sweep
from tests.bench.structure.examine import Invalid, examine
from tests.bench.structure.members import MEMBERS, TIMM, UNLISTED, sized
from tests.bench.structure.unruly import dies, hangs

REAL = {
    "torchvision-mnasnet0_5": 0.9,
    "torchvision-squeezenet1_1": 0.9,
    "torchvision-lraspp_mobilenet_v3_large": 0.9,
    "timm-resnet10t": 0.9,
    "timm-convnext_atto": 0.6,
    "timm-regnetx_002": 0.9,
    "timm-ghostnet_050": 0.5,
    "timm-mobilenetv3_small_050": 0.9,
    "timm-repvgg_a0": 0.9,
    "smp-FPN-resnet18": 0.9,
}
"""The least share of the multiply-adds that must be prunable."""


@pytest.mark.parametrize("name", REAL)
def test_a_real_network_keeps_all_promises(name: str) -> None:
    outcome = examine(MEMBERS[name].make, MEMBERS[name].example())
    assert outcome.kind in ("exact", "part"), outcome.detail
    assert outcome.share >= REAL[name]


@pytest.mark.sweep
@pytest.mark.parametrize("name", [name for name in MEMBERS if not name.startswith("pattern-")])
def test_every_network_keeps_all_promises(name: str) -> None:
    entry = sweep.entry_of(MEMBERS[name])
    assert entry["outcome"] in ("exact", "part", "whole", "refused"), entry["detail"]
    assert entry["share"] >= sweep.recorded().get(name, {}).get("share", 0) - 1e-3


def test_every_family_of_timm_is_listed() -> None:
    from timm.models._registry import _module_to_models

    assert TIMM.keys() | UNLISTED == _module_to_models.keys()
    for module, text in TIMM.items():
        assert {name for name, _ in sized(text)} <= _module_to_models[module]


# -- what an examination finds ---------------------------------------------------------------------------------


def chain() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))


X = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_a_network_that_cannot_run_is_no_outcome() -> None:
    with pytest.raises(Invalid, match="Given groups=1"):
        examine(chain, torch.randn(1, 4, 8, 8))

    class Noisy(nn.Sequential):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input) + torch.rand(())

    with pytest.raises(Invalid, match="two runs differ"):
        examine(lambda: Noisy(*chain()), X)  # pyright: ignore[reportGeneralTypeIssues]


def broken(monkeypatch: pytest.MonkeyPatch, name: str, change: Any) -> str:
    """What is said of the chain when what the engine's function `name` returns is changed."""
    right = getattr(examination, name)
    monkeypatch.setattr(examination, name, lambda *args, **kwargs: change(right(*args, **kwargs)))
    outcome = examine(chain, X)
    assert outcome.kind == "wrong"
    return outcome.detail


def with_weight_changed(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        model.get_parameter("4.weight")[0, 0] += 1e-3
    return model


def test_a_sound_engine_passes() -> None:
    outcome = examine(chain, X)
    assert (outcome.kind, outcome.detail, outcome.reasons) == ("exact", "", {})
    # 3·8·9·36, 8·8·9·16 and 8·4·16 multiply-adds, and with one channel each 3·9·36, 9·16 and 4·16.
    assert outcome.share == round(1 - (972 + 144 + 64) / (7776 + 9216 + 512), 4)


def test_a_mask_that_computes_something_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "in float64 the pruned network differs" in broken(monkeypatch, "mask", with_weight_changed)


def test_a_wrong_count_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "graph.macs says" in broken(monkeypatch, "count_macs", lambda macs: macs + 1)


def test_a_file_that_lost_a_weight_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "what is loaded is not what was saved" in broken(monkeypatch, "load_pruned", with_weight_changed)


def test_a_network_changed_by_tracing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = examination.PruningGraph.trace

    def careless(model: nn.Module, example: torch.Tensor) -> Any:
        graph = trace(model, example)
        model.eval()
        model.get_parameter("0.weight").requires_grad_(False)
        example.add_(1)
        return graph

    monkeypatch.setattr(examination.PruningGraph, "trace", careless)
    outcome = examine(chain, X.clone())
    assert outcome.kind == "wrong"
    assert outcome.detail.startswith("trace changed the network's flags; trace changed the example")


def test_a_lost_tie_is_found() -> None:
    model, other = chain(), chain()
    model[4].bias = model[2].bias = model[0].bias  # pyright: ignore
    other[4].bias = other[2].bias  # pyright: ignore
    names = {name for name, _ in examination.named_tensors(model)}
    assert examination.ties(model, names) == {frozenset({"0.bias", "2.bias", "4.bias"})}
    assert examination.ties(other, names) == {frozenset({"2.bias", "4.bias"})}


def test_prunings_have_distinct_widths() -> None:
    model = chain()
    graph = examination.PruningGraph.trace(model, X)
    first, second = examination.prunings(graph, 0)
    assert isinstance(first, Pruning) and first.widths.keys() == {"0", "2"}
    assert all(first.widths[name] != second.widths[name] for name in first.widths)


# -- the machinery ---------------------------------------------------------------------------------------------


def test_a_crash_or_a_hang_of_one_network_is_an_outcome() -> None:
    name = "pattern-mlp"
    crashed = sweep.Worker(target=dies).examine(name)
    assert (crashed["outcome"], crashed["detail"]) == ("error", "the process died with exit code 3")
    hung = sweep.Worker(limit=0.2, target=hangs).examine(name)
    assert (hung["outcome"], hung["detail"]) == ("error", "no answer within 0.2 seconds")


class Counted(sweep.Worker):
    names: ClassVar[list[str]] = []

    def examine(self, name: str) -> sweep.Entry:
        self.names.append(name)
        return {"family": "pattern", "outcome": "exact", "detail": "", "share": 0.5, "seconds": 0.1, "reasons": {}}


def test_a_sweep_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sweep.json"
    monkeypatch.setattr(sweep, "Worker", Counted)
    monkeypatch.setattr(Counted, "names", [])
    sweep.sweep(["pattern-mlp"], 1, path)
    sweep.sweep(["pattern-plain_chain", "pattern-mlp"], 1, path)
    assert Counted.names == ["pattern-mlp", "pattern-plain_chain"]
    assert list(sweep.recorded(path)) == ["pattern-plain_chain", "pattern-mlp"]  # in the order of the list
    entries = sweep.recorded(path)
    entries["pattern-mlp"]["engine"] = "another"
    sweep.keep(entries, path)
    sweep.sweep(["pattern-plain_chain", "pattern-mlp"], 1, path)
    assert Counted.names[2:] == ["pattern-mlp"]
    assert json.loads(path.read_text())["pattern-mlp"]["engine"] == sweep.engine()


def test_the_table_counts_and_explains() -> None:
    reasons = {
        "LayerNorm norm.0 normalises over the channels": ["a", "b", "…"],
        "LayerNorm norm.1 normalises over": ["c"],
    }
    entries: dict[str, sweep.Entry] = {
        "pattern-x": {"family": "pattern", "outcome": "exact", "detail": "", "share": 0.9, "reasons": {}},
        "timm-y": {"family": "timm y", "outcome": "part", "detail": "", "share": 0.25, "reasons": reasons},
        "timm-z": {
            "family": "timm z",
            "outcome": "refused",
            "detail": "it | says so. Indeed",
            "share": 0,
            "reasons": {},
        },
        "smp-A-r18": {"family": "smp A", "outcome": "exact", "detail": "", "share": 0.9, "reasons": {}},
        "smp-A-b0": {"family": "smp A", "outcome": "exact", "detail": "", "share": 0.8, "reasons": {}},
    }
    lines = sweep.table(entries, 9).splitlines()
    assert lines[0] == "Recorded: 5 of 9 networks."
    lines = lines[2:]
    assert lines[2:4] == ["| pattern | 1 | 0 | 0 | 0 | 0 | 0 | 0 |", "| timm | 0 | 1 | 0 | 1 | 0 | 0 | 0 |"]
    told = "LayerNorm normalises over the channels (`a`, `b`); LayerNorm normalises over (`c`)"
    assert lines[8:] == [
        f"| timm y | y | part | 25.0 % | {told} |",
        "| timm z | z | refused | – | it \\| says so |",
        "| smp A | r18, b0 | exact | 80.0 % | the head only |",
    ]


def test_the_documented_table_is_what_is_recorded() -> None:
    text = sweep.PAGE.read_text()
    assert text == sweep.page_with(text, sweep.table(sweep.recorded(), len(MEMBERS))), (
        "run: python -m tests.bench.structure.sweep --table"
    )
