"""The networks that a method is tried on: small ones, each with a structure that the others do not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.errors import RequestError
from bench.interface import registry
from bench.interface.cell import Recipe
from bench.interface.task import DataInfo, Split, Task
from tasks.segmentation import Segmentation


@dataclass(frozen=True)
class Place:
    """A task on small embedded data, with a network."""

    title: str
    """The network in words."""
    task: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> Task:
        """The task's adapter, with the options checked."""
        if self.task == ONE_CLASS:
            return OneClass(**self.options)
        return registry.make_task(self.task, self.options)


def chosen_place(task: str | None, model: str | None) -> Place:
    """The data of the task's own quick trial, with this network or the trial's.

    Raises:
        RequestError: there is no such task, it has no quick trial, or it has no such network.
    """
    name = task or MAIN.task
    options = dict(MAIN.options if name == MAIN.task else trial_options(name))
    options |= {"model": model} if model else {}
    place = Place(f"{options['model']} ({name})", name, options)
    place.make()
    return place


def trial_options(task: str) -> Mapping[str, Any]:
    """The options of a task's quick trial on embedded data.

    Raises:
        RequestError: it has none.
    """
    options = getattr(registry.task_class(task), "trial", None)
    if options is None:
        raise RequestError(f"task {task!r} has no `trial`: the options of a quick trial on embedded data")
    return options


ONE_CLASS = "segmentation of one class"


@dataclass(frozen=True)
class OneClass(Segmentation):
    """Digits against their background: networks that give one logit a pixel."""

    def network(self, info: DataInfo) -> nn.Module:
        return super().network(DataInfo(info.channels, info.height, info.width, ("digit",)))

    def output_shape(self, shape: Sequence[int], info: DataInfo) -> tuple[int, ...]:
        return shape[0], 1, *shape[2:]

    def loss(self, output: Any, target: Tensor, recipe: Recipe) -> Tensor:
        return F.binary_cross_entropy_with_logits(output[:, 0].float(), (target > 0).float())

    def distil(self, output: Any, teacher: Any, target: Tensor, recipe: Recipe) -> Tensor:
        return F.binary_cross_entropy_with_logits(output.float(), teacher.float().sigmoid())

    def evaluate(self, model: nn.Module, split: Split, device: torch.device, recipe: Recipe) -> dict[str, float]:
        """Intersection over union of the digits' pixels, in percent."""
        model.to(device).eval()
        both = either = 0
        with torch.no_grad():
            for x, y in split.ordered(16, device):
                found, there = model(x)[:, 0] > 0, y > 0
                both, either = both + int((found & there).sum()), either + int((found | there).sum())
        return {self.metric: 100.0 * both / max(1, either)}


_PIXELS = {"dataset": "scattered-digits", "model": "smp:unet/tu-test_resnet", "image_size": (32, 32)}
_FEW = {"train_size": 20, "test_size": 10}
MAIN = Place("CIFAR ResNet", "classification", {"dataset": "digits", "model": "resnet8", "train_size": 200})
OTHERS = (
    Place(
        "MobileNetV2 (depthwise convolutions)",
        "classification",
        {"dataset": "digits", "model": "timm:mobilenetv2_035", "train_size": 100},
    ),
    Place("a U-Net of many classes (skip connections)", "segmentation", {**_PIXELS, **_FEW}),
    Place("a U-Net of one class", ONE_CLASS, {**_PIXELS, **_FEW}),
    Place(
        "EDSR (bundles of channels, no norms)",
        "super_resolution",
        {"dataset": "photographs", "model": "edsr-tiny", "patch": 16, "example_size": [16, 16]},
    ),
)
