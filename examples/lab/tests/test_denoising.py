"""Denoising: its figures by hand, its noise, and the contract."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from prunebench_lab.denoising import psnr
from prunebench_lab.dncnn import DnCNN

from bench.contract.suite import TASK_PROPERTIES, TaskTrial
from bench.errors import RequestError
from bench.interface.registry import make_task

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trial() -> TaskTrial:
    return TaskTrial("denoising")


@pytest.mark.parametrize("holds", TASK_PROPERTIES, ids=lambda p: p.__name__)
def test_contract(trial: TaskTrial, holds: Callable[[TaskTrial], None]) -> None:
    holds(trial)


def test_psnr_by_hand() -> None:
    """An error of 0.1 everywhere is 20 dB; values outside of 0 … 1 are clipped before."""
    clean = torch.full((2, 1, 4, 4), 0.9)
    assert psnr(torch.stack([clean[0] - 0.1, clean[1] + 5]), clean).tolist() == pytest.approx([20.0, 20.0], abs=1e-3)


def test_the_noise_has_its_strength_and_is_drawn_anew_in_each_epoch(trial: TaskTrial) -> None:
    noises = []
    for epoch in (0, 1):
        noisy, clean = next(iter(trial.data.train.batches(64, seed=3, epoch=epoch, device=CPU)))
        noises.append(noisy - clean)
        assert float(noises[-1].std()) == pytest.approx(25 / 255, rel=0.03)
        assert float(noises[-1].mean()) == pytest.approx(0, abs=0.002)
    assert not torch.equal(*noises)
    # Noise of 25 steps of 255 alone is 20 log10(255 / 25) = 20.17 dB; clipping takes a little of it off.
    row = trial.task.references(trial.data, trial.data.test())["noisy image"]
    assert row["psnr"] == pytest.approx(20.17, abs=0.5)


def test_a_network_that_finds_no_noise_leaves_the_image_as_it_is() -> None:
    model, image = DnCNN(4, 8, 1), torch.rand(1, 1, 8, 8)
    torch.nn.init.zeros_(model.noise[-1].weight)  # pyright: ignore[reportArgumentType]
    torch.nn.init.zeros_(model.noise[-1].bias)  # pyright: ignore[reportArgumentType]
    assert torch.equal(model(image), image)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"dataset": "nope"}, "unknown data set 'nope'"), ({"model": "dncnn9"}, "unknown model"), ({"sigma": 0}, "sigma")],
)
def test_bad_options_are_refused(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        make_task("denoising", {"dataset": "photographs", "model": "dncnn", **options})
