"""The numbers of a network, without pickle: what is left of its state is what safetensors can hold."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


def tensors_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters and buffers of a network by name, without what modules add as extra state."""
    return {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}


def load_state(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give `model` the tensors of `tensors_of`, of a network of the same release of its code.

    Extra state that modules keep beside their tensors is left as it is. Of a tensor that has several names one is
    enough.

    Raises:
        RuntimeError: names or shapes are not the same.
    """
    own = model.state_dict(keep_vars=True)
    state: OrderedDict[str, Any] = OrderedDict(tensors)
    places = {id(value): name for name, value in own.items() if name in tensors}
    for name, value in own.items():
        if not isinstance(value, torch.Tensor):
            state[name] = value
        elif name not in tensors and id(value) in places:
            state[name] = tensors[places[id(value)]]
    # Modules that read their files by version find it here, and take a file without one for an old one.
    state._metadata = own._metadata  # pyright: ignore[reportAttributeAccessIssue]
    model.load_state_dict(state)
