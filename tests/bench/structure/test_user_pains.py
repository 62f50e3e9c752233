"""Where users of existing pruning tools got hurt, by number in the project's evaluation notes.

Pains 11 to 13 are about running and reporting: `test_pain_11…` is in test_run.py, `test_pain_12…` in test_cell.py,
`test_pain_13…` in tests/report/test_audit.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn as nn
import torch_pruning as tp

from bench.interface.method import Budget, Found
from bench.search.fit import fit
from bench.structure.files import load_pruned, save_pruned
from bench.structure.graph import PruningGraph
from bench.structure.groups import Pruning
from bench.structure.measure import compare_latencies, count_macs
from bench.structure.surgery import mask, prune
from tests.bench.structure.networks import (
    NETWORKS,
    assert_same,
    example_of,
    graph,
    network,
    outputs,
    random_pruning,
    randomise,
)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_pain_01_pixel_shuffle_goes_in_bundles(scale: int) -> None:
    name = f"edsr-tiny-x{scale}"
    model, structure, x = network(name), graph(name), example_of(name)
    r = 2 if scale == 4 else scale
    shuffled = [g for g in structure.groups if g.bundle > 1]
    assert [g.bundle for g in shuffled] == [r * r] * (2 if scale == 4 else 1)
    # Channel c behind the shuffle is made of channels c·r² to (c + 1)·r² - 1 in front of it.
    assert shuffled[0].producers[0].rows[3].tolist() == list(range(3 * r * r, 4 * r * r))
    pruning = random_pruning(structure, 0)
    smaller = prune(model, structure, pruning)
    assert outputs(smaller, x).shape[-1] == scale * x.shape[-1]
    assert_same(outputs(mask(model, structure, pruning), x), outputs(smaller, x))


@pytest.mark.parametrize("name", ["cifar-resnet20", "smp-Unet-mobilenet_v2-12", "smp-FPN-resnet18-1", "srresnet-x2"])
def test_pain_02_the_head_keeps_its_shape(name: str) -> None:
    structure, x = graph(name), example_of(name)
    smallest = {g.name: torch.arange(g.size) < g.bundle for g in structure.groups}
    smaller = prune(network(name), structure, Pruning(smallest))
    assert outputs(smaller, x).shape == outputs(network(name), x).shape
    assert count_macs(smaller, x) == structure.minimum_macs()
    assert any(reason == "output of the network" for _, reason in structure.skipped)


@pytest.mark.parametrize("architecture", ["Unet", "UnetPlusPlus", "FPN", "DeepLabV3Plus", "Linknet", "PSPNet"])
def test_pain_03_one_output_channel_is_not_depthwise(architecture: str) -> None:
    name = f"smp-{architecture}-resnet18-1"
    structure, model = graph(name), network(name)
    head = next(n for n, m in model.named_modules() if isinstance(m, nn.Conv2d) and m.out_channels == 1)
    readers = [g for g in structure.groups if head in {m.module for m in g.consumers}]
    assert readers and head in structure.whole
    smaller = prune(model, structure, random_pruning(structure, 1))
    layer = smaller.get_submodule(head)
    assert isinstance(layer, nn.Conv2d) and (layer.out_channels, layer.groups) == (1, 1)
    assert layer.in_channels < next(m for n, m in model.named_modules() if n == head).in_channels  # pyright: ignore


@pytest.mark.parametrize("name", ["smp-Unet-resnet18-1", "smp-UnetPlusPlus-resnet18-1", "smp-DeepLabV3Plus-resnet18-1"])
def test_pain_04_concatenations_in_decoders_keep_their_order(name: str) -> None:
    """One group at a time: a wrong offset behind a concatenation would change the output."""
    model, structure, x = network(name), graph(name), example_of(name)
    joined = [g for g in structure.groups for m in g.consumers if "decoder" in m.module and 0 < m.rows.size < m.of]
    assert len(joined) >= 4
    for group in dict.fromkeys(joined):
        keep = torch.arange(group.size) % 2 == 0
        pruning = Pruning({group.name: keep})
        smaller = prune(model, structure, pruning)
        assert_same(outputs(mask(model, structure, pruning), x), outputs(smaller, x))


@pytest.mark.parametrize("kept", [0.75, 0.25])
@pytest.mark.parametrize("name", ["cifar-resnet20", "torchvision-mobilenet_v2", "smp-Unet-resnet18-1"])
def test_pain_05_the_target_is_met(name: str, kept: float) -> None:
    structure, x = graph(name), example_of(name)
    budget = Budget(kept)
    fitted = fit(structure, Found(structure.channel_scores(network(name)), scope="global"), budget)
    smaller = prune(network(name), structure, fitted.pruning)
    ratio = count_macs(smaller, x) / count_macs(network(name), x)
    assert abs(ratio - kept) <= 0.005


def test_pain_06_at_high_ratios_no_layer_is_silently_skipped() -> None:
    for name in ("torchvision-resnet50", "torchvision-mobilenet_v3_small", "smp-UnetPlusPlus-resnet18-1"):
        structure, model = graph(name), network(name)
        smallest = {g.name: torch.arange(g.size) < g.bundle for g in structure.groups}
        smaller = prune(model, structure, Pruning(smallest))
        for module_name, module in smaller.named_modules():
            if isinstance(module, nn.Conv2d) and module_name not in structure.whole:
                assert module.out_channels < model.get_submodule(module_name).out_channels  # pyright: ignore
        assert count_macs(smaller, example_of(name)) < 0.01 * structure.macs()


def test_pain_07_widths_can_be_multiples_of_eight() -> None:
    name = "torchvision-resnet50"
    structure, smaller, widths = _half_of(name)
    assert all(width % 8 == 0 or width == structure.group(g).size for g, width in widths.items())
    assert abs(count_macs(smaller, example_of(name)) / structure.macs() - 0.5) <= 0.005


@pytest.mark.speed
def test_pain_07_half_the_macs_are_measurably_faster() -> None:
    name = "torchvision-resnet50"
    _, smaller, _ = _half_of(name)
    models = (network(name), smaller)
    pairs = [compare_latencies(models, example_of(name), min_seconds=0.1, threads=1) for _ in range(3)]
    dense, pruned = (min(pair[i].median_ms for pair in pairs) for i in (0, 1))
    assert 0 < pruned < dense


def _half_of(name: str) -> tuple[PruningGraph, nn.Module, dict[str, int]]:
    """(graph, the network at half its MACs with widths rounded to eight, widths)."""
    structure = graph(name)
    found = Found(structure.channel_scores(network(name)))
    pruning = fit(structure, found, Budget(0.5), round_to=8).pruning
    return structure, prune(network(name), structure, pruning), pruning.widths


def test_pain_08_group_norm_keeps_whole_norm_groups() -> None:
    name = "groupnorm-resnet18"
    model, structure, x = network(name), graph(name), example_of(name)
    assert {g.bundle for g in structure.groups} == {8, 16, 32, 64}  # channels / 8 norm groups
    pruning = random_pruning(structure, 0, dropped=0)
    smaller = prune(model, structure, pruning)
    norms = [m for m in smaller.modules() if isinstance(m, nn.GroupNorm)]
    assert {m.num_channels // m.num_groups for m in norms} == {8, 16, 32, 64}
    assert min(m.num_groups for m in norms) < 8
    assert_same(outputs(mask(model, structure, pruning), x), outputs(smaller, x))


def test_pain_09_segmentation_and_super_resolution_networks_can_be_pruned_in_half() -> None:
    for name in ("smp-Unet-resnet18-1", "smp-PSPNet-mobilenet_v2-12", "smp-Linknet-resnet18-1", "edsr-baseline-x2"):
        structure = graph(name)
        fitted = fit(structure, Found(structure.channel_scores(network(name))), Budget(0.5))
        smaller = prune(network(name), structure, fitted.pruning)
        assert abs(count_macs(smaller, example_of(name)) / structure.macs() - 0.5) <= 0.005


def test_pain_10_pruned_networks_load_without_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "smp-Unet-mobilenet_v2-12"
    structure, x = graph(name), example_of(name)
    pruning = random_pruning(structure, 2)
    smaller = prune(network(name), structure, pruning)
    save_pruned(tmp_path, smaller, pruning)

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("pickle was used")

    for target in ("pickle.load", "pickle.loads", "pickle.Unpickler", "torch.load"):
        monkeypatch.setattr(target, refuse)
    again = load_pruned(tmp_path, NETWORKS[name]().eval())
    assert torch.equal(outputs(again, x), outputs(smaller, x))
    assert json.loads((tmp_path / "architecture.json").read_text())["groups"].keys() == pruning.keep.keys()


def test_a_broadcast_one_channel_gate_is_no_coupling() -> None:
    """Torch-Pruning took this spatial attention for a coupling and made a convolution with -2 channels."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features, self.gate, self.head = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 1, 1), nn.Conv2d(16, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.relu(self.features(x))
            return self.head(y * torch.sigmoid(self.gate(y)))

    model, x = randomise(Attention()), torch.randn(1, 3, 12, 12)
    structure = PruningGraph.trace(model, x)
    assert [g.name for g in structure.groups] == ["features"] and dict(structure.skipped)[
        "gate"
    ] == "it has one channel"
    pruning = Pruning({"features": torch.arange(16) < 3})
    assert_same(outputs(mask(model, structure, pruning), x), outputs(prune(model, structure, pruning), x))


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2"])
@pytest.mark.parametrize("architecture", ["MAnet", "PAN"])
def test_attention_decoders_are_pruned_around_their_attention(architecture: str, encoder: str) -> None:
    name = f"smp-{architecture}-{'resnet18-1' if encoder == 'resnet18' else 'mobilenet_v2-12'}"
    structure = graph(name)
    assert structure.minimum_macs() < 0.25 * structure.macs()
    if architecture == "MAnet":
        assert structure.whole["decoder.center.top_conv"] == "operation bmm is not followed channel by channel"


def test_what_torch_pruning_cannot_read_is_read() -> None:
    """The reason for labels of our own: if these start to pass, Torch-Pruning's mappings may serve again."""
    with pytest.raises(ZeroDivisionError):
        x = example_of("torchvision-shufflenet_v2_x1_0")
        tp.DependencyGraph().build_dependency(NETWORKS["torchvision-shufflenet_v2_x1_0"]().eval(), (x,), verbose=False)
    assert len(graph("torchvision-shufflenet_v2_x1_0").groups) > 10
    model, x = NETWORKS["edsr-tiny-x2"]().eval(), example_of("edsr-tiny-x2")
    dependencies = tp.DependencyGraph().build_dependency(model, (x,), verbose=False)
    shuffled = model.get_submodule("upsample.0")
    dependencies.get_pruning_group(shuffled, tp.prune_conv_out_channels, [63]).prune()
    with pytest.raises(RuntimeError):
        model(x)
