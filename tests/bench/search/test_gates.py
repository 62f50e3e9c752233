"""Gates: the same function as explicit factors, the same limit as pruning, and nothing left behind."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from bench.search.gates import Gates
from bench.structure.graph import PruningGraph
from bench.structure.groups import Pruning
from bench.structure.surgery import prune
from tasks.models.resnet import cifar_resnet
from tests.bench.structure.networks import assert_same, example_of, graph, network, outputs, random_pruning, randomise

MIXED = [
    "cifar-resnet20",
    "torchvision-mobilenet_v3_small",
    "torchvision-densenet121",
    "torchvision-resnext50_32x4d",
    "torchvision-shufflenet_v2_x1_0",
    "timm-resnetv2_50",
    "timm-efficientnet_b0",
    "groupnorm-resnet18",
    "smp-DeepLabV3Plus-mobilenet_v2-12",
    "smp-Linknet-resnet18-1",
    "edsr-tiny-x3",
    "srresnet-x4",
]


@pytest.mark.parametrize("name", MIXED, scope="module")
@pytest.mark.parametrize("side", ["producer", "consumer"])
def test_gates_of_zero_and_one_are_pruning(name: str, side: str) -> None:
    model, structure, x = network(name), graph(name), example_of(name)
    pruning = random_pruning(structure, 2)
    dense = outputs(model, x)
    with Gates(model, structure, side) as gates:  # pyright: ignore[reportArgumentType]
        gates.set(
            {key: mask.float() for key, mask in pruning.keep.items()},
            {block: torch.zeros(()) for block in pruning.drop_blocks},
        )
        gated = outputs(model, x)
    assert_same(gated, outputs(prune(model, structure, pruning), x))
    assert torch.equal(outputs(model, x), dense)


@pytest.mark.parametrize("side", ["producer", "consumer"])
def test_in_training_mode_too(side: str) -> None:
    """With batch statistics: a gate in front of a norm would be normalised away."""
    model, structure = (
        copy.deepcopy(network("torchvision-mobilenet_v3_small")).train(),
        graph("torchvision-mobilenet_v3_small"),
    )
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    pruning = random_pruning(structure, 4, dropped=0)
    smaller = prune(model, structure, pruning)
    x = torch.randn(8, 3, 64, 64)
    with Gates(model, structure, side) as gates:  # pyright: ignore[reportArgumentType]
        gates.set({key: mask.float() for key, mask in pruning.keep.items()})
        gated = outputs(model, x)
    assert_same(gated, outputs(smaller, x), tolerance=1e-3)


def test_a_producer_gate_is_a_factor_behind_the_norm() -> None:
    model, structure, x = network("cifar-resnet20"), graph("cifar-resnet20"), example_of("cifar-resnet20")
    factors = {g.name: torch.rand(g.size) for g in structure.groups}
    explicit = copy.deepcopy(model)
    for group in structure.groups:
        for member in group.gates:

            def scale(module: nn.Module, args: object, output: torch.Tensor, m=member, f=factors[group.name]):
                vector = torch.ones(m.of)
                vector[torch.as_tensor(m.rows.ravel())] = f
                return output * vector[:, None, None]

            assert member.module.rpartition(".")[2] in ("bn1", "bn2")
            explicit.get_submodule(member.module).register_forward_hook(scale)
    with Gates(model, structure) as gates:
        gates.set(factors)
        assert_same(outputs(explicit, x), outputs(model, x), tolerance=1e-5)


def test_a_consumer_gate_is_a_factor_on_what_is_read() -> None:
    name = "smp-Linknet-resnet18-1"  # transposed convolutions
    model, structure, x = network(name), graph(name), example_of(name)
    factors = {g.name: torch.rand(g.size) for g in structure.groups}
    explicit = copy.deepcopy(model)
    for group in structure.groups:
        for member in group.consumers:

            def scale(module: nn.Module, args: tuple[torch.Tensor], m=member, f=factors[group.name]):
                vector = torch.ones(m.of)
                vector[torch.as_tensor(m.rows.ravel())] = f
                return args[0] * vector[:, None, None]

            explicit.get_submodule(member.module).register_forward_pre_hook(scale)
    with Gates(model, structure, "consumer") as gates:
        gates.set(factors)
        assert_same(outputs(explicit, x), outputs(model, x), tolerance=1e-5)


def test_consumers_exclude_depthwise_convolutions() -> None:
    structure, model = graph("torchvision-mobilenet_v2"), network("torchvision-mobilenet_v2")
    for group in structure.groups:
        for member in group.consumers:
            layer = model.get_submodule(member.module)
            assert isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)


@pytest.mark.parametrize("side", ["producer", "consumer"])
def test_gradients_match_finite_differences(side: str) -> None:
    model = randomise(cifar_resnet(8)).double().eval()
    structure = PruningGraph.trace(model, torch.randn(1, 3, 32, 32))
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    names = [g.name for g in structure.groups]
    generator = torch.Generator().manual_seed(0)

    def loss(presence: torch.Tensor, *factors: torch.Tensor) -> torch.Tensor:
        gates.set(dict(zip(names, factors, strict=True)), {structure.blocks[0].name: presence})
        return model(x).square().mean()

    with Gates(model, structure, side) as gates:  # pyright: ignore[reportArgumentType]
        factors = [
            (torch.rand(g.size, generator=generator, dtype=torch.float64) + 0.3).requires_grad_()
            for g in structure.groups
        ]
        presence = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(loss, (presence, *factors), fast_mode=True, atol=1e-6)


def test_bundled_factors_share_their_mean() -> None:
    structure, model, x = graph("edsr-tiny-x2"), network("edsr-tiny-x2"), example_of("edsr-tiny-x2")
    group = next(g for g in structure.groups if g.bundle == 4)
    factor = torch.rand(group.size)
    mean = factor.view(-1, 4).mean(1).repeat_interleave(4)
    with Gates(model, structure) as gates:
        gates.set({group.name: factor})
        uneven = outputs(model, x)
        gates.set({group.name: mean})
        assert_same(uneven, outputs(model, x), tolerance=1e-6)


@pytest.mark.parametrize("side", ["producer", "consumer"])
@pytest.mark.parametrize(
    "name", ["cifar-resnet20", "smp-Linknet-resnet18-1", "torchvision-resnext50_32x4d"], scope="module"
)
def test_baking_keeps_the_function_to_the_bit(name: str, side: str) -> None:
    model, structure, x = copy.deepcopy(network(name)), graph(name), example_of(name)
    gates = Gates(model, structure, side)  # pyright: ignore[reportArgumentType]
    gates.set(
        {g.name: torch.rand(g.size) for g in structure.groups},
        {b.name: torch.tensor(0.5) for b in structure.blocks},
    )
    gated = outputs(model, x)
    gates.bake()
    assert torch.equal(outputs(model, x), gated)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_parameters_and_their_names_stay_the_models() -> None:
    model, structure = cifar_resnet(8), graph("cifar-resnet8")
    keys, identities = list(model.state_dict()), [id(p) for p in model.parameters()]
    alpha = torch.zeros(16, requires_grad=True)
    gates = Gates(model, structure)
    gates.set({"conv1": torch.sigmoid(alpha)})
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert list(model.state_dict()) == keys and [id(p) for p in model.parameters()] == identities
    assert alpha.grad is not None and alpha.grad.abs().min() > 0
    assert all(p.grad is not None for p in model.parameters())
    gates.remove()
    assert not any("weight" in m.__dict__ for m in model.modules())


def test_an_interrupted_forward_leaves_the_weights_in_place() -> None:
    model, structure = cifar_resnet(8), graph("cifar-resnet8")
    with Gates(model, structure) as gates:
        gates.set({"conv1": torch.zeros(16)})
        with pytest.raises(RuntimeError):
            model(torch.randn(2, 4, 32, 32))
        with pytest.raises(RuntimeError):
            model.bn1(torch.randn(2, 17, 8, 8))
    assert not any("weight" in m.__dict__ for m in model.modules())
    assert model.bn1.weight is model.bn1._parameters["weight"]


def test_setting_replaces_all_earlier_factors() -> None:
    model, structure, x = network("cifar-resnet8"), graph("cifar-resnet8"), example_of("cifar-resnet8")
    with Gates(model, structure) as gates:
        gates.set({"conv1": torch.rand(16)}, {"layer1.0": torch.zeros(())})
        gated = outputs(model, x)
        gates.set()
        ungated = outputs(model, x)
    assert torch.equal(ungated, outputs(model, x))
    assert not torch.allclose(gated, ungated, atol=1e-3)


def test_a_block_gate_scales_the_branch() -> None:
    model, structure, x = network("cifar-resnet8"), graph("cifar-resnet8"), torch.randn(2, 16, 8, 8)
    block = model.get_submodule("layer1.0")
    branch = nn.Sequential(*(block.get_submodule(n) for n in ("conv1", "bn1")), nn.ReLU(), block.get_submodule("conv2"))
    with torch.no_grad():
        expected = F.relu(x + 0.3 * block.get_submodule("bn2")(branch(x)))
        with Gates(model, structure) as gates:
            gates.set(blocks={"layer1.0": torch.tensor(0.3)})
            assert_same(expected, block(x), tolerance=1e-6)


def test_wrong_factors_are_refused_in_words() -> None:
    model, structure = network("cifar-resnet8"), graph("cifar-resnet8")
    with pytest.raises(ValueError, match="unknown side 'both'; available: consumer, producer"):
        Gates(model, structure, "both")  # pyright: ignore[reportArgumentType]
    with Gates(model, structure) as gates:
        with pytest.raises(ValueError, match=r"factors must have shape \[16\], not \[15\]"):
            gates.set({"conv1": torch.ones(15)})
        with pytest.raises(ValueError, match="unknown group 'nope'"):
            gates.set({"nope": torch.ones(15)})
        with pytest.raises(ValueError, match=r"unknown block 'layer3\.0'; available: layer1\.0"):
            gates.set(blocks={"layer3.0": torch.ones(())})


def saved_bytes(model: nn.Module, x: torch.Tensor) -> int:
    """Bytes that autograd keeps for the backward pass, each storage once."""
    held: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        loss = model(x).sum()
    loss.backward()
    return sum(held.values())


@pytest.mark.parametrize("side", ["producer", "consumer"])
def test_a_gated_step_keeps_no_more_activations(side: str) -> None:
    model, structure, x = cifar_resnet(20), graph("cifar-resnet20"), torch.randn(64, 3, 32, 32)
    plain = saved_bytes(model, x)
    alpha = {g.name: torch.zeros(g.size, requires_grad=True) for g in structure.groups}
    with Gates(model, structure, side) as gates:  # pyright: ignore[reportArgumentType]
        gates.set({key: torch.sigmoid(a) for key, a in alpha.items()})
        assert saved_bytes(model, x) <= 1.03 * plain


def test_a_copy_made_while_gated_uses_its_own_weights() -> None:
    model, structure, x = network("cifar-resnet8"), graph("cifar-resnet8"), example_of("cifar-resnet8")
    other = randomise(copy.deepcopy(model), seed=9)
    factors = {"conv1": torch.rand(16)}
    with Gates(other, structure) as gates:
        gates.set(factors)
        expected = outputs(other, x)
    with Gates(model, structure) as gates:
        gates.set(factors)
        copied = copy.deepcopy(model)
        copied.load_state_dict(other.state_dict())
        assert torch.equal(outputs(copied, x), expected)
        with pytest.raises(ValueError, match=r"gates in place: bake\(\) or remove\(\) them first"):
            prune(model, structure, Pruning({"conv1": torch.arange(16) < 5}))
    assert prune(model, structure, Pruning({"conv1": torch.arange(16) < 5})) is not model
