"""Groups, blocks and costs of networks small enough to be worked out by hand."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch_pruning as tp
import torchvision

from bench.errors import RequestError
from bench.structure.graph import PruningGraph
from bench.structure.groups import Pruning
from bench.structure.measure import count_macs
from bench.structure.surgery import mask, prune
from tasks.models.resnet import cifar_resnet
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


def test_resnet8_by_hand() -> None:
    structure = graph("cifar-resnet8")
    inner = ["layer1.0.conv1", "layer2.0.conv1", "layer3.0.conv1"]
    # The residual stream: 16 channels through all three stages, 16 more from the second, 32 more in the third.
    assert {g.name: g.size for g in structure.groups} == {
        "conv1": 16,
        "layer1.0.conv1": 16,
        "layer2.0.conv1": 32,
        "layer2.0.conv2": 16,
        "layer3.0.conv1": 64,
        "layer3.0.conv2": 32,
    }
    assert all(g.bundle == 1 for g in structure.groups)
    assert [m.module for m in structure.group("conv1").producers] == [
        "conv1",
        "layer1.0.conv2",
        "layer2.0.conv2",
        "layer3.0.conv2",
    ]
    assert [m.channels for m in structure.group("layer3.0.conv2").producers] == ["32:64"]
    assert [b.name for b in structure.blocks] == ["layer1.0"]
    assert structure.skipped == (("fc", "output of the network"),)

    def macs(stem: int, second: int, third: int, a: int, b: int, c: int) -> int:
        s1, s2, s3 = stem, stem + second, stem + second + third
        stage1 = 9 * 32 * 32 * (3 * s1 + s1 * a + a * s1)
        stage2 = 9 * 16 * 16 * (s1 * b + b * s2)
        stage3 = 9 * 8 * 8 * (s2 * c + c * s3)
        return stage1 + stage2 + stage3 + s3 * 10

    assert structure.macs() == macs(16, 16, 32, 16, 32, 64)
    widths = {"conv1": 5, "layer2.0.conv2": 3, "layer3.0.conv2": 7, **dict(zip(inner, (4, 9, 11), strict=True))}
    assert structure.macs(widths) == macs(5, 3, 7, 4, 9, 11)
    assert structure.minimum_macs() == macs(1, 1, 1, 1, 1, 1)
    block = 9 * 32 * 32 * (5 * 4 + 4 * 5)
    assert structure.macs(widths, {"layer1.0": 0}) == macs(5, 3, 7, 4, 9, 11) - block
    assert structure.macs(widths, {"layer1.0": 0.25}) == pytest.approx(macs(5, 3, 7, 4, 9, 11) - 0.75 * block)


@pytest.mark.parametrize(("depth", "millions"), [(20, 40.8), (32, 69.1), (56, 125.7), (110, 253.1)])
def test_cifar_resnets_have_the_published_macs(depth: int, millions: float) -> None:
    structure = PruningGraph.trace(cifar_resnet(depth), torch.randn(1, 3, 32, 32))
    # TAS's dense networks have projections where a stage begins; without them about 0.2 M fewer.
    assert structure.macs() / 1e6 == pytest.approx(millions, abs=0.4)


@pytest.mark.parametrize(
    "name",
    [
        "torchvision-resnet18",
        "torchvision-resnet50",
        "torchvision-mobilenet_v2",
        "torchvision-vgg16_bn",
        "torchvision-densenet121",
        "torchvision-efficientnet_b0",
        "smp-Unet-resnet18-1",
    ],
)
def test_torch_pruning_couples_the_same_layers(name: str) -> None:
    """An independent reading of the same network: Torch-Pruning's own groups, where it can make them."""
    model = NETWORKS[name]().eval()
    names = {module: n for n, module in model.named_modules()}
    dependencies = tp.DependencyGraph().build_dependency(model, (example_of(name),), verbose=False)
    theirs: set[frozenset[str]] = set()
    for group in dependencies.get_all_groups():
        made = frozenset(
            names[dep.target.module]
            for dep, _ in group
            if isinstance(dep.target.module, (nn.Conv2d, nn.Linear))
            and dependencies.is_out_channel_pruning_fn(dep.handler)
            and not (isinstance(dep.target.module, nn.Conv2d) and dep.target.module.groups > 1)
        )
        theirs.add(made)
    ours = {frozenset(m.module for m in group.producers) for group in graph(name).groups}
    heads = {frozenset({entry}) for entry, _ in graph(name).skipped}
    assert theirs - heads == ours


@pytest.mark.parametrize("name", ["cifar-resnet20", "torchvision-mobilenet_v2", "edsr-tiny-x2", "groupnorm-resnet18"])
def test_gradients_match_finite_differences(name: str) -> None:
    structure = graph(name)
    generator = torch.Generator().manual_seed(0)
    widths = {
        g.name: (torch.rand((), generator=generator, dtype=torch.float64) * g.size).requires_grad_()
        for g in structure.groups
    }
    presence = {
        b.name: torch.rand((), generator=generator, dtype=torch.float64).requires_grad_() for b in structure.blocks
    }
    for cost in (structure.macs, structure.params):
        variables = {**widths, **presence}
        grads = torch.autograd.grad(cost(widths, presence), list(variables.values()))
        for key, grad in zip(variables, grads, strict=True):
            h = 1e-3

            def at(delta: float, key: str = key, cost=cost) -> float:
                moved = {k: v.item() + delta * (k == key) for k, v in widths.items()}
                there = {k: v.item() + delta * (k == key) for k, v in presence.items()}
                return cost(moved, there)

            # Bilinear: a central difference is exact up to rounding, a residual stream's square included.
            assert (at(h) - at(-h)) / (2 * h) == pytest.approx(grad.item(), rel=1e-4)
            assert grad.item() > 0  # every width and every block costs something


def test_tensor_float_and_int_widths_agree() -> None:
    structure = graph("torchvision-mobilenet_v2")
    widths = random_pruning(structure, 1).widths
    exact = structure.macs(widths)
    assert isinstance(exact, int)
    assert structure.macs({k: float(v) for k, v in widths.items()}) == exact
    assert structure.macs({k: torch.tensor(float(v)) for k, v in widths.items()}).item() == exact
    by_group = {structure.group(k): v for k, v in widths.items()}
    assert structure.macs(by_group) == exact


@pytest.mark.parametrize("name", ["cifar-resnet20", "edsr-tiny-x2"])  # with blocks, and with bundles
def test_widths_in_one_vector_cost_what_they_cost_by_name(name: str) -> None:
    structure = graph(name)
    assert structure.blocks or any(group.bundle > 1 for group in structure.groups)
    units = torch.tensor([group.n_bundles * 0.6 for group in structure.groups], requires_grad=True)
    present = torch.full((len(structure.blocks),), 0.7, requires_grad=True)
    widths = {g.name: n * g.bundle for g, n in zip(structure.groups, units, strict=True)}
    blocks = {b.name: share for b, share in zip(structure.blocks, present, strict=True)}
    one, other = structure.macs_at(units, present), structure.macs(widths, blocks)
    assert float(one) == pytest.approx(float(other), rel=1e-6)
    for a, b in zip(
        torch.autograd.grad(one, [units, present]), torch.autograd.grad(other, [units, present]), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=0)
    whole = structure.macs_at(torch.tensor([float(group.n_bundles) for group in structure.groups]))
    assert int(whole) == structure.macs()


def test_wrong_widths_and_names_are_refused_in_words() -> None:
    structure = graph("edsr-tiny-x2")
    with pytest.raises(ValueError, match="unknown group 'conv9'; available: head"):
        structure.macs({"conv9": 3})
    with pytest.raises(ValueError, match="unknown block 'nope'"):
        structure.macs(blocks={"nope": 0})
    shuffled = next(g for g in structure.groups if g.bundle == 4)
    with pytest.raises(ValueError, match="not a multiple of 4"):
        structure.macs({shuffled.name: 6})
    with pytest.raises(ValueError, match="cannot protect 'stem'"):
        PruningGraph.trace(network("edsr-tiny-x2"), example_of("edsr-tiny-x2"), protect=["stem"])


def test_protected_layers_stay() -> None:
    structure = PruningGraph.trace(cifar_resnet(8), torch.randn(1, 3, 32, 32), protect=["layer2.0.conv1"])
    assert "layer2.0.conv1" not in {g.name for g in structure.groups}
    assert ("layer2.0.conv1", "protected by the caller") in structure.skipped


def weight_of(model: nn.Module, name: str) -> torch.Tensor:
    return model.get_parameter(f"{name}.weight").detach()


def test_protected_layers_are_named_by_pattern_container_or_norm() -> None:
    model, x = cifar_resnet(8), torch.randn(1, 3, 32, 32)

    def groups(*protect: str) -> list[str]:
        return [g.name for g in PruningGraph.trace(model, x, protect=protect).groups]

    everything = groups()
    assert groups("conv1") == [name for name in everything if name != "conv1"]
    assert groups("bn1") == groups("conv1")  # the norm's channels are the convolution's
    # The parameter-free shortcuts tie what layer3 gives to all that is added to it; the first convolutions are free.
    rest = ["layer1.0.conv1", "layer2.0.conv1"]
    assert groups("layer3") == groups("layer3.*") == groups("layer3.0.conv[12]") == rest
    assert groups("*.conv1") == [name for name in everything if not name.endswith(".conv1")]
    assert groups("*") == []
    structure = PruningGraph.trace(model, x, protect=["layer3"])
    assert structure.whole["layer3.0.conv1"] == structure.whole["layer3.0.bn1"] == "protected by the caller"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("conv9", "cannot protect 'conv9': the network has no module of that name; did you mean 'conv1'"),
        ("layer1.0.CONV1", "no module of that name; did you mean 'layer1.0.conv1'"),
        ("decoder.*", "cannot protect 'decoder.*': the network has no module of that name$"),
        ("layer1.0.bn3.*", r"no module of that name; did you mean 'layer1.0.bn[12]'"),
        ("act", r"cannot protect 'act': it names no layer with channels, only act \(ReLU\)$"),
    ],
)
def test_a_pattern_that_protects_nothing_is_refused(pattern: str, message: str) -> None:
    model = cifar_resnet(8)
    model.act = nn.ReLU()
    with pytest.raises(RequestError, match=message):
        PruningGraph.trace(model, torch.randn(1, 3, 32, 32), protect=["conv1", pattern])


def test_scores_are_the_summed_norms_of_the_rows() -> None:
    model = cifar_resnet(8)
    structure = PruningGraph.trace(model, torch.randn(1, 3, 32, 32))
    scores = structure.channel_scores(model)
    producers = ("conv1", "layer1.0.conv2", "layer2.0.conv2", "layer3.0.conv2")
    expected = torch.stack([weight_of(model, name)[:16].abs().sum((1, 2, 3)) for name in producers]).sum(0)
    assert torch.allclose(scores["conv1"], expected)
    squared = structure.channel_scores(model, p=2)["layer1.0.conv1"]
    assert torch.allclose(squared, weight_of(model, "layer1.0.conv1").square().sum((1, 2, 3)))


def test_scores_are_equal_within_a_bundle() -> None:
    scores = graph("edsr-tiny-x3").channel_scores(network("edsr-tiny-x3"))
    group = next(g for g in graph("edsr-tiny-x3").groups if g.bundle == 9)
    weight = weight_of(network("edsr-tiny-x3"), group.name)
    bundles = scores[group.name].view(-1, 9)
    assert torch.equal(bundles, bundles[:, :1].expand(-1, 9))
    assert torch.allclose(bundles[:, 0], weight.abs().sum((1, 2, 3)).view(-1, 9).sum(1))


def check(model: nn.Module, x: torch.Tensor, seed: int = 0) -> PruningGraph:
    """Trace, prune at random, and hold the result to the masked network and the counter."""
    model = randomise(model).eval()
    structure = PruningGraph.trace(model, x)
    pruning = random_pruning(structure, seed)
    smaller = prune(model, structure, pruning)
    assert_same(outputs(mask(model, structure, pruning), x), outputs(smaller, x))
    absent = dict.fromkeys(pruning.drop_blocks, 0)
    assert structure.macs(pruning.widths, absent) == count_macs(smaller, x)
    assert structure.params(pruning.widths, absent) == sum(p.numel() for p in smaller.parameters())
    return structure


class Decoder(nn.Module):
    """A concatenation straight into a PixelShuffle, a transposed grouped convolution, a shared convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 3, padding=1)
        self.shared = nn.Conv2d(4, 4, 3, padding=1)
        self.up = nn.ConvTranspose2d(4, 12, 2, stride=2, groups=2)
        self.multiplied = nn.Conv2d(12, 24, 3, padding=1, groups=12)
        self.head = nn.Conv2d(24, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.pixel_shuffle(torch.cat([F.relu(self.a(x)), F.relu(self.b(x))], 1), 2)
        y = F.relu(self.shared(F.relu(self.shared(y))))
        return self.head(F.relu(self.multiplied(F.relu(self.up(y)))))


def test_a_decoder_with_everything_that_is_hard() -> None:
    structure = check(Decoder(), torch.randn(2, 3, 8, 8))
    assert {g.name: (g.size, g.bundle) for g in structure.groups} == {"a": (8, 4), "up": (12, 2)}
    # Channels 0 to 3 of a become channel 0 of `shared`, which is also what it makes; `up` reads it in two
    # groups, which pairs it with channel 2, made of channels 0 to 3 of b.
    producers = {m.module: m.rows.tolist() for m in structure.group("a").producers}
    assert producers["a"] == producers["b"] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert producers["shared"] == [[0, 2], [1, 3]]


class Activated(nn.Module):
    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.first, self.act, self.second = nn.Conv2d(3, 8, 3), activation, nn.Conv2d(8, 8, 3)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(F.relu(self.second(self.act(self.first(x)))))


def test_an_activation_that_does_not_keep_zero_is_masked_where_it_is_read() -> None:
    structure = check(Activated(nn.Sigmoid()), torch.randn(1, 3, 12, 12))
    assert {g.name: g.exact for g in structure.groups} == {
        "first": ("consumer",),
        "second": ("producer", "consumer"),
    }
    plain = check(Activated(nn.SiLU()), torch.randn(1, 3, 12, 12))
    assert [g.exact for g in plain.groups] == [("producer", "consumer")] * 2


def test_a_layer_norm_over_channels_leaves_its_group_whole() -> None:
    class Normed(Activated):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = F.relu(self.second(self.act(self.first(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)))
            return self.head(y)

    structure = check(Normed(nn.LayerNorm(8)), torch.randn(1, 3, 12, 12))
    assert structure.skipped[0] == ("first", "LayerNorm act normalises over the channels")


class Sliced(Activated):
    """Reads its first three channels after the others."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.first(x))
        return self.head(F.relu(self.second(torch.cat([y[:, 3:], y[:, :3]], 1))))


def test_code_that_names_a_width_leaves_its_group_whole() -> None:
    structure = check(Sliced(nn.Identity()), torch.randn(1, 3, 12, 12))
    assert "first" in structure.whole
    assert [g.name for g in structure.groups] == ["second"]


def test_a_width_that_a_module_keeps_is_written_anew() -> None:
    class Kept(Sliced):
        def __init__(self) -> None:
            super().__init__(nn.Identity())
            self.part = 3

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = F.relu(self.first(x))
            return self.head(F.relu(self.second(torch.cat([y[:, self.part :], y[:, : self.part]], 1))))

    model = randomise(Kept()).eval()
    structure = PruningGraph.trace(model, torch.randn(1, 3, 12, 12))
    assert {g.name: g.size for g in structure.groups} == {"first[0]": 3, "first[3]": 5, "second": 8}
    keep = {"first[0]": torch.tensor([False, True, True]), "first[3]": torch.tensor([True, False, False, True, True])}
    smaller = prune(model, structure, Pruning(keep))
    assert (smaller.part, model.part) == (2, 3)
    x = torch.randn(2, 3, 12, 12)
    assert_same(outputs(mask(model, structure, Pruning(keep)), x), outputs(smaller, x))


def test_flatten_before_a_linear_layer() -> None:
    class Flat(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(
                nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 8), nn.ReLU(), nn.Linear(8, 2)
            )

    structure = check(Flat(), torch.randn(2, 3, 6, 6))
    group = structure.group("0")
    assert group.consumers[0].rows.shape == (6, 16)
    assert group.consumers[0].rows[1].tolist() == list(range(16, 32))


def test_an_added_constant_network_input_stays() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
            self.head = nn.Conv2d(3, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(x + self.outer(F.relu(self.inner(x))))

    structure = check(Residual(), torch.randn(1, 3, 8, 8))
    assert [g.name for g in structure.groups] == ["inner"]
    assert ("outer", "channels of the input") in structure.skipped


def test_blocks_are_found_where_findings_found_them() -> None:
    counts = {
        "cifar-resnet20": 7,
        "cifar-resnet56": 25,
        "torchvision-resnet18": 5,
        "torchvision-resnet50": 12,
        "torchvision-mobilenet_v2": 10,
        "torchvision-efficientnet_b0": 9,
        "torchvision-convnext_tiny": 18,
        "edsr-baseline-x2": 16,
        "torchvision-vgg16_bn": 0,
        "torchvision-densenet121": 0,
    }
    assert {name: len(graph(name).blocks) for name in counts} == counts


def test_removing_a_block_is_exact_to_the_bit() -> None:
    for name, activation in (("cifar-resnet20", "relu"), ("torchvision-mobilenet_v2", "identity")):
        model, structure, x = network(name), graph(name), example_of(name)
        assert {b.activation for b in structure.blocks} == {activation}
        pruning = Pruning({}, tuple(b.name for b in structure.blocks))
        removed, zeroed = prune(model, structure, pruning), mask(model, structure, pruning)
        assert torch.equal(outputs(removed, x), outputs(zeroed, x))
        assert structure.macs(blocks=dict.fromkeys(pruning.drop_blocks, 0)) == count_macs(removed, x)


def test_a_trained_or_zero_initialised_network_hides_no_coupling() -> None:
    model = torchvision.models.resnet18(weights=None, zero_init_residual=True)
    for p in model.layer1.parameters():
        nn.init.zeros_(p)
    structure = PruningGraph.trace(model, torch.randn(1, 3, 64, 64))
    assert [g.name for g in structure.groups] == [g.name for g in graph("torchvision-resnet18").groups]
    assert [b.name for b in structure.blocks] == [b.name for b in graph("torchvision-resnet18").blocks]


def test_tracing_leaves_the_model_as_it_was() -> None:
    model = cifar_resnet(8).train()
    model.layer1.eval()
    model.conv1.weight.requires_grad_(False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    PruningGraph.trace(model, torch.randn(1, 3, 32, 32))
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())
    assert model.training and not model.layer1.training and model.layer2.training
    assert not model.conv1.weight.requires_grad and model.fc.weight.requires_grad
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_without_checks_the_same_is_found() -> None:
    for name in ("cifar-resnet20", "torchvision-mobilenet_v2", "edsr-tiny-x3"):
        quick = PruningGraph.trace(network(name), example_of(name), verify=False)
        full = graph(name)
        assert [(g.name, g.size, g.bundle) for g in quick.groups] == [(g.name, g.size, g.bundle) for g in full.groups]
        assert quick.blocks == full.blocks and quick.skipped == full.skipped
        assert quick.minimum_macs() == full.minimum_macs()


def test_the_network_is_not_copied_to_be_run_and_is_put_back() -> None:
    class Caching(nn.Module):
        """Keeps what it computes, counts its calls and turns gradients off."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 1)
            self.seen: list[torch.Tensor] = []
            self.calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            with torch.no_grad():
                y = F.relu(self.first(x))
            self.seen.append(y)
            return self.head(y.detach())

    model = Caching()
    flags = [p.requires_grad for p in model.parameters()]
    structure = PruningGraph.trace(model, torch.randn(1, 3, 8, 8))
    assert [g.name for g in structure.groups] == ["first"]
    assert model.seen == [] and model.calls == 0
    assert [p.requires_grad for p in model.parameters()] == flags and model.training


@pytest.mark.parametrize(
    ("make", "example", "message"),
    [
        (lambda: nn.Conv2d(3, 4, 1), (torch.randn(1, 3, 4, 4),), "example must be a tensor, not a tuple"),
        (lambda: torch.jit.script(nn.Conv2d(3, 4, 1)), torch.randn(1, 3, 4, 4), "is TorchScript"),
        (lambda: nn.LazyConv2d(4, 1), torch.randn(1, 3, 4, 4), "lazy layers without weights yet"),
        (lambda: torch.compile(nn.Conv2d(3, 4, 1)), torch.randn(1, 3, 4, 4), "is compiled: prune the module"),
        (lambda: nn.Conv2d(3, 4, 1, device="meta"), torch.randn(1, 3, 4, 4), "on the meta device"),
    ],
    ids=["tuple", "script", "lazy", "compiled", "meta"],
)
def test_what_cannot_be_traced_is_refused_in_a_sentence(make, example, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        PruningGraph.trace(nn.Sequential(make()) if message != "is compiled: prune the module" else make(), example)


@pytest.mark.speed
@pytest.mark.parametrize(
    "make",
    [
        lambda: torchvision.models.resnet50(weights=None),
        lambda: smp.DeepLabV3Plus("resnet50", encoder_weights=None, classes=1),
    ],
    ids=["resnet50", "deeplabv3plus"],
)
def test_tracing_and_pruning_beside_torch_pruning(make: Callable[[], nn.Module]) -> None:
    """In turn, medians of processor time: at most 1.5 times with the checks, and level without."""

    def half(structure: PruningGraph) -> Pruning:
        masks = {g.name: torch.arange(g.n_bundles) < max(1, g.n_bundles // 2) for g in structure.groups}
        return Pruning({g.name: masks[g.name].repeat_interleave(g.bundle) for g in structure.groups})

    def ours(model: nn.Module, *, verify: bool) -> None:
        structure = PruningGraph.trace(model, x, verify=verify)
        prune(model, structure, half(structure))

    def theirs(model: nn.Module) -> None:
        head = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))][-1]
        importance = tp.importance.MagnitudeImportance(p=1)
        tp.pruner.BasePruner(model, x, importance=importance, pruning_ratio=0.5, ignored_layers=[head]).step()

    x = torch.randn(1, 3, 224, 224)
    spent: dict[str, list[float]] = {"checked": [], "plain": [], "torch-pruning": []}
    for _ in range(5):
        for key, run in (
            ("checked", lambda m: ours(m, verify=True)),
            ("plain", lambda m: ours(m, verify=False)),
            ("torch-pruning", theirs),
        ):
            model = make().eval()
            start = time.process_time()
            run(model)
            spent[key].append(time.process_time() - start)
    median = {key: sorted(values)[2] for key, values in spent.items()}
    assert median["checked"] <= 1.5 * median["torch-pruning"], median
    assert median["plain"] <= median["torch-pruning"], median


@pytest.mark.speed
@pytest.mark.parametrize(
    ("name", "size"),
    [("torchvision-resnet50", 224), ("torchvision-densenet121", 224), ("smp-UnetPlusPlus-resnet18-1", 256)],
)
def test_tracing_and_pruning_are_quick(name: str, size: int) -> None:
    model, x = NETWORKS[name]().eval(), torch.randn(1, 3, size, size)
    best_trace, best_prune = math.inf, math.inf
    for _ in range(3):  # the best of three, in CPU time: other work on the machine only ever adds
        start = time.process_time()
        structure = PruningGraph.trace(model, x)
        best_trace = min(best_trace, time.process_time() - start)
        start = time.process_time()
        prune(model, structure, random_pruning(structure, 0))
        best_prune = min(best_prune, time.process_time() - start)
    assert best_trace < 2 and best_prune < 1, (best_trace, best_prune)
