"""What the engine knows of layers: one rule a type, all in one place and open to more.

A rule says how a layer's channels are labelled, taken, zeroed, scaled and counted::

    @register_layer(MyNorm)
    class MyNormRule(LayerRule):
        def size(self, layer, kind): return layer.channels
        def resize(self, layer, kind, n): layer.channels = n

Everything else (tracing, costs, surgery, gates, checks) asks the rule. A layer without one is not treated as a layer:
its operations are followed one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
import torch.nn as nn
from torch.nn.utils.parametrize import is_parametrized

from bench.structure.groups import SideKind
from bench.structure.labels import Labels, LayerCall, Value, along, channel_labels


@dataclass(frozen=True)
class Kernel:
    """What a layer multiplies: each of its `positions` costs size · n_in · n_out / groups multiply-adds."""

    size: int
    """Weights between one input and one output channel."""
    groups: int
    n_in: int
    n_out: int

    @property
    def depthwise(self) -> bool:
        """Whether every input channel has filters of its own, so that channels run through."""
        return self.groups > 1 and self.groups == self.n_in


class LayerRule:
    """The rule of a layer that has one scale, shift or slope a channel. Rules of other layers replace its methods.

    A layer is any `nn.Module` of a registered type. Its sides (`SideKind`): "out", weight rows that make channels;
    "in", columns that read them; "pass", parameters of channels that run through.
    """

    makes_channels: ClassVar[bool] = False
    """Whether weight rows make channels: convolutions and linear layers."""
    convolves: ClassVar[bool] = False
    takes_factor: ClassVar[bool] = True
    """Whether a factor a channel can be folded into its weight and bias."""
    ends_block: ClassVar[bool] = False
    """Whether a residual branch may end in it: with weight and bias zero it must return zero."""

    def size(self, layer: Any, kind: SideKind) -> int:
        """Number of channels on one side.

        Raises:
            TypeError: the layer has no channels of its own.
        """
        raise TypeError(f"no channels to take from a {type(layer).__name__}")

    def resize(self, layer: Any, kind: SideKind, n: int) -> None:
        """Set the layer's own count of channels, after its tensors were cut."""

    def channel_axis(self, layer: Any, ndim: int) -> int:
        """The dimension of the layer's output that holds the channels."""
        return 1

    def label(self, layer: Any, call: LayerCall, value: Value | None, labels: Labels) -> Value | None:
        """Labels of the layer's output, from those of its input (None: a constant, which has no channels)."""
        if value is None:
            return None
        ids = channel_labels(value, 1, call.in_shape[1])
        if ids is None:
            labels.freeze(value.labels, f"{type(layer).__name__} {call.name} sees no plain channel dimension")
            return value
        self.couple(layer, ids, labels)
        labels.side(call.name, "pass", ids)
        labels.freeze_protected(call.name, ids)
        return value

    def couple(self, layer: Any, ids: np.ndarray, labels: Labels) -> None:
        """Link channels that the layer treats together; `ids` [n] are those that run through it."""

    def take(self, layer: Any, kind: SideKind, kept: np.ndarray) -> None:
        """Keep the rows (out, pass) or columns (in) `kept` of the layer, in that order, in place."""
        for name in ("weight", "bias", "running_mean", "running_var"):
            select(layer, name, 0, kept)
        self.resize(layer, kind, len(kept))

    def zero(self, layer: Any, rows: torch.Tensor | None) -> None:
        """Make output channels `rows` (None: all) zero where a zero comes in, in place."""
        where: Any = slice(None) if rows is None else rows
        for tensor in (layer.weight, layer.bias):
            if tensor is not None:
                tensor[where] = 0

    def zero_columns(self, layer: Any, columns: torch.Tensor) -> None:
        """Make the layer read nothing of its input channels `columns`; its weight is replaced."""
        factors = torch.ones(self.size(layer, "in"), dtype=layer.weight.dtype, device=layer.weight.device)
        factors[columns] = 0
        weight = self.scaled(layer, layer.weight.detach(), factors, columns=True)
        layer.weight = nn.Parameter(weight, layer.weight.requires_grad)

    def scaled(self, layer: Any, weight: torch.Tensor, factors: torch.Tensor, *, columns: bool) -> torch.Tensor:
        """`weight` with a factor [n] on each row, or on each column."""
        return weight * factors

    def kernel(self, layer: Any) -> Kernel | None:
        """What the layer multiplies; None where the counter sees no multiply-adds."""
        return None

    def rows(self, layer: Any) -> torch.Tensor:
        """The weight with one row an output channel in front: [n_out, …]."""
        return layer.weight


_RULES: dict[type[nn.Module], LayerRule] = {}
_BY_NAME: dict[str, LayerRule] = {}
"""Of torchvision's own layers, which are not imported for those who have none."""
Rule = TypeVar("Rule", bound=LayerRule)


def register_layer(*types: type[nn.Module]) -> Callable[[type[Rule]], type[Rule]]:
    """Class decorator: the rule of these layer types and of their subclasses that have none of their own."""

    def register(rule: type[Rule]) -> type[Rule]:
        made = rule()
        for kind in types:
            _RULES[kind] = made
        return rule

    return register


def rule_of(layer: nn.Module) -> LayerRule | None:
    """The rule of a layer, that of its nearest registered ancestor; None for a module that is no layer."""
    for kind in type(layer).__mro__:
        if kind in _RULES:
            return _RULES[kind]
        if kind.__module__.startswith("torchvision.ops") and kind.__name__ in _BY_NAME:
            return _BY_NAME[kind.__name__]
    return None


def require_rule(layer: nn.Module) -> LayerRule:
    """The rule of a layer.

    Raises:
        TypeError: there is none.
    """
    rule = rule_of(layer)
    if rule is None:
        raise TypeError(f"{type(layer).__name__} is no layer that is known; register_layer adds one")
    return rule


def makes_channels(module: nn.Module) -> bool:
    """Whether a module is a convolution or a linear layer, or another whose weight rows make channels."""
    rule = rule_of(module)
    return rule is not None and rule.makes_channels


def computes_weight(module: nn.Module) -> bool:
    """Whether a layer's weight or bias is no parameter of its own but computed from others when it runs.

    As under `torch.nn.utils.parametrize`, `weight_norm`, `spectral_norm` and the masks of `torch.nn.utils.prune`.
    """
    if not makes_channels(module):
        return False
    return any(key in module.__dict__ or is_parametrized(module, key) for key in ("weight", "bias"))


def convolves(module: nn.Module) -> bool:
    """Whether a module is a convolution."""
    rule = rule_of(module)
    return rule is not None and rule.convolves


def select(owner: nn.Module, name: str, dim: int, index: np.ndarray) -> None:
    """Replace a parameter or buffer, if there is one of that name, by its entries `index` along `dim`."""
    old = getattr(owner, name, None)
    if old is None:
        return
    new = old.detach().index_select(dim, torch.as_tensor(index, device=old.device))
    for layout, rank in ((torch.channels_last, 4), (torch.channels_last_3d, 5)):
        if old.ndim == rank and old.is_contiguous(memory_format=layout) and not old.is_contiguous():
            new = new.contiguous(memory_format=layout)
    if isinstance(old, nn.Parameter):
        new = nn.Parameter(new, requires_grad=old.requires_grad)
    setattr(owner, name, new)


@register_layer(nn.Linear)
class LinearRule(LayerRule):
    """Weight [n_out, n_in], channels along the last dimension."""

    makes_channels = True
    ends_block = True

    def size(self, layer: nn.Linear, kind: SideKind) -> int:
        return layer.in_features if kind == "in" else layer.out_features

    def resize(self, layer: nn.Linear, kind: SideKind, n: int) -> None:
        if kind == "in":
            layer.in_features = n
        else:
            layer.out_features = n

    def channel_axis(self, layer: nn.Linear, ndim: int) -> int:
        return ndim - 1

    def label(self, layer: nn.Linear, call: LayerCall, value: Value | None, labels: Labels) -> Value:
        ids = labels.reads(call.name, value, -1, layer.in_features)
        if ids is not None:
            labels.side(call.name, "in", ids)
        labels.multiplied(call.name, math.prod(call.out_shape[:-1]))
        rank = len(call.out_shape)
        return Value(call.out_shape, along(labels.makes(call.name, layer.out_features), rank - 1, rank))

    def take(self, layer: nn.Linear, kind: SideKind, kept: np.ndarray) -> None:
        select(layer, "weight", 1 if kind == "in" else 0, kept)
        if kind != "in":
            select(layer, "bias", 0, kept)
        self.resize(layer, kind, len(kept))

    def scaled(self, layer: nn.Linear, weight: torch.Tensor, factors: torch.Tensor, *, columns: bool) -> torch.Tensor:
        return weight * factors.view(1, -1) if columns else weight * factors.view(-1, 1)

    def kernel(self, layer: nn.Linear) -> Kernel:
        return Kernel(1, 1, layer.in_features, layer.out_features)


@register_layer(nn.Conv1d, nn.Conv2d, nn.Conv3d)
class ConvolutionRule(LayerRule):
    """Weight [n_out, n_in / groups, …]. A depthwise convolution is a "pass": its channels run through."""

    makes_channels = True
    convolves = True
    ends_block = True

    def size(self, layer: Any, kind: SideKind) -> int:
        return layer.in_channels if kind == "in" else layer.out_channels

    def channel_axis(self, layer: Any, ndim: int) -> int:
        return ndim - len(tuple(layer.kernel_size)) - 1  # 0 where there is no batch dimension

    def label(self, layer: Any, call: LayerCall, value: Value | None, labels: Labels) -> Value:
        kernel = self.kernel(layer)
        axis = self.channel_axis(layer, len(call.in_shape))
        shape = self.kernel_shape(call)
        labels.multiplied(call.name, math.prod(shape) // shape[axis])
        ids = labels.reads(call.name, value, axis, kernel.n_in)
        if ids is not None and not kernel.depthwise:
            labels.side(call.name, "in", ids)
        if kernel.depthwise and ids is not None:
            made = np.repeat(ids, kernel.n_out // kernel.n_in)
            labels.side(call.name, "pass", made)
        else:
            made = self.make(call.name, kernel, ids, labels)
        labels.freeze_protected(call.name, made)
        return Value(call.out_shape, along(made, axis, len(call.out_shape)))

    def make(self, name: str, kernel: Kernel, ids: np.ndarray | None, labels: Labels) -> np.ndarray:
        """Labels of the channels that the convolution makes, [n_out]."""
        made = labels.makes(name, kernel.n_out)
        if kernel.depthwise:
            labels.freeze(made, f"depthwise convolution {name} reads channels that stay")
        elif kernel.groups > 1:
            # The same offsets go in every group of the convolution, so that the groups stay alike.
            labels.link_columns(made.reshape(kernel.groups, -1))
            if ids is not None:
                labels.link_columns(ids.reshape(kernel.groups, -1))
        return made

    def kernel_shape(self, call: LayerCall) -> tuple[int, ...]:
        """The tensor at whose every place the kernel is multiplied once."""
        return call.out_shape

    def take(self, layer: Any, kind: SideKind, kept: np.ndarray) -> None:
        n = len(kept)
        if kind == "in":
            # Every group keeps the same offsets: those of the first group say it for all.
            select(layer, "weight", 1, kept[kept < layer.in_channels // layer.groups])
            layer.in_channels = n
            return
        vectors = own_vectors(layer)
        if kind == "pass":
            layer.in_channels = layer.groups = n // (layer.out_channels // layer.groups)
        for name in ("weight", "bias", *vectors):
            select(layer, name, 0, kept)
        layer.out_channels = n

    def scaled(self, layer: Any, weight: torch.Tensor, factors: torch.Tensor, *, columns: bool) -> torch.Tensor:
        tail = (1,) * (weight.ndim - 2)
        if not columns:
            return weight * factors.view(-1, 1, *tail)
        return _scaled_by_group(weight, factors, layer.groups)

    def kernel(self, layer: Any) -> Kernel:
        return Kernel(int(np.prod(layer.kernel_size)), layer.groups, layer.in_channels, layer.out_channels)


def own_vectors(layer: nn.Module) -> list[str]:
    """A convolution's further parameters and buffers with one entry an output channel, such as a gain [n, 1, 1, 1]."""
    tensors = {**layer._parameters, **layer._buffers}
    return [
        name
        for name, tensor in tensors.items()
        if tensor is not None and name not in ("weight", "bias") and tensor.ndim
        if tensor.shape[0] == tensor.numel() == layer.out_channels
    ]


_BY_NAME["DeformConv2d"] = ConvolutionRule()


@register_layer(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
class TransposedConvolutionRule(ConvolutionRule):
    """Weight [n_in, n_out / groups, …]."""

    def kernel_shape(self, call: LayerCall) -> tuple[int, ...]:
        return call.in_shape

    def take(self, layer: Any, kind: SideKind, kept: np.ndarray) -> None:
        n = len(kept)
        if kind == "in":
            select(layer, "weight", 0, kept)
            layer.in_channels = n
            return
        multiplier = layer.out_channels // layer.groups
        if kind == "pass":
            select(layer, "weight", 0, kept[::multiplier] // multiplier)
            layer.in_channels = layer.groups = n // multiplier
        else:
            select(layer, "weight", 1, kept[kept < multiplier])
        select(layer, "bias", 0, kept)
        layer.out_channels = n

    def zero(self, layer: Any, rows: torch.Tensor | None) -> None:
        per_group = layer.out_channels // layer.groups
        grouped = layer.weight.view(layer.groups, -1, *layer.weight.shape[1:])
        out = torch.arange(layer.out_channels)
        out = out if rows is None else out[rows]
        grouped[out // per_group, :, out % per_group] = 0
        if layer.bias is not None:
            layer.bias[out] = 0

    def scaled(self, layer: Any, weight: torch.Tensor, factors: torch.Tensor, *, columns: bool) -> torch.Tensor:
        if columns:
            return weight * factors.view(-1, 1, *(1,) * (weight.ndim - 2))
        return _scaled_by_group(weight, factors, layer.groups)

    def rows(self, layer: Any) -> torch.Tensor:
        weight = layer.weight
        n_in, per_group = weight.shape[:2]
        rows = weight.reshape(layer.groups, n_in // layer.groups, per_group, -1).transpose(1, 2)
        return rows.reshape(layer.groups * per_group, -1)


def _scaled_by_group(weight: torch.Tensor, factors: torch.Tensor, groups: int) -> torch.Tensor:
    """Factors on dimension 1 of a weight [g · a, b, …], which holds one group's channels: factors [g · b]."""
    tail = (1,) * (weight.ndim - 2)
    if groups == 1:
        return weight * factors.view(1, -1, *tail)
    split = weight.view(groups, -1, *weight.shape[1:])
    return (split * factors.view(groups, 1, -1, *tail)).view_as(weight)


@register_layer(nn.modules.batchnorm._BatchNorm)
class BatchNormRule(LayerRule):
    """Scale, shift and running statistics, one a channel."""

    ends_block = True

    def size(self, layer: Any, kind: SideKind) -> int:
        return layer.num_features

    def resize(self, layer: Any, kind: SideKind, n: int) -> None:
        layer.num_features = n

    def zero(self, layer: Any, rows: torch.Tensor | None) -> None:
        super().zero(layer, rows)
        if layer.weight is None and layer.running_mean is not None:
            layer.running_mean[slice(None) if rows is None else rows] = 0  # a zero comes in and must come out


@register_layer(nn.modules.instancenorm._InstanceNorm)
class InstanceNormRule(LayerRule):
    """Scale, shift and running statistics, one a channel."""

    def size(self, layer: Any, kind: SideKind) -> int:
        return layer.num_features

    def resize(self, layer: Any, kind: SideKind, n: int) -> None:
        layer.num_features = n


@register_layer(nn.GroupNorm)
class GroupNormRule(LayerRule):
    """Channels of one norm group share their statistics, and go together."""

    ends_block = True

    def size(self, layer: nn.GroupNorm, kind: SideKind) -> int:
        return layer.num_channels

    def resize(self, layer: nn.GroupNorm, kind: SideKind, n: int) -> None:
        layer.num_groups = n // (layer.num_channels // layer.num_groups)
        layer.num_channels = n

    def couple(self, layer: nn.GroupNorm, ids: np.ndarray, labels: Labels) -> None:
        labels.link_rows(ids.reshape(layer.num_groups, -1))


@register_layer(nn.PReLU)
class PReLURule(LayerRule):
    """One slope for all channels, or one a channel; a zero that comes in comes out."""

    takes_factor = False

    def size(self, layer: nn.PReLU, kind: SideKind) -> int:
        return layer.num_parameters

    def resize(self, layer: nn.PReLU, kind: SideKind, n: int) -> None:
        layer.num_parameters = n

    def label(self, layer: nn.PReLU, call: LayerCall, value: Value | None, labels: Labels) -> Value | None:
        if layer.num_parameters > 1 or value is None:
            return super().label(layer, call, value, labels)
        labels.freeze_protected(call.name, value.labels)
        return value

    def zero(self, layer: nn.PReLU, rows: torch.Tensor | None) -> None:
        pass


@register_layer(nn.LayerNorm, nn.RMSNorm)
class LayerNormRule(LayerRule):
    """Normalises over channels: what is left of them would change if one went."""

    def label(self, layer: Any, call: LayerCall, value: Value | None, labels: Labels) -> Value | None:
        if type(layer).forward not in (nn.LayerNorm.forward, nn.RMSNorm.forward) and value is not None:
            last = value.labels.shape  # along which dimension it goes is up to it
        else:
            last = () if value is None else value.labels.shape[-len(layer.normalized_shape) :]
        if value is not None and any(n > 1 for n in last):
            labels.freeze(value.labels, f"{type(layer).__name__} {call.name} normalises over the channels")
        return value
