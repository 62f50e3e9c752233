"""The cost's gradient in proportion to the task's, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bench.search.balance import Balance


def step(balance: Balance, alpha: nn.Parameter, task: Tensor | None, cost: Tensor, weight: float) -> list[float]:
    """The gradient of one step of the architecture; `task` None: the search is blind."""
    loss = balance.penalty(cost, weight)
    (alpha.grad,) = torch.autograd.grad(loss if task is None else task + loss, alpha)
    gradient = alpha.grad.tolist()
    balance.observe()
    return gradient


def test_the_cost_s_gradient_is_a_multiple_of_the_task_s_running_length() -> None:
    alpha = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    balance = Balance([alpha])
    slope = torch.tensor([3.0, 4.0], dtype=torch.float64)  # of length 5
    cost = torch.tensor([0.0, 100.0], dtype=torch.float64)  # of length 100
    assert step(balance, alpha, alpha @ slope, alpha @ cost, 2.0) == pytest.approx([3, 4])  # the task alone
    assert float(balance.square) == pytest.approx(25)
    assert step(balance, alpha, alpha @ slope, alpha @ cost, 2.0) == pytest.approx([3, 4 + 2 * 5])
    assert float(balance.square) == pytest.approx(25)  # the task's part alone was measured
    assert step(balance, alpha, alpha @ (2 * slope), alpha @ (1e-3 * cost), 2.0) == pytest.approx([6, 8 + 2 * 5])
    assert float(balance.square) == pytest.approx(0.95 * 25 + 0.05 * 100)


def test_a_cost_without_gradient_adds_nothing() -> None:
    alpha = nn.Parameter(torch.ones(2))
    balance = Balance([alpha])
    balance.square.fill_(4.0)
    assert float(balance.penalty(0.0 * alpha.sum(), 2.0)) == 0
    assert step(balance, alpha, alpha.sum(), 0.0 * alpha.sum(), 2.0) == [1, 1]


def test_without_a_task_the_cost_moves_the_architecture_at_a_constant_length() -> None:
    """A blind search: the cost's gradient is all there is, and its rounding is no task's gradient."""
    alpha = nn.Parameter(torch.zeros(3))
    balance = Balance([alpha])
    cost = torch.tensor([0.1, 0.2, 0.2])
    assert step(balance, alpha, None, alpha @ cost, 2.0) == [0, 0, 0]
    for _ in range(50):
        assert step(balance, alpha, None, alpha @ cost, 2.0) == pytest.approx([2 / 3, 4 / 3, 4 / 3])


def test_several_parameters_are_one_vector() -> None:
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    balance = Balance([a, b])
    balance.square.fill_(25.0)
    loss = balance.penalty(6 * a.sum() + 8 * b.sum(), 1.0)
    assert [float(g) for g in torch.autograd.grad(loss, [a, b])] == pytest.approx([3, 4])
