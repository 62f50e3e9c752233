"""Channels that are split, sliced, shuffled, and put together again."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

from tests.bench.structure.patterns.base import Net, pattern


@pattern("exact")
class ChunkedInTwo(Net):
    given = 8

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        a, b = y.chunk(2, 1)
        return F.relu(a) * torch.sigmoid(b)


@pattern("exact")
class GluModule(Net):
    given = 8

    def build(self) -> None:
        self.glu = nn.GLU(1)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return self.glu(y)


@pattern("exact")
class GluFunction(Net):
    given = 8

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.glu(y, dim=1)


@pattern("part", 0.7)
class SplitByLiteral(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        a, b = torch.split(F.relu(y), 8, 1)
        return torch.cat([a, b.square()], 1)


@pattern("part", 0.7)
class SplitBySizesOfAnAttribute(Net):
    """The sizes are the network's own numbers, which nobody but its author can change."""

    def build(self) -> None:
        self.sizes = [4, 12]

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        a, b = torch.split(F.relu(y), self.sizes, 1)
        return torch.cat([a.square(), b], 1)


@pattern("part", 0.7)
class SliceByLiteral(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        y = F.relu(y)
        return torch.cat([y[:, :6].square(), y[:, 6:]], 1)


@pattern("part", 0.7)
class SliceByAttribute(Net):
    def build(self) -> None:
        self.part = 6

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        y = F.relu(y)
        return torch.cat([y[:, : self.part].square(), y[:, self.part :]], 1)


@pattern("exact")
class SliceByHalfOfItsWidth(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        y, half = F.relu(y), y.shape[1] // 2
        return torch.cat([y[:, :half].square(), y[:, half:]], 1)


@pattern("exact")
class SliceThatTakesAll(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(y)[:, :][:, 0:]


@pattern("part", 0.7)
class PartialConvolution(Net):
    """FasterNet: only the first quarter is convolved, its size an attribute."""

    def build(self) -> None:
        self.dim = 4
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        a, b = torch.split(y, [self.dim, 12], dim=1)
        return torch.cat([F.relu(self.conv(a)), b], 1)


@pattern("part", 0.6)
class Res2Net(nn.Module):
    """Parts of a width that is an attribute, each added to the next."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.width = nn.Conv2d(3, 16, 3, padding=1), 8
        self.first = nn.Conv2d(16, 32, 1)
        self.convs = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
        self.last, self.body, self.head = nn.Conv2d(32, 16, 1), nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x))
        parts = torch.split(F.relu(self.first(x)), self.width, 1)
        y, made = parts[0], []
        for i, conv in enumerate(self.convs):
            y = F.relu(conv(y if i == 0 else y + parts[i]))
            made.append(y)
        x = F.relu(x + self.last(torch.cat([*made, parts[3]], 1)))
        return self.head(F.relu(self.body(x)))


class GhostModule(nn.Module):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.primary = nn.Sequential(nn.Conv2d(n_in, n_out // 2, 1), nn.BatchNorm2d(n_out // 2), nn.ReLU())
        self.cheap = nn.Sequential(nn.Conv2d(n_out // 2, n_out // 2, 3, padding=1, groups=n_out // 2), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.primary(x)
        return torch.cat([y, self.cheap(y)], 1)


@pattern("exact")
class Ghost(Net):
    def build(self) -> None:
        self.ghosts = nn.Sequential(GhostModule(16, 16), GhostModule(16, 16))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return self.ghosts(F.relu(y))


@pattern("part", 0.7)
class GhostCutToSize(Net):
    """GhostNet's own form: the concatenation is cut to a number of channels that is an attribute."""

    def build(self) -> None:
        self.ghost, self.out_channels = GhostModule(16, 18), 16

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return self.ghost(F.relu(y))[:, : self.out_channels, :, :]


@pattern("part", 0.65)
class MixedConvolution(Net):
    """MixConv: depthwise convolutions of other kernels on parts whose sizes are an attribute."""

    def build(self) -> None:
        self.splits = [6, 5, 5]
        self.convs = nn.ModuleList(
            nn.Conv2d(n, n, k, padding=k // 2, groups=n) for n, k in zip(self.splits, (3, 5, 7), strict=True)
        )

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        parts = torch.split(y, self.splits, 1)
        return F.relu(torch.cat([conv(part) for conv, part in zip(self.convs, parts, strict=True)], 1))


@pattern("part", 0.4)
class Distillation(nn.Module):
    """IMDN: a part of the channels is set aside after every convolution; the sizes are attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.kept, self.rest = nn.Conv2d(3, 16, 3, padding=1), 4, 12
        self.c1, self.c2 = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(12, 16, 3, padding=1)
        self.c3, self.last = nn.Conv2d(12, 4, 3, padding=1), nn.Conv2d(12, 16, 1)
        self.body, self.head = nn.Conv2d(16, 32, 3, padding=1), nn.Conv2d(32, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x))
        a, y = torch.split(F.relu(self.c1(x)), [self.kept, self.rest], 1)
        b, y = torch.split(F.relu(self.c2(y)), [self.kept, self.rest], 1)
        x = x + self.last(torch.cat([a, b, self.c3(y)], 1))
        return self.head(F.relu(self.body(x)))


@pattern("exact", 0.95)
class ChannelShuffleByView(Net):
    def build(self) -> None:
        self.grouped = nn.Conv2d(16, 16, 1, groups=2)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.grouped(F.relu(y)))
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


@pattern("exact", 0.95)
class ChannelShuffleModule(Net):
    def build(self) -> None:
        self.grouped, self.shuffle = nn.Conv2d(16, 16, 1, groups=2), nn.ChannelShuffle(2)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return self.shuffle(F.relu(self.grouped(F.relu(y))))


@pattern("exact", 0.8)
class ShuffleUnits(nn.Module):
    """ShuffleNetV2: half of the channels pass, half are convolved, then all are shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 4, 1)
        self.units = nn.ModuleList(
            nn.Sequential(nn.Conv2d(8, 12, 1), nn.ReLU(), nn.Conv2d(12, 8, 3, padding=1)) for _ in range(2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x))
        for unit in self.units:
            a, b = x.chunk(2, 1)
            x = torch.cat([a, F.relu(unit(b))], 1)
            n, c, h, w = x.shape
            x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(x)


@pattern("exact", 0.8)
class FlippedChannels(Net):
    """Channel i meets channel C-1-i: they go in pairs, or stay."""

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        y = F.relu(y)
        return y + torch.flip(y, (1,)).square()


@pattern("part", 0.7)
class RolledChannels(Net):
    """Channel i meets its neighbour, so that all are tied in a ring."""

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        y = F.relu(y)
        return y + torch.roll(y, 1, 1).square()


@pattern("part", 0.7)
class IndexedChannels(Net):
    """Channels are picked by a buffer of indices."""

    def build(self) -> None:
        self.register_buffer("order", torch.tensor([3, 1, 2, 0, 7, 6, 5, 4, 8, 9, 10, 11, 15, 14, 13, 12]))

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(y)[:, self.order]  # pyright: ignore


@pattern("part", 0.7)
class TemporalShift(Net):
    """TSM: fixed fractions of the channels move along another axis by assignment into a new tensor."""

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        fold = y.shape[1] // 4
        out = torch.zeros_like(y)
        out[:, :fold, 1:] = y[:, :fold, :-1]
        out[:, fold : 2 * fold, :-1] = y[:, fold : 2 * fold, 1:]
        out[:, 2 * fold :] = y[:, 2 * fold :]
        return F.relu(out)


@pattern("part", 0.7)
class AssignedChannels(Net):
    """A part of a tensor is overwritten in place."""

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        y = F.relu(y)
        y[:, :4] = y[:, :4] * 2 + 1
        return y


@pattern("exact")
class RepeatedChannels(Net):
    given = 32

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(y).repeat(1, 2, 1, 1)


@pattern("exact")
class InterleavedChannels(Net):
    given = 32

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(y).repeat_interleave(2, dim=1)


@pattern("exact")
class ConcatenatedWithItself(Net):
    """CReLU."""

    given = 32

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(torch.cat([y, -y], 1))


@pattern("exact")
class StackedAndSummed(Net):
    def build(self) -> None:
        self.other = nn.Conv2d(16, 16, 1)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.relu(torch.stack([y, self.other(y)], 0).sum(0) + torch.stack([y, self.other(y)], -1).amax(-1))


@pattern("exact")
class ZeroChannelsAround(Net):
    """Channels of zeros are put behind, and the reader's columns for them stay."""

    given = 20

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.pad(F.relu(y), (0, 0, 0, 0, 0, 4))


@pattern("exact")
class UnfoldAndFold(Net):
    def middle(self, y: torch.Tensor) -> torch.Tensor:
        columns = F.unfold(F.relu(y), 2, stride=2)
        return F.fold(columns, (8, 8), 2, stride=2)


@pattern("exact")
class UnfoldToChannels(Net):
    """Patches become channels, the k² of each channel side by side."""

    given = 64

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        n, c, h, w = y.shape
        return F.unfold(F.relu(y), 2, stride=2).view(n, 4 * c, h // 2, w // 2)


@pattern("exact")
class ChannelsLastLinear(Net):
    def build(self) -> None:
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return self.down(F.gelu(self.up(F.relu(y).permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)


@pattern("exact")
class TokensAndBack(Net):
    def build(self) -> None:
        self.mix = nn.Linear(16, 16)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        n, _, h, w = y.shape
        tokens = self.mix(F.relu(y).flatten(2).transpose(1, 2))
        return F.relu(tokens).transpose(1, 2).reshape(n, -1, h, w)


@pattern("exact", 0.8)
class FlattenedWithAnotherVector(nn.Module):
    """Features are flattened, joined with a pooled vector, and read by one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 8, 3, 2, 1)
        self.hidden, self.head = nn.Linear(8 * 16 + 16, 16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.stem(x))
        z = torch.cat([F.relu(self.body(y)).flatten(1), y.amax((2, 3))], 1)
        return self.head(F.relu(self.hidden(z)))
