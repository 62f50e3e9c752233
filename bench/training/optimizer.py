"""The optimisers of the one training loop: fused, and in the order in which weights lie in memory.

Torch's fused CPU kernels go through memory in its order. They copy every gradient that is not contiguous, which took a
twelfth of a segmentation step, and they mix up elements without a word where a gradient's layout is not its weight's.
Both are kept out here: the optimiser holds contiguous views of weights that are stored channels last, and gets views of
their gradients at each step, brought into the weight's layout where they have another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bench.interface.cell import Recipe


class Optimizer:
    """The recipe's optimiser of `weights`; weight decay on those of two dimensions and more."""

    def __init__(self, weights: Sequence[nn.Parameter], recipe: Recipe) -> None:
        decayed, plain = [p for p in weights if p.ndim > 1], [p for p in weights if p.ndim <= 1]
        self._pairs = [(weight, _view_of(weight)) for weight in (*decayed, *plain)]
        views = [view for _, view in self._pairs]
        groups: list[dict[str, Any]] = [
            {"params": views[: len(decayed)], "weight_decay": recipe.weight_decay},
            {"params": views[len(decayed) :], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        if recipe.optimizer == "adam":
            self._fused: torch.optim.Optimizer = torch.optim.Adam(groups, lr=recipe.lr, fused=True)
        else:
            momentum, nesterov = recipe.momentum, recipe.momentum > 0
            self._fused = torch.optim.SGD(groups, lr=recipe.lr, momentum=momentum, nesterov=nesterov, fused=True)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Torch's groups: a weight's place is taken by its view."""
        return self._fused.param_groups

    def zero_grad(self) -> None:
        """Let the weights' gradients go."""
        for weight, _ in self._pairs:
            weight.grad = None

    def step(self) -> None:
        """Change the weights by their gradients."""
        for weight, view in self._pairs:
            gradient = None if weight.grad is None else _laid_out_as(weight, weight.grad)
            if view is weight:
                weight.grad = gradient
                continue
            if view.data_ptr() != weight.data_ptr():  # the weight was moved since
                view.data = _in_order(weight.detach())
            view.grad = None if gradient is None else _in_order(gradient)
        self._fused.step()
        for weight, view in self._pairs:
            if view is not weight:
                view.grad = None  # the gradient's memory is the weight's to let go

    def state_dict(self) -> dict[str, Any]:
        return self._fused.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._fused.load_state_dict(state_dict)


def _view_of(parameter: nn.Parameter) -> nn.Parameter:
    data = parameter.detach()
    view = _in_order(data)
    return parameter if view is data else nn.Parameter(view)


def _in_order(tensor: Tensor) -> Tensor:
    """A contiguous view of a tensor that is stored channels last; another tensor as it is."""
    if tensor.ndim == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last):
        return tensor.permute(0, 2, 3, 1)
    return tensor


def _laid_out_as(weight: Tensor, gradient: Tensor) -> Tensor:
    """The gradient in its weight's memory layout."""
    if gradient.stride() == weight.stride():
        return gradient
    strides = zip(weight.shape, weight.stride(), gradient.stride(), strict=True)
    if all(one == other for size, one, other in strides if size > 1):
        return gradient
    return torch.empty_like(weight).copy_(gradient)
