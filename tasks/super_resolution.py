"""Super-resolution: L1 loss, PSNR and SSIM of the luma."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bench.errors import RequestError, unknown
from bench.interface.cell import Recipe
from bench.interface.own_network import FORMS, build_own, is_own, require_name, require_own
from bench.interface.task import DataInfo, Split, Splits
from bench.lazy import F, torch
from tasks.data.catalogue import DataSet, entry_of, lines
from tasks.data.normalise import Normalise, image_input, require_channels, require_normalise

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from bench.interface.record import Outcomes
    from tasks.data.patches import Photo

SCALES = (2, 3, 4)
MEAN = (0.4488, 0.4371, 0.4040)
"""Mean colour of DIV2K, which EDSR takes off: networks see and give value / 255 − MEAN."""
_VAL_SIDE = 192
DATASETS = {
    "photographs": DataSet("14 of scikit-image's photographs, 9 to train and 3 to test; embedded"),
    "bsd400": DataSet("BSDS500's training and test photographs, a folder BSD400", folders=("BSD400",)),
    "div2k": DataSet(
        "DIV2K's 800 training photographs, a folder DIV2K_train_HR",
        folders=("DIV2K_train_HR", "DIV2K/DIV2K_train_HR"),
    ),
    "folder:PATH": DataSet("any folder of images (absolute, or inside the data folder)"),
}
"""All that is known of a data set before it is read: a new folder of photographs is an entry here."""


@dataclass(frozen=True)
class SuperResolution:
    """Networks that map a small image [3, H, W] to [3, scale·H, scale·W]; values are value / 255 − MEAN on both sides,
    or (value / 255 − mean) / std as `normalise` says.

    MACs and latency are stated at a low-resolution input of `example_size`.
    """

    dataset: str
    model: str
    scale: int = 2
    """Factor of enlargement: 2, 3 or 4."""
    patch: int = 48
    """Side of a training patch in low-resolution pixels."""
    crops: int = 1
    """Random patches that an epoch takes of every training photograph."""
    test_set: str = ""
    """Folder of the test set (Set5, Set14, B100, Urban100); empty: Set5, or the embedded photographs' own."""
    train_size: int = 0
    """Use only this many training photographs; 0: all."""
    val_photos: int = 10
    """Photographs that are held out for validation, the last of the folder by name; embedded data has its own."""
    example_size: tuple[int, int] = (64, 64)
    """Height and width of the low-resolution input that MACs and latency are stated at."""
    model_args: dict[str, Any] | None = None
    """What a network of one's own is built with, by the names of its arguments."""
    normalise: Normalise | None = None
    """Mean and standard deviation of each channel of inputs and outputs, of pixel values from 0 to 1."""
    stream: bool | None = None
    """Leave the training photographs on disk and read them in other processes; none: where they would take more than
    6 GiB decoded, half of what may be held."""

    metric: ClassVar[str] = "psnr"
    unit: ClassVar[str] = "dB"
    higher_is_better: ClassVar[bool] = True
    recipe: ClassVar[Recipe] = Recipe(optimizer="adam", lr=1e-3, weight_decay=0.0, batch_size=16, precision="fp32")
    finetune: ClassVar[Recipe] = Recipe(optimizer="adam", lr=5e-4, weight_decay=0.0, batch_size=16, precision="fp32")
    trial: ClassVar[Mapping[str, Any]] = {"dataset": "photographs", "model": "edsr-tiny", "patch": 16}

    @classmethod
    def datasets(cls) -> Mapping[str, str]:
        return lines(DATASETS)

    @classmethod
    def models(cls) -> Mapping[str, str]:
        return {
            "edsr-baseline": "EDSR of 16 blocks of 64 channels, without norms (Lim et al.)",
            "edsr-tiny": "EDSR of 4 blocks of 16 channels",
            "srresnet": "16 blocks of 64 channels with BatchNorm and PReLU (Ledig et al.)",
            "PATH.py:NAME": "what NAME of a file of one's own builds; or package.module:NAME",
        }

    def validate(self) -> None:
        entry_of(DATASETS, self.dataset)
        require_name(self.model)
        if is_own(self.model):
            require_own(self.model, self.model_args)
        elif self.model_args is not None:
            raise RequestError(f"model_args is not allowed: {self.model!r} is not a network of your own ({FORMS})")
        elif self.model not in self.models():
            raise unknown("model", self.model, self.models())
        require_normalise(self.normalise)
        require_channels(self.normalise, 3, self.dataset)
        if self.scale not in SCALES:
            raise RequestError(f"scale = {self.scale} is not allowed; use {', '.join(map(str, SCALES))}")
        if not 8 <= self.patch <= 256:
            raise RequestError(f"patch = {self.patch} is not allowed; use 8 to 256 low-resolution pixels")
        if self.crops < 1:
            raise RequestError(f"crops = {self.crops} is not allowed; use 1 or more")
        if self.train_size < 0:
            raise RequestError(f"train_size = {self.train_size} is not allowed; use a positive count, or 0 for all")
        if self.val_photos < 1:
            raise RequestError(f"val_photos = {self.val_photos} is not allowed; use 1 or more")
        if min(self.example_size) < 8 or max(self.example_size) > 4096:
            raise RequestError(f"example_size = {list(self.example_size)} is not allowed; use sides of 8 to 4096")
        if self.dataset == "photographs" and self.test_set:
            raise RequestError(f"test_set = {self.test_set!r} is not allowed: 'photographs' has a test set of its own")
        if self.dataset == "photographs" and self.stream:
            raise RequestError("stream = true is not allowed: 'photographs' are 14, and held in memory")

    def load(self, root: Path | None, *, download: bool = False) -> Splits:
        from tasks.data import pairs, photographs

        if self.dataset == "photographs":
            train = pairs.read_embedded(photographs.TRAIN, self.scale)
            val = pairs.read_embedded(photographs.VAL, self.scale)
            test = pairs.read_embedded(photographs.TEST, self.scale)
            if self.train_size > len(train):
                raise self._too_few(len(train))
            train = train[: self.train_size or None]
            small = next((p.name for p in train if min(p.low.shape[:2]) < self.patch), None)
            if small is not None:
                raise RequestError(f"patch = {self.patch} is not allowed: {small} is smaller at ×{self.scale}")
            return self._splits(train, val, test, "the embedded test photographs")
        files = self._files(root)
        if self.val_photos + max(1, self.train_size) > len(files):
            raise self._too_few(len(files) - self.val_photos)
        kept, held = files[: -self.val_photos][: self.train_size or None], files[-self.val_photos :]
        streamed = self._streams(kept)
        train = [] if streamed else pairs.read_folder(kept, self.scale, self.patch)
        val = pairs.read_folder(held, self.scale, self.patch)
        name = self.test_set or "Set5"
        folder = pairs.find_folder(root, (name,), f"test set {name!r}")
        splits = self._splits(train, val, pairs.read_test_set(folder, self.scale), name)
        return self._with_streamed(splits, kept, held, folder) if streamed else splits

    def _splits(self, train: Sequence[Photo], val: Sequence[Photo], test: Sequence[Photo], name: str) -> Splits:
        """The splits of photographs in memory; `name` is the test set's."""
        from tasks.data import pairs
        from tasks.data.content import fingerprint
        from tasks.data.patches import PatchSplit, WholeSplit

        pairs.refuse_shared({"training": train, "validation": val, "test": test})
        for part, photos in (("validation", val), ("test", test)):
            pairs.refuse_small(photos, self.scale, part)
        mean, std = self._statistics
        centres = [pairs.centre(photo, self.scale, _VAL_SIDE) for photo in val]
        return Splits(
            train=PatchSplit(train, scale=self.scale, patch=self.patch, crops=self.crops, mean=mean, std=std),
            val=WholeSplit(centres, mean=mean, std=std),
            test=lambda: WholeSplit(test, mean=mean, std=std),
            info=DataInfo(3, *self.example_size),
            fingerprint=fingerprint(*(array for photo in (*train, *centres, *test) for array in photo.arrays)),
            notes=(f"{self.dataset}: tested on {name}, ×{self.scale}",),
        )

    def _with_streamed(self, splits: Splits, kept: Sequence[Path], held: Sequence[Path], test: Path) -> Splits:
        """The same splits with training photographs that stay on disk."""
        from tasks.data.patch_streams import check_photos, streamed_patches

        table, fingerprint, compared = check_photos(kept, held, test, splits.fingerprint)
        return dataclasses.replace(
            splits,
            train=streamed_patches(table, self.scale, self.patch, self.crops, *self._statistics),
            fingerprint=fingerprint,
            notes=(*splits.notes, *(f"{self.dataset}: {note}" for note in ("streamed", *compared))),
        )

    def _streams(self, files: Sequence[Path]) -> bool:
        """Whether the training photographs stay on disk. Each one's size is read, so that none is too small.

        Raises:
            DataError: one is unreadable, or smaller than a patch.
        """
        from tasks.data.decode import MEMORY_LIMIT
        from tasks.data.pairs import decoded_bytes

        if self.stream is False:
            return False
        need = decoded_bytes(files, self.scale, self.patch)
        return need > MEMORY_LIMIT / 2 if self.stream is None else self.stream

    def _files(self, root: Path | None) -> list[Path]:
        from tasks.data.listing import list_images
        from tasks.data.pairs import find_folder

        folders = entry_of(DATASETS, self.dataset).folders
        if folders:
            folder = find_folder(root, folders, f"data set {self.dataset!r}")
        else:
            folder = (root or Path()) / self.dataset.removeprefix("folder:")
        return list_images(folder, "the training photographs, one file each")

    def _too_few(self, count: int) -> RequestError:
        return RequestError(
            f"train_size = {self.train_size} with val_photos = {self.val_photos} is not allowed for {self.dataset}: "
            f"{max(0, count)} training photographs are left beside the validation split"
        )

    @property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of each channel, of pixel values from 0 to 1."""
        if self.normalise is None:
            return MEAN, (1.0, 1.0, 1.0)
        return self.normalise["mean"], self.normalise["std"]

    def deployment(self, info: DataInfo) -> dict[str, Any]:
        """How an image becomes the input, and what the output is."""
        mean, std = self._statistics
        return {
            "input": image_input(
                info, {"mean": list(mean), "std": list(std)}, "none: an image of any size is enlarged"
            ),
            "output": f"N, channels, {self.scale}·height, {self.scale}·width: pixel = 255 · (value · std + mean)",
            "scale": self.scale,
        }

    def network(self, info: DataInfo) -> nn.Module:
        if is_own(self.model):
            return build_own(self.model, self.model_args)
        from tasks.models.edsr import sr_network

        return sr_network(self.model, self.scale, info.channels)

    def output_shape(self, shape: Sequence[int], info: DataInfo) -> tuple[int, ...]:
        """The image, enlarged."""
        n, channels, height, width = shape
        return n, channels, self.scale * height, self.scale * width

    def example(self, info: DataInfo) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.rand(1, info.channels, info.height, info.width, generator=generator) - 0.5

    def loss(self, output: Any, target: Tensor, recipe: Recipe) -> Tensor:
        return F.l1_loss(output.float(), target)

    def distil(self, output: Any, teacher: Any, target: Tensor, recipe: Recipe) -> Tensor:
        """L1 against the photograph and against the teacher's output, half of each."""
        return 0.5 * self.loss(output, target, recipe) + 0.5 * F.l1_loss(output.float(), teacher.float())

    def evaluate(self, model: nn.Module, split: Split, device: torch.device, recipe: Recipe) -> dict[str, float]:
        """Mean over photographs of PSNR (dB) and SSIM of the luma, `scale` pixels of the border left out.

        Computed in fp32 whatever the recipe's precision: an output in bf16 is off by up to a grey level.
        """
        return self.evaluate_samples(model, split, device, recipe)[0]

    def evaluate_samples(
        self, model: nn.Module, split: Split, device: torch.device, recipe: Recipe
    ) -> tuple[dict[str, float], Outcomes]:
        """`evaluate`, and the PSNR of every photograph."""
        from bench.interface.outcomes import packed
        from bench.training.evaluate import evaluate_batches

        exact = recipe.model_copy(update={"precision": "fp32"})
        scores = [
            self._score(self._pixels(output), self._truth(target))
            for output, target in evaluate_batches(model, split, device, exact, batch_size=1)
            for output, target in zip(output, target, strict=True)
        ]
        return self._mean(scores), packed("mean", [score["psnr"] for score in scores])

    def _pixels(self, values: Tensor) -> np.ndarray:
        return to_pixels(values, *self._statistics)

    def _truth(self, target: Tensor) -> np.ndarray:
        """The photograph [H, W, 1 or 3] behind a target [1 or 3, H, W]."""
        return (
            self._pixels(target) if len(target) == 3 else (target * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        )

    def _score(self, image: np.ndarray, truth: np.ndarray) -> dict[str, float]:
        from tasks.data.luma import luma_of, psnr, ssim

        inner = (slice(self.scale, -self.scale), slice(self.scale, -self.scale))
        a, b = luma_of(image, grey=truth.shape[2] == 1)[inner], luma_of(truth)[inner]
        return {"psnr": psnr(a, b), "ssim": ssim(a, b)}

    def _mean(self, scores: list[dict[str, float]]) -> dict[str, float]:
        if not scores:
            raise RequestError(f"a split of {self.dataset} is empty: there is nothing to evaluate on")
        return {name: sum(score[name] for score in scores) / len(scores) for name in scores[0]}

    def references(self, splits: Splits, test: Split) -> dict[str, dict[str, float]]:
        """The figures of bicubic interpolation."""
        scores = [
            self._score(self._bicubic(low[0]), self._truth(high[0]))
            for low, high in test.ordered(1, torch.device("cpu"))
        ]
        return {"bicubic": self._mean(scores)}

    def _bicubic(self, low: Tensor) -> np.ndarray:
        from tasks.data.bicubic import resize

        return resize(self._pixels(low), self.scale)

    def pictures(
        self, networks: Mapping[str, nn.Module], test: Split, folder: Path, device: torch.device, recipe: Recipe
    ) -> list[str]:
        """One strip for each of the first three test photographs: the crop richest in detail, and PSNR."""
        from bench.training.evaluate import evaluate_batches
        from tasks.data.luma import luma_of
        from tasks.data.strips import busiest, save_strip

        exact = recipe.model_copy(update={"precision": "fp32"})
        shown = list(itertools.islice(test.ordered(1, torch.device("cpu")), 3))
        outputs = {name: _first(evaluate_batches(m, test, device, exact, 1), 3) for name, m in networks.items()}
        names = []
        for index, (low, high) in enumerate(shown):
            truth = self._truth(high[0])
            images = {"bicubic": self._bicubic(low[0])}
            images |= {name: self._pixels(results[index][0]) for name, results in outputs.items()}
            crop = busiest(luma_of(truth), 96)
            panels = [(truth[crop], "HR")]
            for name, image in images.items():
                shot = _as_grey(image) if truth.shape[2] == 1 else image
                panels.append((shot[crop], f"{name} {self._score(image, truth)['psnr']:.2f} dB"))
            names.append(f"sample-{index + 1}.png")
            save_strip(panels, folder / names[-1], enlarge=2)
        return names


def to_pixels(values: Tensor, mean: Sequence[float] = MEAN, std: Sequence[float] = (1.0, 1.0, 1.0)) -> np.ndarray:
    """What networks see and give, [3, H, W] -> uint8 [H, W, 3]."""
    shift, factor = (torch.tensor(given, device=values.device)[:, None, None] for given in (mean, std))
    return ((values.float() * factor + shift) * 255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()


def _as_grey(image: np.ndarray) -> np.ndarray:
    from tasks.data.luma import luma_of

    return luma_of(image, grey=True).round().clip(0, 255).astype("uint8")[..., None]


def _first(stream: Any, count: int) -> list[Any]:
    """The outputs of the first `count` batches; the rest is not computed."""
    results = [output for _, (output, _) in zip(range(count), stream, strict=False)]
    stream.close()
    return results
