"""What a pattern is: a network of a few lines, its input, and what must hold once it is traced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn as nn
import torch.nn.functional as F

from tests.bench.structure.examine import Outcome

Kind = Literal["exact", "part", "whole", "refused"]
WIDTH = 16
"""Channels between the layers of a `Net`."""


@dataclass(frozen=True)
class Pattern:
    """One structural pattern."""

    name: str
    make: Callable[[], nn.Module]
    example: Callable[[], Any]
    kind: Kind
    """exact: all but the head and what no network could give up; part: some; whole: nothing; refused: RequestError."""
    share: float
    """The least share of the multiply-adds that must be prunable."""
    may_refuse: bool
    """Whether a refusal in one sentence does as well."""

    def complaint(self, outcome: Outcome) -> str:
        """What is not as it must be; "" where all holds."""
        got = f"{outcome.kind}, {outcome.share:.3f} of the multiply-adds prunable: {outcome.detail or outcome.reasons}"
        if outcome.kind in ("wrong", "error"):
            return got
        if outcome.kind == "refused" and self.may_refuse:
            return ""
        prunable = ("exact", "part")
        as_stated = outcome.kind in prunable if self.kind in prunable else outcome.kind == self.kind
        return "" if as_stated and outcome.share >= self.share else f"{got}; wanted {self.kind}, {self.share:.3f}"


PATTERNS: dict[str, Pattern] = {}


def image(batch: int = 1, channels: int = 3, side: int = 8) -> Callable[[], torch.Tensor]:
    """A factory of random images, float32 [batch, channels, side, side]."""
    return lambda: torch.randn(batch, channels, side, side, generator=torch.Generator().manual_seed(1))


def pattern(
    kind: Kind, share: float = 0.0, example: Callable[[], Any] | None = None, *, may_refuse: bool = False
) -> Callable[[Any], Any]:
    """Decorator: a network's class, or a function that makes a network, is a pattern of that name.

    Args:
        kind, share, may_refuse: what must hold; see `Pattern`. Without a share: 0.9 if exact and 0.3 if part, which in
            a `Net` are reached only if the middle is prunable, or all but the middle.
        example: makes the input; None: one image of 8 pixels.
    """
    least = share or {"exact": 0.9, "part": 0.3}.get(kind, 0.0)

    def register(make: Any) -> Any:
        name = make.__name__.strip("_")
        assert name not in PATTERNS, f"two patterns are named {name}"
        PATTERNS[name] = Pattern(name, make, example or image(), kind, least, may_refuse)
        return make

    return register


class Net(nn.Module):
    """A convolution, the pattern in the middle, a convolution and a head.

    The stem takes 15 % of the multiply-adds and the body 82 %: without the stem's channels at most 79 % are prunable,
    without the body's at most 93 %, without both 3 %.
    """

    stem_width = WIDTH
    given = WIDTH
    """Channels that `middle` returns."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, self.stem_width, 3, padding=1)
        self.body = nn.Conv2d(self.given, WIDTH, 3, padding=1)
        self.head = nn.Conv2d(WIDTH, 4, 1)
        self.build()

    def build(self) -> None:
        """Make what `middle` needs."""

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        """The pattern: [N, stem_width, H, W] -> [N, given, H, W]."""
        return y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(F.relu(self.body(self.middle(self.stem(x)))))
