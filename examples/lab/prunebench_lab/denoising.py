"""Denoising: networks take white Gaussian noise of one known strength off grey photographs.

The networks are DnCNN (Zhang et al., "Beyond a Gaussian Denoiser", IEEE TIP 2017, arXiv 1608.03981): convolutions with
norms that estimate the noise, section III-B; what they give is the image without it. The photographs are those that
scikit-image has in its wheel, cut into tiles; no tile of one photograph stands in two splits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from bench.errors import unknown
from bench.interface.cell import Recipe
from bench.interface.task import DataInfo, Split, Splits
from bench.lazy import F, nn, no_grad, torch

if TYPE_CHECKING:
    from torch import Tensor

DATASETS = {"photographs": "tiles of photographs that scikit-image ships, in grey; embedded"}
MODELS = {"dncnn": "17 layers of 64 channels (section III-B)", "dncnn-tiny": "6 layers of 16 channels"}
SIZES = {"dncnn": (17, 64), "dncnn-tiny": (6, 16)}
PEAK = 255.0


class Tiles:
    """Grey tiles [N, 1, H, W] with values from 0 to 1, and the same with the noise that `ordered` gives."""

    def __init__(self, clean: Tensor, noisy: Tensor, sigma: float) -> None:
        self.clean, self.noisy, self.sigma = clean, noisy, sigma

    def __len__(self) -> int:
        return len(self.clean)

    def batches(
        self, batch_size: int, *, seed: int, epoch: int, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Tiles in a new order, mirrored at random, under noise that is drawn anew."""
        random = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
        order = torch.randperm(len(self), generator=random)
        for start in range(0, len(self) - batch_size + 1, batch_size):
            clean = self.clean[order[start : start + batch_size]]
            mirrored = torch.rand(batch_size, 1, 1, 1, generator=random) < 0.5
            clean = torch.where(mirrored, clean.flip(3), clean)
            yield with_noise(clean, self.sigma, random).to(device), clean.to(device)

    def ordered(self, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        for index in torch.arange(len(self)).split(batch_size):
            yield self.noisy[index].to(device), self.clean[index].to(device)

    def halves(self, seed: int) -> tuple[Tiles, Tiles]:
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        one, other = order[: len(self) // 2], order[len(self) // 2 :]
        return tuple(Tiles(self.clean[i], self.noisy[i], self.sigma) for i in (one, other))  # pyright: ignore


def with_noise(clean: Tensor, sigma: float, random: torch.Generator) -> Tensor:
    """Add noise of standard deviation `sigma`, in steps of 255."""
    return clean + sigma / PEAK * torch.randn(clean.shape, generator=random)


def tiles_of(names: Sequence[str], count: int, side: int, sigma: float, seed: int) -> Tiles:
    """`count` tiles of `side`×`side` pixels, spread evenly over a grid on these photographs.

    Args:
        seed: of the noise that stays.
    """
    import numpy as np

    from tasks.data.photographs import read_photograph

    cut: list[np.ndarray] = []
    for name in names:
        grey = read_photograph(name).astype("float32").mean(2) / PEAK
        rows, columns = (length // side for length in grey.shape)
        grid = grey[: rows * side, : columns * side].reshape(rows, side, columns, side).swapaxes(1, 2)
        cut.append(grid.reshape(-1, side, side))
    grid = np.concatenate(cut)
    chosen = np.linspace(0, len(grid) - 1, min(count, len(grid))).round().astype(int)
    clean = torch.from_numpy(grid[chosen][:, None].copy())
    return Tiles(clean, with_noise(clean, sigma, torch.Generator().manual_seed(seed)), sigma)


def psnr(given: Tensor, clean: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB, [N, 1, H, W] -> [N]; values are clipped to 0 … 1 before."""
    error = (given.float().clamp(0, 1) - clean).square().mean((1, 2, 3))
    return -10 * error.clamp_min(1e-10).log10()


@dataclass(frozen=True)
class Denoising:
    """Networks that map a noisy image [N, 1, H, W] to the clean one, of any size."""

    dataset: str
    model: str
    sigma: Annotated[float, Field(gt=0, le=PEAK)] = 25.0
    """Standard deviation of the noise, in steps of 255."""
    side: Annotated[int, Field(ge=8, le=128)] = 32
    """Height and width of a tile in pixels; MACs and latency are stated at this size."""
    train_size: Annotated[int, Field(ge=4)] = 512
    """Tiles of the training split."""

    metric: ClassVar[str] = "psnr"
    unit: ClassVar[str] = "dB"
    higher_is_better: ClassVar[bool] = True
    recipe: ClassVar[Recipe] = Recipe(optimizer="adam", lr=2e-3, weight_decay=0.0, batch_size=32)
    finetune: ClassVar[Recipe] = Recipe(optimizer="adam", lr=2e-4, weight_decay=0.0, batch_size=32)
    trial: ClassVar[Mapping[str, Any]] = {
        "dataset": "photographs", "model": "dncnn-tiny", "side": 16, "train_size": 64,
    }  # fmt: skip

    @classmethod
    def datasets(cls) -> Mapping[str, str]:
        return DATASETS

    @classmethod
    def models(cls) -> Mapping[str, str]:
        return MODELS

    def validate(self) -> None:
        if self.dataset not in DATASETS:
            raise unknown("data set", self.dataset, DATASETS)
        if self.model not in MODELS:
            raise unknown("model", self.model, MODELS)

    def load(self, root: Path | None, *, download: bool = False) -> Splits:
        from tasks.data.photographs import TEST, TRAIN, VAL

        train = tiles_of(TRAIN, self.train_size, self.side, self.sigma, seed=0)
        val = tiles_of(VAL, 64, self.side, self.sigma, seed=1)
        test = tiles_of(TEST, 128, self.side, self.sigma, seed=2)
        stored = b"".join(t.numpy().tobytes() for s in (train, val, test) for t in (s.clean, s.noisy))
        fingerprint = hashlib.sha256(stored).hexdigest()[:16]
        return Splits(train, val, lambda: test, DataInfo(1, self.side, self.side), fingerprint)

    def network(self, info: DataInfo) -> nn.Module:
        from prunebench_lab.dncnn import DnCNN

        return DnCNN(*SIZES[self.model], info.channels)

    def example(self, info: DataInfo) -> Tensor:
        return torch.zeros(1, info.channels, info.height, info.width)

    def loss(self, output: Any, target: Tensor, recipe: Recipe) -> Tensor:
        return F.mse_loss(output.float(), target)

    def distil(self, output: Any, teacher: Any, target: Tensor, recipe: Recipe) -> Tensor:
        return F.mse_loss(output.float(), teacher.float())

    @no_grad
    def evaluate(self, model: nn.Module, split: Split, device: torch.device, recipe: Recipe) -> dict[str, float]:
        model.to(device).eval()
        found = [psnr(model(x), y) for x, y in split.ordered(recipe.batch_size, device)]
        return {self.metric: float(torch.cat(found).mean())}

    def references(self, splits: Splits, test: Split) -> dict[str, dict[str, float]]:
        found = [psnr(x, y) for x, y in test.ordered(64, torch.device("cpu"))]
        return {"noisy image": {self.metric: float(torch.cat(found).mean())}}

    def deployment(self, info: DataInfo) -> dict[str, Any]:
        return {
            "input": {"layout": "N, 1, height, width; float32", "values": "pixel / 255", "noise_sigma": self.sigma},
            "output": "N, 1, height, width: the image without noise; pixel = 255 · value",
        }

    @no_grad
    def pictures(
        self, networks: Mapping[str, nn.Module], test: Split, folder: Path, device: torch.device, recipe: Recipe
    ) -> list[str]:
        """The tile of the test split with the most contrast: clean, noisy, and as each network leaves it."""
        from tasks.data.strips import save_strip

        pairs = list(test.ordered(1, device))
        noisy, clean = max(pairs, key=lambda pair: float(pair[1].std()))
        images = {"clean": clean, "noisy": noisy}
        images |= {name: model.to(device).eval()(noisy) for name, model in networks.items()}
        panels = []
        for name, image in images.items():
            pixels = (image[0].float().clamp(0, 1) * PEAK).round().byte().permute(1, 2, 0).cpu().numpy()
            panels.append((pixels, name if name == "clean" else f"{name} {float(psnr(image, clean)):.1f} dB"))
        save_strip(panels, folder / "sample-1.png", enlarge=5)
        return ["sample-1.png"]
