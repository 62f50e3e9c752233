"""Keeps a cost's gradient in proportion to the task's, so that the architecture sees both.

The gradients of a cross-entropy and of a log of MACs differ by orders of magnitude, and by others on every network.
An optimiser like Adam divides by the running size of their sum: where the cost's gradient is a hundred times the
task's, the architecture moves as if there were no task.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.lazy import nn, no_grad, torch

if TYPE_CHECKING:
    from torch import Tensor

MEMORY = 0.05
"""Share of the latest gradient in the running mean square: about twenty steps count."""
ROUNDING = 1e-5
"""A remainder below this share of the cost's gradient is the rounding of the subtraction, not a task's gradient."""


class Balance:
    """The cost's gradient is brought to a multiple of the running length of the task's, step by step.

    `penalty` goes into the loss of the architecture's step and `observe` follows that step. Without a gradient of the
    task (a search that is `blind`) the cost's has length `weight`.

    Args:
        parameters: of the architecture, whose gradients are weighed against each other as one vector.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = list(parameters)
        self.square = nn.Parameter(torch.zeros((), dtype=torch.float64), requires_grad=False)
        """Running mean of the squared length of the task's gradient; 0 before the first step. Belongs to a state."""
        self._given: list[Tensor] = [torch.zeros_like(p) for p in self.parameters]

    def penalty(self, cost: Tensor, weight: float) -> Tensor:
        """The cost, scaled so that its gradient is `weight` times as long as the task's; nothing in the first step."""
        slopes = torch.autograd.grad(cost, self.parameters, retain_graph=True, allow_unused=True)
        slopes = [torch.zeros_like(p) if s is None else s for p, s in zip(self.parameters, slopes, strict=True)]
        length = _length(slopes)
        scale = weight * float(self.square) ** 0.5 / length if length else 0.0
        self._given = [scale * s for s in slopes]
        return scale * cost

    @no_grad
    def observe(self) -> None:
        """Take the task's part of the gradients of this step into account."""
        rest = [
            torch.zeros_like(p) if p.grad is None else p.grad - given
            for p, given in zip(self.parameters, self._given, strict=True)
        ]
        length = _length(rest)
        if not self.square:
            self.square.fill_(length**2 or 1.0)
        elif length > ROUNDING * _length(self._given):
            self.square.lerp_(torch.as_tensor(length**2, dtype=torch.float64), MEMORY)


def _length(parts: Sequence[Tensor]) -> float:
    from bench.structure.tensors import precise

    return float(torch.stack([precise(part).square().sum() for part in parts]).sum().sqrt())
