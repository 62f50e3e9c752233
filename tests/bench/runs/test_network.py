"""A network is tried before anything is trained: what would fail later is refused in a sentence."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import StochasticDepth

from bench.errors import RequestError
from bench.runs import workload as workloads
from bench.runs.job import Settings
from bench.runs.preflight import preflight
from bench.runs.suite import suite_from_table
from tasks.classification import Classification
from tasks.segmentation import Segmentation

SETTINGS = Settings(suite="s", tracking_uri="", device="cpu")


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    workloads._graphs.clear()


def check(*, budget: float = 0.5, **changes: Any) -> None:
    """Preflight of one workload on digits, 1×16×16."""
    workload: dict[str, Any] = {
        "name": "w",
        "task": "classification",
        "dataset": "digits",
        "model": "resnet8",
        "train_size": 64,
        "epochs": {"dense": 1, "recovery": 1},
        "train": {"batch_size": 16, "precision": "fp32"},
        **changes,
    }
    suite = {"name": "s", "methods": ["l1"], "controls": [], "budgets": [budget], "seeds": [0], "workloads": [workload]}
    preflight(suite_from_table(suite, "s").cells, SETTINGS, {})


def plain(*last: nn.Module) -> nn.Sequential:
    """A small classifier, with `last` behind it."""
    pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), *pool, nn.Linear(8, 10), *last)


class Do(nn.Module):
    """A function as a module; it is handed the module, which knows whether it is trained."""

    def __init__(self, function: Callable[[nn.Module, torch.Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self, x)


class Locked(nn.Sequential):
    """Holds what cannot be copied."""

    def __init__(self) -> None:
        super().__init__(plain())
        self.lock = threading.Lock()


def no_such_file() -> nn.Module:
    raise FileNotFoundError("no such file:\n  weights.bin")


READS = r"classification reads one tensor of 1×10"
REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "cannot be built": (no_such_file, "the network cannot be built: no such file: weights.bin$"),
    "other channels": (lambda: nn.Conv2d(3, 8, 3), r"cannot take an input of 1×1×16×16: .*expected input.* channels"),
    "fixed size": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10)),
        "cannot take an input of 1×1×16×16: .*mat1 and mat2 shapes cannot be multiplied",
    ),
    "too many halvings": (
        lambda: nn.Sequential(*(nn.MaxPool2d(2) for _ in range(5)), plain()),
        "cannot take an input of 1×1×16×16: .*too small",
    ),
    "cannot be copied": (Locked, "the network cannot be copied: cannot pickle '_thread.lock' object"),
    "a tuple": (lambda: plain(Do(lambda m, y: (y, y))), f"gives a tuple for an input of 1×1×16×16; {READS}"),
    "a dict": (lambda: plain(Do(lambda m, y: {"out": y})), f"gives a dict for an input of 1×1×16×16; {READS}"),
    "a list": (lambda: plain(Do(lambda m, y: [y])), f"gives a list for an input of 1×1×16×16; {READS}"),
    "complex numbers": (lambda: plain(Do(lambda m, y: y.to(torch.complex64))), f"gives complex64 1×10 .*; {READS}"),
    "a map": (lambda: nn.Conv2d(1, 10, 3), f"gives 1×10×14×14 for an input of 1×1×16×16; {READS}"),
    "other classes": (lambda: plain(nn.Linear(10, 1000)), f"gives 1×1000 for an input of 1×1×16×16; {READS}"),
    "auxiliary heads": (
        lambda: plain(Do(lambda m, y: (y, y) if m.training else y)),
        "gives a tuple while it is trained for an input of 16×1×16×16; classification reads one tensor of 16×10",
    ),
    "norms of one value": (
        lambda: plain(nn.BatchNorm1d(10), Do(lambda m, y: F.batch_norm(y[:1], None, None, training=True)
                                             if m.training else y)),
        "cannot be trained on batches of 16×1×16×16: Expected more than 1 value per channel when training",
    ),
    "an infinite loss": (
        lambda: plain(Do(lambda m, y: y * torch.inf)),
        "the loss of the untrained network is nan on a training batch of 16×1×16×16",
    ),
    "no gradient": (
        lambda: plain(Do(lambda m, y: y.detach())),
        "cannot be trained on batches of 16×1×16×16: .*does not require grad",
    ),
    "its input in place": (
        lambda: nn.Sequential(nn.ReLU(inplace=True), plain()),
        "changes its input in place",
    ),
    "a recurrent layer": (
        lambda: nn.Sequential(nn.Flatten(2), nn.Flatten(1), nn.Unflatten(1, (16, 16)), nn.LSTM(16, 10),
                              Do(lambda m, y: y[0].mean(1))),
        r"the multiply-adds of 3 \(LSTM\) cannot be counted",
    ),
    "nothing to prune": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(256, 10)),
        "no channel can be pruned$",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_network_that_would_fail_later_is_refused_in_a_sentence(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build, message = REFUSED[what]
    monkeypatch.setattr(Classification, "network", lambda task, info: build())
    with pytest.raises(RequestError, match=message) as refused:
        check()
    assert str(refused.value).startswith("workload w: resnet8: ") and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "last",
    [
        pytest.param((nn.Dropout(0.5),), id="dropout"),
        pytest.param((StochasticDepth(0.5, "row"),), id="stochastic depth"),
        pytest.param((Do(lambda m, y: y.clone().mul_(2)),), id="in place"),
        pytest.param((nn.Unflatten(1, (1, 1, 1, 10)), nn.Conv3d(1, 1, 1), nn.Flatten()), id="five dimensions"),
    ],
)
def test_networks_with_chance_and_counters_are_taken(last: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def build() -> nn.Module:
        model = plain(*last)
        model.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        return model

    monkeypatch.setattr(Classification, "network", lambda task, info: build())
    check()


def test_networks_of_the_libraries_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RequestError, match=r"an input of 1×1×16×16: Input height \(16\) doesn't match"):
        check(model="timm:vit_tiny_patch16_224")
    scattered = {"task": "segmentation", "dataset": "scattered-digits", "test_size": 8, "train_size": 8}
    with pytest.raises(RequestError, match="cannot build 'smp:dpt/resnet18'"):
        check(**scattered, model="smp:dpt/resnet18")


def test_a_task_without_an_output_shape_is_judged_by_its_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Segmentation, "output_shape")
    monkeypatch.setattr(Segmentation, "network", lambda task, info: nn.Conv2d(3, 2, 3, padding=1))
    with pytest.raises(RequestError, match=r"cannot be trained on batches of 8×3×32×32: Target \d+ is out of bounds"):
        check(task="segmentation", dataset="scattered-digits", model="smp:unet/resnet18", train_size=8,
              image_size=[32, 32])  # fmt: skip


@pytest.mark.parametrize(
    ("protect", "budget", "message"),
    [
        (["conv9"], 0.5, "workload w: resnet8: cannot protect 'conv9': .*; did you mean 'conv1'"),
        (["layer*"], 0.5, "workload w: resnet8: no channel can be pruned beside what is protected"),
        (["layer3", "layer1.*"], 0.2, r"workload w: budget 0.2 cannot be reached .* goes from 0\.\d+ to 1"),
    ],
)
def test_protected_layers_are_found_and_leave_room(protect: list[str], budget: float, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        check(protect=protect, budget=budget)
    if budget < 0.5:
        check(budget=budget)
        check(protect=protect, budget=0.8)
