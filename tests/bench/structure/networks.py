"""The networks that the structural engine is held to, and what its tests share."""

from __future__ import annotations

import functools
from collections.abc import Callable

import segmentation_models_pytorch as smp
import timm
import torch
import torch.nn as nn
import torchvision

from bench.structure.graph import PruningGraph
from bench.structure.groups import Block, Pruning
from tasks.models.edsr import sr_network
from tasks.models.resnet import cifar_resnet

Builder = Callable[[], nn.Module]


def _tv(name: str) -> Builder:
    return lambda: getattr(torchvision.models, name)(weights=None, num_classes=10)


def _vgg() -> nn.Module:
    """With 128 units in the two hidden layers that have 4,096, and nine tenths of all weights, in the original."""
    with torch.device("meta"):  # the original's classifier is not drawn
        model = torchvision.models.VGG(nn.Sequential(), 10, False)
    model.features = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"], True)
    model.classifier[0], model.classifier[3], model.classifier[6] = (
        nn.Linear(512 * 7 * 7, 128), nn.Linear(128, 128), nn.Linear(128, 10)
    )  # fmt: skip
    return model


def _timm(name: str) -> Builder:
    return lambda: timm.create_model(name, pretrained=False, num_classes=10)


def _smp(architecture: str, encoder: str, classes: int) -> Builder:
    return lambda: getattr(smp, architecture)(encoder, encoder_weights=None, classes=classes)


def _sr(name: str, scale: int) -> Builder:
    return lambda: sr_network(name, scale)


def _group_norm_resnet() -> nn.Module:
    return torchvision.models.resnet18(
        weights=None, num_classes=10, norm_layer=lambda channels: nn.GroupNorm(8, channels)
    )


# family -> {network: builder}
FAMILIES: dict[str, dict[str, Builder]] = {
    "CIFAR ResNet": {f"cifar-resnet{d}": functools.partial(cifar_resnet, d) for d in (8, 20, 56)},
    "ResNet": {
        **{f"torchvision-{n}": _tv(n) for n in ("resnet18", "resnet50")},
        **{f"timm-{n}": _timm(n) for n in ("resnet18", "resnet50")},
    },
    "ResNet with GroupNorm": {"groupnorm-resnet18": _group_norm_resnet},
    "ResNeXt": {"torchvision-resnext50_32x4d": _tv("resnext50_32x4d")},
    "ResNetV2": {"timm-resnetv2_50": _timm("resnetv2_50")},
    "MobileNetV2": {"torchvision-mobilenet_v2": _tv("mobilenet_v2"), "timm-mobilenetv2_100": _timm("mobilenetv2_100")},
    "MobileNetV3": {
        "torchvision-mobilenet_v3_small": _tv("mobilenet_v3_small"),
        "timm-mobilenetv3_large_100": _timm("mobilenetv3_large_100"),
    },
    "EfficientNet": {
        "torchvision-efficientnet_b0": _tv("efficientnet_b0"),
        "timm-efficientnet_b0": _timm("efficientnet_b0"),
    },
    "VGG": {"torchvision-vgg16_bn": _vgg},
    "DenseNet": {"torchvision-densenet121": _tv("densenet121"), "timm-densenet121": _timm("densenet121")},
    "RegNet": {"torchvision-regnet_y_400mf": _tv("regnet_y_400mf"), "timm-regnetx_004": _timm("regnetx_004")},
    "ShuffleNetV2": {"torchvision-shufflenet_v2_x1_0": _tv("shufflenet_v2_x1_0")},
    "ConvNeXt": {"torchvision-convnext_tiny": _tv("convnext_tiny"), "timm-convnext_tiny": _timm("convnext_tiny")},
    **{
        architecture: {
            f"smp-{architecture}-{encoder}-{classes}": _smp(architecture, encoder, classes)
            for encoder, classes in (("resnet18", 1), ("mobilenet_v2", 12))
        }
        for architecture in ("Unet", "UnetPlusPlus", "FPN", "DeepLabV3Plus", "Linknet", "PSPNet", "MAnet", "PAN")
    },
    "EDSR": {
        **{f"edsr-tiny-x{r}": _sr("edsr-tiny", r) for r in (2, 3, 4)},
        "edsr-baseline-x2": _sr("edsr-baseline", 2),
    },
    "SRResNet": {f"srresnet-x{r}": _sr("srresnet", r) for r in (2, 3, 4)},
}
NETWORKS: dict[str, Builder] = {name: build for networks in FAMILIES.values() for name, build in networks.items()}


def example_of(name: str) -> torch.Tensor:
    side = 128 if "PAN" in name else 16 if "edsr" in name or "srresnet" in name else 32 if "cifar" in name else 64
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random norms and biases, so that nothing cancels and no channel looks like another."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            low, high = {"bias": (-0.3, 0.3), "running_mean": (-0.3, 0.3)}.get(name.split(".")[-1], (0.7, 1.3))
            if (tensor.ndim <= 1 and tensor.is_floating_point()) or name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)
            elif "layer_scale" in name or name.endswith("gamma"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return model


@functools.lru_cache(maxsize=6)  # all of them would take gigabytes
def network(name: str) -> nn.Module:
    """The dense network in eval mode. Shared by the tests: they must not change it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return randomise(NETWORKS[name]()).eval()


@functools.cache
def graph(name: str) -> PruningGraph:
    return PruningGraph.trace(network(name), example_of(name))


def random_pruning(graph: PruningGraph, seed: int, kept: float = 0.5, dropped: float = 0.3) -> Pruning:
    """Each bundle stays with probability `kept`, at least one a group; each block goes with `dropped`."""
    generator = torch.Generator().manual_seed(seed)
    keep: dict[str, torch.Tensor] = {}
    for group in graph.groups:
        bundles = torch.rand(group.n_bundles, generator=generator) < kept
        bundles[int(torch.randint(group.n_bundles, (), generator=generator))] = True
        keep[group.name] = bundles.repeat_interleave(group.bundle)
    blocks: list[Block] = [b for b in graph.blocks if float(torch.rand((), generator=generator)) < dropped]
    return Pruning(keep, tuple(block.name for block in blocks))


def outputs(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(x)


def assert_same(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-4) -> None:
    """Equal up to `tolerance` of the largest value, which must be a real one."""
    assert a.shape == b.shape
    scale = float(a.abs().max())
    assert torch.isfinite(a).all() and scale > 0
    assert float((a - b).abs().max()) <= tolerance * scale
