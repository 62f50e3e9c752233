"""`normalise` and networks of one's own in every task: what networks see, and what figures are made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.errors import RequestError
from bench.interface.cell import Recipe
from bench.interface.task import deployment, untrained
from tasks.classification import Classification
from tasks.data import bicubic
from tasks.segmentation import Segmentation
from tasks.super_resolution import SuperResolution, to_pixels

CPU = torch.device("cpu")
RECIPE = Recipe(precision="fp32")
MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.25)
GIVEN: dict[str, Any] = {"normalise": {"mean": MEAN, "std": STD}}
KINDS: dict[type[Any], dict[str, Any]] = {
    Classification: {"dataset": "digits", "model": "resnet8", "train_size": 20},
    Segmentation: {
        "dataset": "scattered-digits",
        "model": "smp:unet/resnet18",
        "train_size": 20,
        "test_size": 6,
        "image_size": (32, 32),
    },
    SuperResolution: {"dataset": "photographs", "model": "edsr-tiny", "patch": 16},
}
COLOUR = [Segmentation, SuperResolution]


def first(split: Any) -> tuple[Tensor, Tensor]:
    return next(iter(split.ordered(1, CPU)))


def grey_levels(x: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Pixel values that a network's input [1, C, H, W] came from."""
    shift, factor = (torch.tensor(values)[:, None, None] for values in (mean, std))
    return 255 * (x * factor + shift)


@pytest.mark.parametrize("kind", COLOUR)
def test_every_part_is_shown_as_given(kind: Any) -> None:
    plain, own = (kind(**KINDS[kind], **options).load(None) for options in ({}, GIVEN))
    stated = deployment(kind(**KINDS[kind]), plain.info)["input"]
    for left, right in ((plain.train, own.train), (plain.val, own.val), (plain.test(), own.test())):
        (x, _), (z, _) = first(left), first(right)
        expected = grey_levels(x, stated["mean"], stated["std"])
        assert torch.allclose(grey_levels(z, MEAN, STD), expected, atol=1e-3)
        assert torch.allclose(expected, expected.round(), atol=1e-3) and expected.max() >= 1


def test_grey_digits_are_shown_as_given() -> None:
    plain = Classification(**KINDS[Classification])
    own = Classification(**KINDS[Classification], normalise={"mean": (0.5,), "std": (0.25,)})
    x, z = (first(made.load(None).train)[0] for made in (plain, own))
    stated = deployment(plain, plain.load(None).info)["input"]
    assert stated["mean"] == [round(78 / 255, 9)] and stated["std"] == [round(96 / 255, 9)]
    assert torch.allclose(grey_levels(z, (0.5,), (0.25,)), grey_levels(x, stated["mean"], stated["std"]), atol=1e-3)


class Bicubic(nn.Module):
    """Bicubic interpolation of what is shown under `GIVEN`."""

    def forward(self, x: Tensor) -> Tensor:
        shift, factor = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
        images = [torch.from_numpy(bicubic.resize(to_pixels(image, MEAN, STD), 2)) for image in x]
        return (torch.stack(images).permute(0, 3, 1, 2).float() / 255 - shift) / factor


def test_super_resolution_is_measured_in_what_the_network_gives() -> None:
    made = SuperResolution(**KINDS[SuperResolution], **GIVEN)
    data = made.load(None)
    expected = made.references(data, data.val)["bicubic"]
    assert made.evaluate(Bicubic(), data.val, CPU, RECIPE) == pytest.approx(expected, abs=1e-6)
    assert 20 < expected["psnr"] < 40


NET = """
import torch.nn as nn

def segment(classes):
    return nn.Conv2d(3, classes, 3, padding=1)

def classify(classes):
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))

def enlarge(scale):
    return nn.Sequential(nn.Conv2d(3, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))
"""
OWN = [(Classification, "classify", {"classes": 10}), (Segmentation, "segment", {"classes": 11})]


@pytest.mark.parametrize(("kind", "name", "args"), [*OWN, (SuperResolution, "enlarge", {"scale": 2})])
def test_every_task_takes_a_network_of_ones_own(kind: Any, name: str, args: dict[str, int], tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    made = kind(**{**KINDS[kind], "model": f"{tmp_path}/net.py:{name}"}, model_args=args)
    made.validate()
    assert untrained(made) == made
    data = made.load(None)
    x, y = next(iter(data.train.batches(2, seed=0, epoch=0, device=CPU)))
    output = made.network(data.info)(x)
    assert tuple(output.shape) == made.output_shape(x.shape, data.info)
    assert bool(torch.isfinite(made.loss(output, y, RECIPE)))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_normalisation_or_network_is_refused(kind: Any, tmp_path: Path) -> None:
    for options, message in (
        ({"normalise": {"mean": (0.5,), "std": (0.5, 0.5)}}, "normalise has 1 means and 2 deviations; use { mean = "),
        ({"normalise": {"mean": (0.5,), "std": (0.5,), "max": (1.0,)}}, "normalise has max, mean, std; use"),
        ({"model_args": {"width": 3}}, "model_args is not allowed: .* is not a network of your own"),
        ({"model": f"{tmp_path}/absent.py:make"}, "there is no file .*absent.py"),
    ):
        with pytest.raises(RequestError, match=message):
            kind(**{**KINDS[kind], **options}).validate()
    if kind in COLOUR:
        with pytest.raises(RequestError, match=r"normalise has 1 channels; the images of .* have 3"):
            kind(**KINDS[kind], normalise={"mean": (0.5,), "std": (0.5,)}).validate()
