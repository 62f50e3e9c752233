"""Pruning, masking, relabelling, and files."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch

from bench.errors import ArchitectureError
from bench.structure.files import load_pruned, read_pruning, save_pruned
from bench.structure.graph import PruningGraph
from bench.structure.groups import Pruning
from bench.structure.surgery import mask, permute, prune
from tasks.models.resnet import cifar_resnet
from tests.bench.structure.networks import assert_same, example_of, graph, network, outputs, random_pruning

NAME = "cifar-resnet20"


def test_widths_and_dict_round_trip() -> None:
    pruning = Pruning({"a": torch.tensor([True, False, True])}, ("layer1.0",))
    assert pruning.widths == {"a": 2}
    data = json.loads(json.dumps(pruning.to_dict()))
    assert data == {"groups": {"a": {"size": 3, "kept": [0, 2]}}, "drop_blocks": ["layer1.0"]}
    again = Pruning.from_dict(data)
    assert torch.equal(again.keep["a"], pruning.keep["a"]) and again.drop_blocks == ("layer1.0",)
    with pytest.raises(ArchitectureError, match="a: kept channels must be ascending"):
        Pruning.from_dict({"groups": {"a": {"size": 3, "kept": [0, 3]}}, "drop_blocks": []})


@pytest.mark.parametrize(
    ("keep", "blocks", "message"),
    [
        ({"layer9": torch.ones(16, dtype=torch.bool)}, (), "unknown group 'layer9'; available: conv1"),
        ({"conv1": torch.ones(15, dtype=torch.bool)}, (), r"bool mask of shape \[16\], not torch.bool of shape \[15\]"),
        ({"conv1": torch.ones(16)}, (), "not torch.float32"),
        ({"conv1": torch.zeros(16, dtype=torch.bool)}, (), "at least one of its 16 channels must stay"),
        ({}, ("layer2.0",), "unknown block 'layer2.0'; available: layer1.0"),
    ],
)
def test_impossible_prunings_are_refused_in_words(
    keep: dict[str, torch.Tensor], blocks: tuple[str, ...], message: str
) -> None:
    for operation in (prune, mask):
        with pytest.raises(ValueError, match=message):
            operation(network(NAME), graph(NAME), Pruning(keep, blocks))


def test_a_mask_that_splits_a_bundle_is_refused() -> None:
    structure = graph("edsr-tiny-x2")
    group = next(g for g in structure.groups if g.bundle == 4)
    keep = torch.ones(group.size, dtype=torch.bool)
    keep[1] = False
    with pytest.raises(ValueError, match="splits a bundle of 4"):
        prune(network("edsr-tiny-x2"), structure, Pruning({group.name: keep}))


def test_the_pruned_network_shares_nothing_with_the_dense_one() -> None:
    model = cifar_resnet(8)
    structure = PruningGraph.trace(model, torch.randn(1, 3, 32, 32))
    smaller = prune(model, structure, random_pruning(structure, 0))
    theirs = {t.data_ptr() for t in (*model.parameters(), *model.buffers())}
    assert not theirs & {t.data_ptr() for t in (*smaller.parameters(), *smaller.buffers())}
    assert type(smaller) is type(model) and smaller.training == model.training


def test_an_empty_pruning_is_a_copy() -> None:
    copied = prune(network(NAME), graph(NAME), Pruning())
    assert torch.equal(outputs(copied, example_of(NAME)), outputs(network(NAME), example_of(NAME)))


def test_flags_and_training_survive() -> None:
    model = cifar_resnet(8).train()
    model.bn1.eval()
    model.conv1.weight.requires_grad_(False)
    structure = PruningGraph.trace(model, torch.randn(1, 3, 32, 32))
    smaller = prune(model, structure, random_pruning(structure, 0))
    assert smaller.training and not smaller.get_submodule("bn1").training
    assert not smaller.get_parameter("conv1.weight").requires_grad
    assert smaller.get_parameter("fc.weight").requires_grad
    smaller(torch.randn(4, 3, 32, 32)).sum().backward()
    assert smaller.get_parameter("fc.weight").grad is not None


def test_kept_weights_are_the_dense_ones() -> None:
    model, structure = network(NAME), graph(NAME)
    keep = torch.arange(16) % 3 == 0
    smaller = prune(model, structure, Pruning({"layer1.0.conv1": keep}))
    assert torch.equal(
        smaller.get_parameter("layer1.0.conv1.weight"), model.get_parameter("layer1.0.conv1.weight")[keep]
    )
    dense = model.get_parameter("layer1.0.conv2.weight")
    assert torch.equal(smaller.get_parameter("layer1.0.conv2.weight"), dense[:, keep])


@pytest.mark.parametrize(
    "name",
    [
        NAME,
        "torchvision-mobilenet_v2",
        "torchvision-densenet121",
        "torchvision-resnext50_32x4d",
        "groupnorm-resnet18",
        "smp-DeepLabV3Plus-mobilenet_v2-12",
        "edsr-tiny-x3",
        "srresnet-x4",
    ],
)
def test_relabelling_channels_changes_nothing(name: str) -> None:
    model, structure, x = network(name), graph(name), example_of(name)
    scores = structure.channel_scores(model)
    order: dict[str, torch.Tensor] = {}
    for group in structure.groups:
        bundles = scores[group.name].view(-1, group.bundle)[:, 0].argsort(descending=True)
        order[group.name] = (bundles[:, None] * group.bundle + torch.arange(group.bundle)).flatten()
    moved = permute(model, structure, order)
    assert_same(outputs(model, x), outputs(moved, x), tolerance=1e-5)
    for group in structure.groups:
        after = structure.channel_scores(moved)[group.name]
        assert torch.allclose(after, scores[group.name][order[group.name]], rtol=1e-5)
        assert (after.diff() <= 1e-4 * after.max()).all()  # descending now
    # Keeping leading channels of the one is keeping the chosen channels of the other.
    width = {g.name: g.n_bundles // 2 * g.bundle or g.bundle for g in structure.groups}
    leading = Pruning({n: torch.arange(structure.group(n).size) < w for n, w in width.items()})
    chosen = {}
    for n, w in width.items():
        chosen[n] = torch.zeros(structure.group(n).size, dtype=torch.bool)
        chosen[n][order[n][:w]] = True
    expected = outputs(prune(model, structure, Pruning(chosen)), x)
    assert_same(expected, outputs(prune(moved, structure, leading), x))


def test_a_wrong_order_is_refused() -> None:
    with pytest.raises(ValueError, match="not a permutation of its 16 channels"):
        permute(network(NAME), graph(NAME), {"conv1": torch.zeros(16, dtype=torch.long)})
    structure = graph("edsr-tiny-x2")
    group = next(g for g in structure.groups if g.bundle == 4)
    with pytest.raises(ValueError, match="splits its bundles of 4"):
        permute(network("edsr-tiny-x2"), structure, {group.name: torch.arange(group.size).roll(1)})


# -- files -----------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, torch.nn.Module, Pruning]:
    pruning = random_pruning(graph(NAME), 1)
    smaller = prune(network(NAME), graph(NAME), pruning)
    return save_pruned(tmp_path / "net", smaller, pruning), smaller, pruning


def test_what_is_saved_is_what_is_loaded(saved: tuple[Path, torch.nn.Module, Pruning]) -> None:
    folder, smaller, pruning = saved
    assert sorted(p.name for p in folder.iterdir()) == ["architecture.json", "model.safetensors"]
    again = load_pruned(folder, cifar_resnet(20).eval())
    assert torch.equal(outputs(again, example_of(NAME)), outputs(smaller, example_of(NAME)))
    read = read_pruning(folder)
    assert read.drop_blocks == pruning.drop_blocks and read.widths == pruning.widths
    assert all(torch.equal(read.keep[name], mask) for name, mask in pruning.keep.items())
    # A loaded or copied network can be saved again, with other weights.
    trained = copy.deepcopy(again)
    with torch.no_grad():
        trained.get_parameter("fc.bias").add_(1)
    second = load_pruned(save_pruned(folder, trained, pruning), cifar_resnet(20).eval())
    assert torch.equal(outputs(second, example_of(NAME)), outputs(trained, example_of(NAME)))


def test_the_architecture_is_readable(saved: tuple[Path, torch.nn.Module, Pruning]) -> None:
    folder, smaller, pruning = saved
    document = json.loads((folder / "architecture.json").read_text())
    assert (document["format"], document["version"]) == ("prunebench-architecture", 1)
    assert document["source"]["class"] == "tasks.models.resnet.CifarResNet"
    group = document["groups"]["layer1.0.conv1"]
    assert group["size"] == 16 and len(group["kept"]) == pruning.widths["layer1.0.conv1"]
    assert document["drop_blocks"] == list(pruning.drop_blocks)
    assert len(document["layers"]["conv1"]["out"]["kept"]) == smaller.get_parameter("conv1.weight").shape[0]
    assert b"pickle" not in (folder / "model.safetensors").read_bytes()[:4096]


def sentence(error: pytest.ExceptionInfo[ArchitectureError]) -> str:
    text = str(error.value)
    assert "\n" not in text and isinstance(error.value, ValueError)
    return text


@pytest.mark.parametrize("change", ["kept", "version", "format", "blocks", "layers", "truncated", "list"])
def test_an_altered_architecture_is_refused(saved: tuple[Path, torch.nn.Module, Pruning], change: str) -> None:
    folder, _, _ = saved
    path = folder / "architecture.json"
    document = json.loads(path.read_text())
    if change == "kept":
        document["layers"]["conv1"]["out"]["kept"][0] = 15
    elif change == "version":
        document["version"] = 99
    elif change == "format":
        document["format"] = "something"
    elif change == "blocks":
        document["blocks"] = {"fc": "relu"}
    elif change == "layers":
        del document["layers"]
    path.write_text("[1]" if change == "list" else json.dumps(document)[: -20 if change == "truncated" else None])
    with pytest.raises(ArchitectureError) as error:
        load_pruned(folder, cifar_resnet(20))
    assert str(path) in sentence(error)


@pytest.mark.parametrize(
    ("layers", "blocks"),
    [
        ({"conv9": {"out": {"size": 16, "kept": [0]}}}, {}),
        ({"conv1": {"sideways": {"size": 16, "kept": [0]}}}, {}),
        ({"conv1": {"out": {"size": 17, "kept": [0]}}}, {}),
        ({"conv1": {"out": {"size": 16, "kept": [3, 2]}}}, {}),
        ({"conv1": {"out": {"size": 16, "kept": "abc"}}}, {}),
        ({"conv1": {"out": {}}}, {}),
        ({"layer1": {"out": {"size": 16, "kept": [0]}}}, {}),
        ({}, {"layer1.0": "exec"}),
        ({}, {"": "relu"}),
        ({"conv1": {"out": {"size": 16, "kept": [0]}}}, {}),
    ],
)
def test_nonsense_under_a_valid_checksum_is_refused_too(
    saved: tuple[Path, torch.nn.Module, Pruning], layers: dict[str, object], blocks: dict[str, str]
) -> None:
    from bench.structure.files import _digest

    folder, _, _ = saved
    path = folder / "architecture.json"
    document = json.loads(path.read_text()) | {"layers": layers, "blocks": blocks}
    path.write_text(json.dumps(document | {"sha256": _digest(document)}))
    with pytest.raises(ArchitectureError) as error:
        load_pruned(folder, cifar_resnet(20))
    assert sentence(error)


def test_other_weights_are_refused(saved: tuple[Path, torch.nn.Module, Pruning]) -> None:
    folder, _, _ = saved
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArchitectureError, match=r"not the weights that architecture\.json describes"):
        load_pruned(folder, cifar_resnet(20))


def test_another_architecture_is_refused(saved: tuple[Path, torch.nn.Module, Pruning]) -> None:
    with pytest.raises(ArchitectureError, match=r"parameters of other shapes than this .*CifarResNet") as error:
        load_pruned(saved[0], cifar_resnet(8))
    sentence(error)
    with pytest.raises(ArchitectureError, match="other shapes"):
        load_pruned(saved[0], cifar_resnet(20, num_classes=11))


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError, match=r"architecture\.json: No such file"):
        load_pruned(tmp_path / "nowhere", cifar_resnet(20))


def test_only_pruned_networks_can_be_saved(saved: tuple[Path, torch.nn.Module, Pruning], tmp_path: Path) -> None:
    _, smaller, pruning = saved
    with pytest.raises(ValueError, match=r"takes a network made by prune\(\)"):
        save_pruned(tmp_path, cifar_resnet(20), pruning)
    with pytest.raises(ValueError, match="does not belong to this network"):
        save_pruned(tmp_path, smaller, Pruning(pruning.keep, ()))
    other = {name: torch.ones_like(mask) for name, mask in pruning.keep.items()}
    with pytest.raises(ValueError, match="does not belong to this network"):
        save_pruned(tmp_path, smaller, Pruning(other, pruning.drop_blocks))
    assert list(tmp_path.glob("*.json")) == []
