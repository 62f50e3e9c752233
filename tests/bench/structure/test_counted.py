"""The costs of a traced network are held to the counter, and what cannot be counted is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from bench.errors import RequestError
from bench.structure import graph as graphs
from bench.structure.counter import MacsCounter
from bench.structure.graph import PruningGraph
from bench.structure.measure import count_macs
from bench.structure.surgery import mask, prune
from tests.bench.structure.networks import assert_same, outputs, random_pruning, randomise

X = torch.randn(1, 3, 8, 8)


class Tokens(nn.Module):
    """A layer for sequences [N, places, channels], given an image."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.flatten(2).transpose(1, 2)
        y = self.layer(y, y, y) if isinstance(self.layer, nn.MultiheadAttention) else self.layer(y)
        return (y[0] if isinstance(y, tuple) else y).transpose(1, 2).reshape(x.shape)


class Kernel(nn.Module):
    """A function of an image and of weights [8, 8, 1, 1]."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.randn(8, 8, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x, self.weight)


def around(middle: nn.Module) -> nn.Module:
    """A network with `middle` as its module "2", between layers that can be pruned."""
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), middle, nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1))


class Numpys(torch.autograd.Function):
    """A product that PyTorch sees nothing of."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:  # pyright: ignore
        import numpy as np

        product = np.einsum("nchw,dc->ndhw", x.detach().numpy(), weight.detach().numpy()[:, :, 0, 0])
        return torch.tensor(product)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:  # pyright: ignore
        return gradient, None


class Gram(torch.autograd.Function):
    """Its products grow with the channels that it is given, and it is no layer."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:  # pyright: ignore
        flat = x.flatten(2)
        return (flat.transpose(1, 2) @ flat).mean() * x

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:  # pyright: ignore
        return gradient


class Swish(torch.autograd.Function):
    """Multiplies element by element, which does not count."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:  # pyright: ignore
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:  # pyright: ignore
        return gradient


def resized(x: torch.Tensor) -> torch.Tensor:
    """Interpolated to twice its size and back, along three dimensions and along one."""
    twice = F.interpolate(x[:, :, None], size=(2, 16, 16), mode="trilinear").mean(2)
    rows = F.interpolate(twice.flatten(2), size=64, mode="linear")
    return rows.reshape(x.shape)


@torch.library.custom_op("prunebench_tests::product", mutates_args=())
def product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return F.conv2d(x, weight)


product.register_autograd(lambda ctx, gradient: (gradient, None))  # pyright: ignore[reportFunctionMemberAccess]


@pytest.mark.parametrize(
    ("middle", "message"),
    [
        (Kernel(lambda x, w: product(x, w)), r"of 2 \(Kernel\) cannot be counted: prunebench_tests.product"),
        (Kernel(Numpys.apply), r"of 2 \(Kernel\) cannot be counted: autograd function Numpys"),
        (
            Kernel(lambda x, w: Gram.apply(x)),
            r"random it takes \d+ multiply-adds where the cost model says \d+ in 2 \(Kernel\)",
        ),
        (Kernel(lambda x, w: x * (w[:, :, 0, 0] @ w[0, :, 0, 0])[:, None, None]), r"of 2 \(Kernel\) .*: aten.mv"),
        (Tokens(nn.LSTM(8, 8, batch_first=True)), r"of 2.layer \(LSTM\) cannot be counted: aten.mkldnn_rnn_layer"),
    ],
)
def test_what_multiplies_out_of_sight_is_refused_by_name(middle: nn.Module, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        PruningGraph.trace(around(middle), X)


@pytest.mark.parametrize(
    "middle",
    [
        Kernel(lambda x, w: Swish.apply(x)),
        Kernel(lambda x, w: resized(x)),
        Kernel(F.conv2d),
        Tokens(nn.GRU(8, 8, batch_first=True)),
        Tokens(nn.RNN(8, 8)),
        Tokens(nn.MultiheadAttention(8, 2, batch_first=True)),
        Tokens(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)),
    ],
    ids=["swish", "resized", "conv2d", "gru", "rnn", "attention", "transformer"],
)
def test_what_can_be_counted_is_counted_exactly(middle: nn.Module) -> None:
    model = randomise(around(middle)).eval()
    structure = PruningGraph.trace(model, X)
    assert structure.macs() == count_macs(model, X)
    assert structure.groups
    for seed in range(3):
        pruning = random_pruning(structure, seed)
        assert structure.macs(pruning.widths) == count_macs(prune(model, structure, pruning), X)


def test_a_network_that_takes_another_way_without_gradients_is_found_out() -> None:
    class Lazier(nn.Sequential):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input) if torch.is_grad_enabled() else self[2](self[1](self[0](input)))

    model = Lazier(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1))
    with pytest.raises(RequestError, match=r"random it takes \d+ multiply-adds where .* says \d+ in 4 \(Conv2d\)"):
        PruningGraph.trace(model, X)


def test_a_wrong_cost_model_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    right = graphs.PruningGraph.macs

    def wrong(structure: PruningGraph, widths: Any = None, blocks: Any = None) -> Any:
        thin = widths and widths.get("3") != 8
        return right(structure, widths, blocks) + bool(thin)

    monkeypatch.setattr(graphs.PruningGraph, "macs", wrong)
    with pytest.raises(RequestError, match="with channels removed at random it takes"):
        PruningGraph.trace(around(nn.Identity()), X)


def test_a_network_that_changes_its_input_in_place_is_traced() -> None:
    model = randomise(nn.Sequential(nn.ReLU(inplace=True), around(nn.Identity()))).eval()
    x = X.clone()
    structure = PruningGraph.trace(model, x)
    assert torch.equal(x, X)
    assert [g.name for g in structure.groups] == ["1.0", "1.3"]
    pruning = random_pruning(structure, 0)
    smaller = prune(model, structure, pruning)
    assert structure.macs(pruning.widths) == count_macs(smaller, X.clone())
    assert_same(outputs(mask(model, structure, pruning), X.clone()), outputs(smaller, X.clone()))


def test_attention_is_counted_by_hand_in_eval_mode_without_gradients() -> None:
    """9 tokens of 8 channels, 2 heads: projections 9·8·24 and 9·8·8; QKᵀ and its product with V, 9·9·8 each."""
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x = torch.randn(1, 9, 8)
    by_hand = 9 * 8 * 24 + 9 * 8 * 8 + 2 * 9 * 9 * 8
    with torch.no_grad(), MacsCounter() as counter:
        attention(x, x, x, need_weights=False)
    assert counter.total == by_hand
    with torch.no_grad(), counter:
        layer(x)
    assert counter.total == by_hand + 2 * 9 * 8 * 16
    assert torch.backends.mha.get_fastpath_enabled()


class Token(nn.Module):
    """Adds a learned token, spread over the batch, to the mean over places."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.mix = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mix(self.token.expand(x.shape[0], -1, -1)).reshape(-1, 8, 1, 1)


def test_a_parameter_that_is_spread_over_the_batch_can_be_counted() -> None:
    network = around(Token())
    assert count_macs(network, X) == 64 * 8 * 3 + 8 * 8 + 64 * 8 * 8 + 64 * 4 * 8
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert PruningGraph.trace(network, X).groups
