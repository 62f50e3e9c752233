"""Weights that are computed, number formats, compiled and converted networks, and loaders of their own."""

from __future__ import annotations

import io
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils import parametrizations, parametrize, prune

from tests.bench.structure.patterns.base import Net, image, pattern


def trunk() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 4, 1)
    )  # fmt: skip


def with_layer(change: Any) -> nn.Module:
    """A chain whose second convolution is changed."""
    model = trunk()
    model[3] = change(model[3])  # pyright: ignore
    return model


@pattern("part", 0.3, may_refuse=True)
def old_weight_norm() -> nn.Module:
    return with_layer(torch.nn.utils.weight_norm)


@pattern("part", 0.3, may_refuse=True)
def weight_norm() -> nn.Module:
    return with_layer(parametrizations.weight_norm)


@pattern("part", 0.3, may_refuse=True)
def old_spectral_norm() -> nn.Module:
    return with_layer(torch.nn.utils.spectral_norm)


@pattern("part", 0.3, may_refuse=True)
def spectral_norm() -> nn.Module:
    return with_layer(parametrizations.spectral_norm)


@pattern("part", 0.3, may_refuse=True)
def masks_of_torch_prune() -> nn.Module:
    return with_layer(lambda layer: prune.l1_unstructured(layer, "weight", amount=0.5))


class Symmetric(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return (weight + weight.flip(-1)) / 2


@pattern("part", 0.3, may_refuse=True)
def custom_parametrization() -> nn.Module:
    def change(layer: nn.Module) -> nn.Module:
        parametrize.register_parametrization(layer, "weight", Symmetric())
        return layer

    return with_layer(change)


@pattern("part", 0.3, may_refuse=True)
def parametrized_bias() -> nn.Module:
    def change(layer: nn.Module) -> nn.Module:
        parametrize.register_parametrization(layer, "bias", nn.Softplus())
        return layer

    return with_layer(change)


@pattern("exact", example=lambda: image()().half())
def half_precision() -> nn.Module:
    return trunk().half()


@pattern("exact", example=lambda: image()().bfloat16())
def bfloat16() -> nn.Module:
    return trunk().bfloat16()


@pattern("exact", example=lambda: image()().double())
def float64() -> nn.Module:
    return trunk().double()


@pattern("exact")
class MixedPrecision(Net):
    """Half of the network in bfloat16, with casts between."""

    def __init__(self) -> None:
        super().__init__()
        self.body.bfloat16()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.stem(x)).to(self.body.weight.dtype)
        return self.head(F.relu(self.body(y)).to(self.head.weight.dtype))


@pattern("exact")
class AutocastInside(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            return F.relu(y)


@pattern("exact", may_refuse=True)
def compiled_whole() -> nn.Module:
    return torch.compile(trunk(), backend="eager")  # pyright: ignore


@pattern("exact", may_refuse=True)
def compiled_part() -> nn.Module:
    return with_layer(lambda layer: torch.compile(nn.Sequential(layer, nn.ReLU()), backend="eager"))


@pattern("exact", may_refuse=True)
def compiled_in_place() -> nn.Module:
    model = trunk()
    model.compile(backend="eager")
    return model


@pattern("exact", may_refuse=True)
class CompiledFunction(Net):
    """A function inside is compiled."""

    def build(self) -> None:
        self.function = torch.compile(F.gelu, backend="eager")

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return self.function(y)


@pattern("refused")
def scripted() -> nn.Module:
    return torch.jit.script(trunk().eval())


@pattern("refused")
def traced_by_jit() -> nn.Module:
    return torch.jit.trace(trunk().eval(), image()())  # pyright: ignore


@pattern("refused")
def scripted_part() -> nn.Module:
    return with_layer(lambda layer: torch.jit.script(nn.Sequential(layer, nn.ReLU())))


@pattern("exact", may_refuse=True)
def exported() -> nn.Module:
    return torch.export.export(trunk().eval(), (image()(),)).module()  # pyright: ignore


@pattern("exact", may_refuse=True)
def symbolic_fx() -> nn.Module:
    return torch.fx.symbolic_trace(trunk())


@pattern("refused")
def quantised() -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Linear(16, 4))
    return torch.ao.quantization.quantize_dynamic(model.eval(), {nn.Linear}, torch.qint8)


@pattern("refused")
def lazy_modules() -> nn.Module:
    """Their shapes are not known before they ran once."""
    return nn.Sequential(nn.LazyConv2d(16, 3), nn.ReLU(), nn.LazyConv2d(16, 3), nn.ReLU(), nn.Conv2d(16, 4, 1))


@pattern("exact")
def lazy_modules_that_ran() -> nn.Module:
    model = nn.Sequential(nn.LazyConv2d(16, 3), nn.ReLU(), nn.LazyConv2d(16, 3), nn.ReLU(), nn.Conv2d(16, 4, 1))
    model(image()())
    return model


@pattern("exact", example=lambda: image()().to(memory_format=torch.channels_last))
def channels_last() -> nn.Module:
    return trunk().to(memory_format=torch.channels_last)  # pyright: ignore


@pattern("exact")
def weights_that_are_views() -> nn.Module:
    """All weights are views of one flat tensor, as after `nn.utils.parameters_to_vector`'s inverse."""
    model = trunk()
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    nn.utils.vector_to_parameters(flat, model.parameters())
    return model


@pattern("exact")
def data_parallel() -> nn.Module:
    return nn.DataParallel(trunk())


class Versioned(nn.Module):
    """A loader that demands the metadata of `state_dict()`, as torchvision's MNASNet does."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.layers = trunk()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, *args: Any) -> None:  # pyright: ignore
        version = local_metadata.get("version", None)
        if version not in (1, 2):
            raise ValueError(f"version should be set to 1 or 2 instead of {version}")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


@pattern("exact")
def loader_with_version() -> nn.Module:
    return Versioned()


@pattern("exact")
class ExtraState(Net):
    """State beside tensors in `state_dict`."""

    def get_extra_state(self) -> Any:
        return {"classes": ["a", "b"]}

    def set_extra_state(self, state: Any) -> None:
        assert state == {"classes": ["a", "b"]}


@pattern("exact")
class RenamesOnLoading(Net):
    """A hook that lets old checkpoints in."""

    def build(self) -> None:
        self._register_load_state_dict_pre_hook(self.rename)

    @staticmethod
    def rename(state: dict[str, Any], prefix: str, *args: Any) -> None:
        for key in [key for key in state if key.startswith(f"{prefix}old_stem")]:
            state[key.replace("old_stem", "stem")] = state.pop(key)


@pattern("exact")
class NonPersistentBuffers(Net):
    def build(self) -> None:
        self.register_buffer("offset", torch.tensor(0.3), persistent=False)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(y - self.offset)  # pyright: ignore


@pattern("exact", may_refuse=True)
class HoldsThingsThatCannotBeCopied(Net):
    """A file and a generator on self: deepcopy of the network fails."""

    def build(self) -> None:
        self.log = io.BufferedReader(io.BytesIO(b"text"))  # pyright: ignore

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(y)


@pattern("exact", may_refuse=True)
class ForwardReplacedOnTheInstance(Net):
    """Libraries patch `forward` on the object: the copy's method must not be the original's."""

    def build(self) -> None:
        old = self.body.forward
        self.body.forward = lambda input: old(input)  # type: ignore[method-assign]


@pattern("exact")
class ListOfModulesOutsideOfContainers(Net):
    """A plain Python list holds a registered layer a second time."""

    def build(self) -> None:
        self.extra = nn.Conv2d(16, 16, 3, padding=1)
        self.order = [self.extra, F.relu]

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        for step in self.order:
            y = step(F.relu(y))
        return y
