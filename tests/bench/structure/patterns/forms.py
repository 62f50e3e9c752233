"""What goes in, what comes out, and what a forward pass does beside: branches, state, auxiliary heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F

from tests.bench.structure.patterns.base import Net, image, pattern


@pattern("exact")
class BranchOnData(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(y) if float(y.detach().abs().sum()) >= 0 else y.square()


@pattern("exact")
class BranchOnShape(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        if y.shape[-1] > 4:
            y = F.avg_pool2d(y, 2)
        return F.relu(y)


@pattern("exact")
class ChangesItsInput(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.sub_(0.5).div_(0.3)
        return super().forward(x)


@pattern("exact")
class KeepsActivations(Net):
    """A network that holds on to what it computed, gradients and all, and has already run."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []
        self(image()())

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        self.last = F.relu(y)
        self.seen = [*self.seen[-1:], self.last]
        return self.last


@pattern("exact")
class KeepsActivationsByHook(Net):
    def build(self) -> None:
        self.kept: dict[str, torch.Tensor] = {}
        self.stem.register_forward_hook(self.keep)

    def keep(self, module: nn.Module, args: Any, output: torch.Tensor) -> None:
        self.kept["stem"] = output

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(self.kept["stem"])


@pattern("exact")
class CountsItsCalls(Net):
    def build(self) -> None:
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.calls += 1  # pyright: ignore
        return F.relu(y)


@pattern("exact", example=image(2))
class DemandsABatchOfTwo(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        assert y.shape[0] > 1, "a batch of two or more, please"
        return F.relu(y - y.mean(0, keepdim=True))


@pattern("part", 0.7, example=image(4))
class ReshapesByBatch(Net):
    """Groups of two images share their statistics, as in minibatch standard deviation."""

    given = 17

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        n, c, h, w = y.shape
        spread = y.view(2, n // 2, c, h, w).std(0).amax((1, 2, 3))
        return torch.cat([F.relu(y), spread.repeat(2)[:, None, None, None].expand(-1, 1, h, w)], 1)


@pattern("exact", example=image(2))
class PairsOfABatch(Net):
    """The first half of the batch is compared with the second."""

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        a, b = y.chunk(2, 0)
        return F.relu(torch.cat([a - b, b], 0))


@pattern("exact", 0.8)
class DictOutput(Net):
    def forward(self, x: torch.Tensor) -> Any:
        y = F.relu(self.body(F.relu(self.stem(x))))
        return {"logits": self.head(y), "none": None, "sizes": [3, "text"]}


@dataclass
class Result:
    logits: torch.Tensor
    pooled: torch.Tensor | None = None


@pattern("exact")
class DataclassOutput(Net):
    def forward(self, x: torch.Tensor) -> Any:
        return Result(super().forward(x))


class Pair(NamedTuple):
    logits: torch.Tensor
    other: torch.Tensor


@pattern("exact")
class NamedTupleOutput(Net):
    def build(self) -> None:
        self.other = nn.Conv2d(16, 2, 1)

    def forward(self, x: torch.Tensor) -> Any:
        y = F.relu(self.body(F.relu(self.stem(x))))
        return Pair(self.head(y), self.other(y))


@pattern("part", 0.1)
class FeaturesAmongTheOutputs(Net):
    """What is returned keeps its channels: here those of the body, beside the head."""

    def forward(self, x: torch.Tensor) -> Any:
        y = F.relu(self.body(F.relu(self.stem(x))))
        return self.head(y), y


@pattern("exact")
class IdentityModules(Net):
    def build(self) -> None:
        self.before, self.after = nn.Identity(), nn.Sequential(nn.Identity(), nn.Identity())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(super().forward(self.before(x)))


@pattern("exact", 0.8)
class SeveralHeads(Net):
    def build(self) -> None:
        self.boxes, self.classes = nn.Conv2d(16, 8, 3, padding=1), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> Any:
        y = F.relu(self.body(F.relu(self.stem(x))))
        return [self.head(y), (self.boxes(y), {"classes": self.classes(y.mean((2, 3)))})]


@pattern("part", 0.6)
class AuxiliaryHeadInTraining(Net):
    """A head that eval mode does not see: in training it must still fit."""

    def build(self) -> None:
        self.auxiliary = nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> Any:
        y = F.relu(self.stem(x))
        result = self.head(F.relu(self.body(y)))
        return (result, self.auxiliary(y)) if self.training else result


@pattern("exact", 0.8)
class LayersThatAreNeverCalled(Net):
    def build(self) -> None:
        self.unused = nn.Sequential(nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(y)


@pattern("part", 0.1)
class BackboneWithoutGradients(Net):
    """The stem runs under `torch.no_grad`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            y = F.relu(self.stem(x))
        return self.head(F.relu(self.body(y)))


@pattern("part", 0.1)
class DetachedBranch(Net):
    def build(self) -> None:
        self.gate = nn.Conv2d(16, 16, 1)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(y) * torch.sigmoid(self.gate(y.detach()))


@pattern("exact")
class EverythingWithoutGradients(Net):
    """An inference wrapper, which is traced all the same."""

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x)


@pattern("exact", 0.8)
class FrozenParameters(Net):
    def build(self) -> None:
        self.stem.requires_grad_(False)


class WithExtra(nn.Conv2d):
    """A convolution that returns a tuple."""

    def forward(self, input: torch.Tensor) -> Any:
        return super().forward(input), input.mean()


@pattern("part", 0.1, may_refuse=True)
class ConvolutionThatReturnsATuple(Net):
    def build(self) -> None:
        self.pair = WithExtra(16, 16, 3, padding=1)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        y, level = self.pair(F.relu(y))
        return F.relu(y + level)


@pattern("exact", 0.8)
class KeywordCalls(Net):
    def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        y = F.relu(self.stem(input=x))
        return self.head(F.relu(self.body(input=y * scale)))


@pattern("exact", 0.8)
class BlockWithAnotherArgument(Net):
    """A block that is given a condition beside the map (FiLM)."""

    def build(self) -> None:
        self.condition, self.scale = nn.Linear(3, 8), nn.Linear(8, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gamma, beta = self.scale(F.relu(self.condition(x.mean((2, 3))))).chunk(2, 1)
        y = F.relu(self.stem(x) * gamma[:, :, None, None] + beta[:, :, None, None])
        return self.head(F.relu(self.body(y)))


def _two_images() -> Any:
    return image()(), image()() + 1


@pattern("refused", example=_two_images)
class TupleInput(Net):
    def forward(self, pair: Any) -> torch.Tensor:  # pyright: ignore
        return super().forward(pair[0] - pair[1])


@pattern("refused", example=lambda: {"image": image()()})
class DictInput(Net):
    def forward(self, given: Any) -> torch.Tensor:  # pyright: ignore
        return super().forward(given["image"])


@pattern("exact", 0.5, example=lambda: torch.arange(12).view(1, 12), may_refuse=True)
def integer_input() -> nn.Module:
    class Text(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.conv = nn.Embedding(20, 16), nn.Conv1d(16, 32, 3)
            self.body, self.head = nn.Conv1d(32, 16, 3), nn.Linear(16, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = F.relu(self.conv(self.words(x).transpose(1, 2)))
            return self.head(F.relu(self.body(y)).amax(2))

    return Text()


@pattern("exact", 0.8, example=lambda: (image()() * 255).clamp(0, 255).to(torch.uint8), may_refuse=True)
class ByteImages(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.to(self.stem.weight.dtype) / 255)


@pattern("exact", example=lambda: torch.randn(3, 8, 8), may_refuse=True)
class WithoutBatch(Net):
    """One image [C, H, W]."""


@pattern("whole")
def one_layer() -> nn.Module:
    return nn.Conv2d(3, 4, 3)


@pattern("whole")
def no_layers() -> nn.Module:
    return nn.Sequential(nn.AvgPool2d(2), nn.ReLU())


@pattern("whole")
def one_channel_everywhere() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 1, 3), nn.ReLU(), nn.Conv2d(1, 1, 3), nn.ReLU(), nn.Conv2d(1, 4, 1))


@pattern("exact", 0.7)
class DeepAndNarrow(nn.Module):
    """Sixty residual blocks of two channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
        self.convs = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(60))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for conv in self.convs:
            x = x + 0.1 * F.relu(conv(x))
        return self.head(x)
