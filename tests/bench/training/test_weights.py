"""Weights that people have: every usual wrapping, and a sentence for what does not fit."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bench.errors import RequestError
from bench.training.weights import load_weights


class Net(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, classes)


State = dict[str, Tensor]


def trained() -> Net:
    torch.manual_seed(1)
    model = Net()
    nn.init.normal_(model.norm.running_mean)  # pyright: ignore[reportArgumentType]
    return model


def prefixed(state: State, prefix: str) -> State:
    return {f"{prefix}{name}": value for name, value in state.items()}


def without_counters(state: State) -> State:
    return {name: value for name, value in state.items() if "num_batches" not in name}


def other(state: State) -> State:
    return {name: torch.zeros_like(value) for name, value in state.items()}


WRAPPINGS: dict[str, Callable[[State], Any]] = {
    "plain": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3, "best_prec1": np.float64(91.7)},
    "module": lambda s: {"state_dict": prefixed(s, "module."), "args": argparse.Namespace(lr=0.1)},
    "no counters": lambda s: prefixed(without_counters(s), "module."),
    "model_ema": lambda s: {"model": other(s), "model_ema": {"n_averaged": torch.tensor(5), **prefixed(s, "module.")}},
    "state_dict_ema": lambda s: {"state_dict": other(s), "state_dict_ema": s, "arch": "net"},
    "lightning": lambda s: {
        "state_dict": {**prefixed(s, "model."), "criterion.weight": torch.ones(3), "val_accuracy.total": torch.ones(1)},
        "pytorch-lightning_version": "2.4.0",
        "hyper_parameters": {"lr": 0.1},
    },
    "compiled": lambda s: {"model_state_dict": prefixed(s, "_orig_mod."), "optimizer": {"state": {}}},
    "compiled and parallel": lambda s: prefixed(s, "module._orig_mod."),
    "nested": lambda s: {"state_dict": {"model": s}},
    "a profiler's counters": lambda s: {**s, "total_ops": torch.zeros(1), "conv.total_params": torch.zeros(1)},
    "half": lambda s: {name: v.half() if v.is_floating_point() else v for name, v in s.items()},
}


@pytest.mark.parametrize("name", WRAPPINGS)
def test_every_usual_wrapping_is_read(name: str, tmp_path: Path) -> None:
    source, model, path = trained(), Net(), tmp_path / "weights.pt"
    torch.save(WRAPPINGS[name](source.state_dict()), path)
    notes = load_weights(model, path)
    tolerance = 1e-2 if name == "half" else 0
    for key, value in source.state_dict().items():
        assert torch.allclose(model.state_dict()[key], value, atol=tolerance, rtol=0), key
    assert notes[0].startswith("the dense network starts from the weights of weights.pt")


def test_averaged_weights_are_said_to_be_taken(tmp_path: Path) -> None:
    torch.save(WRAPPINGS["model_ema"](trained().state_dict()), tmp_path / "w.pth")
    assert load_weights(Net(), tmp_path / "w.pth") == [
        "the dense network starts from the weights of w.pth (its model_ema)"
    ]


def test_safetensors_are_read(tmp_path: Path) -> None:
    source, model = trained(), Net()
    save_file(prefixed(source.state_dict(), "module."), tmp_path / "w.safetensors")
    load_weights(model, tmp_path / "w.safetensors")
    assert torch.equal(model.head.weight, source.head.weight)


def test_of_tied_weights_one_name_is_enough(tmp_path: Path) -> None:
    def tied() -> nn.Module:
        model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
        model[2].weight = model[0].weight
        return model

    for absent in ("0.weight", "2.weight"):
        source, model = tied(), tied()
        torch.save({k: v for k, v in source.state_dict().items() if k != absent}, tmp_path / "w.pt")
        load_weights(model, tmp_path / "w.pt")
        assert torch.equal(model[0].weight, source[0].weight) and model[0].weight is model[2].weight  # pyright: ignore


class Planted:
    """Writes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_no_object_is_unpickled(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    torch.save({"state_dict": trained().state_dict(), "extra": Planted(proof)}, tmp_path / "w.pt")
    with pytest.raises(
        RequestError, match=r"hold Python objects \([\w.]+\), .*torch\.save\(model\.state_dict\(\), file\)"
    ):
        load_weights(Net(), tmp_path / "w.pt")
    assert not proof.exists()


def test_a_whole_model_is_refused_by_name(tmp_path: Path) -> None:
    torch.save(trained(), tmp_path / "w.pt")
    with pytest.raises(RequestError, match=r"hold Python objects \([\w.]*Net\)"):
        load_weights(Net(), tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {**s, "head.weight": torch.zeros(10, 4)}, "head.weight is 10×4 in the file and 3×4 in the network"),
        (
            lambda s: {k: v for k, v in s.items() if k != "conv.bias"},
            r"do not fit the network: the file lacks conv\.bias$",
        ),
        (lambda s: {**s, "aux.weight": torch.zeros(2)}, r"the network has no aux\.weight$"),
        (lambda s: {**s, "conv.bias": torch.full((4,), float("nan"))}, r"numbers that are not finite: conv\.bias"),
        (
            lambda s: prefixed(s, "student.") | prefixed(s, "teacher."),
            r"several networks that fit: 'student\.', 'teacher\.'; keep one",
        ),
        (lambda s: {"epoch": 3, "best": 0.5}, "hold no network's tensors, .*; it has epoch, best"),
        (lambda s: {f"other.{i}": torch.zeros(1) for i in range(7)}, "the network has no other.0, .* and 3 more"),
    ],
)
def test_what_does_not_fit_is_named(change: Callable[[State], Any], message: str, tmp_path: Path) -> None:
    torch.save(change(trained().state_dict()), tmp_path / "w.pt")
    model = Net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(RequestError, match=message):
        load_weights(model, tmp_path / "w.pt")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"absent\.pt cannot be read: No such file"):
        load_weights(Net(), tmp_path / "absent.pt")
    for name in ("w.pt", "w.safetensors"):
        (tmp_path / name).write_bytes(b"these are no weights")
        with pytest.raises(RequestError, match=f"weights .*{name} are no "):
            load_weights(Net(), tmp_path / name)
    torch.save(trained().state_dict(), tmp_path / "w.pt")
    with pytest.raises(RequestError, match="changed since the suite was read"):
        load_weights(Net(), tmp_path / "w.pt", sha256="0" * 64)
