"""Semantic segmentation: cross-entropy (and Dice), mean intersection over union."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from bench.errors import RequestError, did_you_mean, reason_of, unknown
from bench.interface.cell import Recipe
from bench.interface.own_network import FORMS, build_own, is_own, require_name, require_own
from bench.interface.task import DataInfo, Split, Splits
from bench.lazy import F, torch
from tasks.data.catalogue import DataSet, entry_of, lines
from tasks.data.normalise import (
    IMAGENET,
    Normalise,
    image_input,
    in_bytes,
    in_units,
    require_channels,
    require_normalise,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bench.interface.record import Outcomes
    from tasks.data.masked import MaskedSplit
    from tasks.data.segmented import Files, Pairs
    from tasks.data.streamed import Streamed

VOID = 255
"""As in `tasks.data.masked`, which needs torch."""
_ARCHITECTURES = (
    "unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "deeplabv3", "deeplabv3plus", "pan", "upernet",
    "segformer", "dpt",
)  # fmt: skip
DATASETS = {
    "scattered-digits": DataSet(
        "handwritten digits on photographs, 10 classes and background; embedded", size=(64, 64)
    ),
    "camvid": DataSet(
        "CamVid, 11 classes of street scenes, in SegNet's layout", "tasks.data.segmented:find_camvid", (352, 480)
    ),
    "voc2012": DataSet(
        "Pascal VOC 2012, 21 classes, in torchvision's layout", "tasks.data.segmented:find_voc", (320, 320)
    ),
    "oxford-pet": DataSet(
        "Oxford-IIIT Pet, pet and background, in torchvision's layout", "tasks.data.segmented:find_pet", (192, 192)
    ),
    "folder:PATH": DataSet(
        "train/images, train/masks, test/images, test/masks below PATH (absolute, or inside the data folder); classes "
        "and void are options",
        "tasks.data.segmented:find_folder",
        (256, 256),
    ),
}
"""All that is known of a data set before it is read: a new one is an entry here and a function that finds its files.
Scattered digits are not read but made."""


@dataclass(frozen=True)
class Segmentation:
    """Networks that map an image [3, H, W] to logits [classes, H, W].

    Colours are brought to ImageNet's mean and deviation. Masks are resized with the images, so figures are those of the
    size in `image_size`.
    """

    dataset: str
    model: str
    image_size: tuple[int, int] = (0, 0)
    """Height and width, multiples of 32; 0, 0: the data set's own (scattered-digits 64×64, camvid 352×480,
    voc2012 320×320, oxford-pet 192×192, a folder 256×256)."""
    train_size: int = 0
    """Use only this many training images; 0: all (of scattered-digits: 400)."""
    test_size: int = 0
    """Images that scattered-digits makes for the test split; 0: 200. The other data sets have their own."""
    val_fraction: float = 0.1
    """Share of the training images that is held out, where a data set has no validation split of its own."""
    zoom: float = 1.5
    """Training shows rectangles of 1 / zoom to 1 of an image's sides; 1: whole images only."""
    dice: float = 0.0
    """Weight of the Dice loss that is added to cross-entropy."""
    encoder_weights: str = ""
    """Weights that the encoder starts from ("imagenet"); they are fetched by the library on first use."""
    classes: tuple[str, ...] | None = None
    """Names of the classes of a folder of one's own: label i of its masks is class i."""
    void: int | tuple[int, ...] | None = None
    """Labels of its masks that neither train nor count."""
    model_args: dict[str, Any] | None = None
    """What a network of one's own is built with, by the names of its arguments."""
    normalise: Normalise | None = None
    """Mean and standard deviation of each channel, of pixel values from 0 to 1, in place of ImageNet's."""
    stream: bool | None = None
    """Leave the images on disk and read them in other processes; none: where they would take more than 12 GiB of
    memory."""

    metric: ClassVar[str] = "miou"
    unit: ClassVar[str] = "%"
    higher_is_better: ClassVar[bool] = True
    recipe: ClassVar[Recipe] = Recipe(optimizer="adam", lr=1e-3, weight_decay=0.0, batch_size=16, warmup_epochs=0.5)
    finetune: ClassVar[Recipe] = Recipe(optimizer="adam", lr=5e-4, weight_decay=0.0, batch_size=16)
    trial: ClassVar[Mapping[str, Any]] = {
        "dataset": "scattered-digits",
        "model": "smp:unet/tu-test_resnet",
        "train_size": 20,
        "test_size": 10,
    }

    @classmethod
    def datasets(cls) -> Mapping[str, str]:
        return lines(DATASETS)

    @classmethod
    def models(cls) -> Mapping[str, str]:
        return {
            "smp:ARCH/ENCODER": f"segmentation-models-pytorch: {', '.join(_ARCHITECTURES)} with any of its encoders",
            "PATH.py:NAME": "what NAME of a file of one's own builds; or package.module:NAME",
        }

    def validate(self) -> None:
        entry_of(DATASETS, self.dataset)
        self._validate_model()
        require_normalise(self.normalise)
        require_channels(self.normalise, 3, self.dataset)
        if any(self.image_size) and any(side % 32 or not 32 <= side <= 2048 for side in self.image_size):
            raise RequestError(
                f"image_size = {list(self.image_size)} is not allowed; use height and width in multiples of 32 up to "
                "2048, or [0, 0] for the default"
            )
        for name in ("train_size", "test_size"):
            if getattr(self, name) < 0:
                raise RequestError(f"{name} = {getattr(self, name)} is not allowed; use a positive count, or 0")
        if self.test_size and self.dataset != "scattered-digits":
            raise RequestError(
                f"test_size = {self.test_size} is not allowed: {self.dataset} has a test split of its own"
            )
        if not 0 < self.val_fraction < 1:
            raise RequestError(f"val_fraction = {self.val_fraction} is not allowed; use a fraction between 0 and 1")
        if not 1 <= self.zoom <= 8:
            raise RequestError(f"zoom = {self.zoom} is not allowed; use 1 to 8")
        if not 0 <= self.dice <= 100:
            raise RequestError(f"dice = {self.dice} is not allowed; use 0 to 100")
        if self.stream and self.dataset == "scattered-digits":
            raise RequestError(f"stream = true is not allowed: the images of {self.dataset} are made, and in memory")
        self._validate_labels()

    def _validate_model(self) -> None:
        """Refuse a network that cannot be had by such a name, and options that do not go with it."""
        require_name(self.model)
        if is_own(self.model):
            require_own(self.model, self.model_args)
            if self.encoder_weights:
                raise RequestError(f"encoder_weights is not allowed: {self.model!r} is a network of your own")
            return
        if self.model_args is not None:
            raise RequestError(f"model_args is not allowed: {self.model!r} is not a network of your own ({FORMS})")
        match = re.fullmatch(r"smp:([^/]+)/(.+)", self.model)
        if match is None or self.model == "smp:ARCH/ENCODER":
            raise RequestError(
                f"unknown model {self.model!r}; write smp:ARCH/ENCODER, for instance smp:unet/resnet18, or a network "
                f"of your own ({FORMS})"
            )
        if match[1] not in _ARCHITECTURES:
            raise unknown("architecture", match[1], _ARCHITECTURES)

    @property
    def _own(self) -> bool:
        """Whether the data set is a folder of the user's."""
        return self.dataset.startswith("folder:")

    @property
    def _void(self) -> tuple[int, ...]:
        return () if self.void is None else (self.void,) if isinstance(self.void, int) else self.void

    def _validate_labels(self) -> None:
        """Refuse classes and void labels that are missing, impossible or given for another data set."""
        if not self._own:
            given = next((name for name in ("classes", "void") if getattr(self, name) is not None), None)
            if given is not None:
                raise RequestError(f"{given} is not allowed: {self.dataset} has classes and void labels of its own")
            return
        if self.classes is None:
            raise RequestError(
                f'dataset {self.dataset!r} needs classes = ["…", …], their names in the order of the label values'
            )
        if not 2 <= len(self.classes) <= VOID:
            raise RequestError(f"classes has {len(self.classes)} names; use 2 to {VOID}")
        odd = next((name for name in self.classes if not re.fullmatch(r"\w[\w .-]{,99}", name)), None)
        if odd is not None:
            raise RequestError(f"classes holds {odd!r}; use up to 100 letters, digits, spaces, '_', '-' and '.'")
        if len(set(self.classes)) < len(self.classes):
            twice = next(name for name in self.classes if self.classes.count(name) > 1)
            raise RequestError(f"classes holds {twice!r} twice; use a name once")
        for label in self._void:
            if not 0 <= label <= 65535:
                raise RequestError(f"void = {label} is not allowed; use label values of 0 to 65535")
            if label < len(self.classes):
                raise RequestError(f"void = {label} is not allowed: it is the label of class {self.classes[label]!r}")

    def load(self, root: Path | None, *, download: bool = False) -> Splits:
        from tasks.data import scattered
        from tasks.data.content import fingerprint
        from tasks.data.segmented import read_pairs

        height, width = size = self.image_size if any(self.image_size) else entry_of(DATASETS, self.dataset).size
        made, notes = self.dataset == "scattered-digits", ()
        if made:
            counts = {"train": self.train_size or 400, "val": 100, "test": self.test_size or 200}
            arrays = {part: scattered.scatter(part, count, height, width) for part, count in counts.items()}
            classes = scattered.CLASSES
        else:
            files = self._files(root, download=download)
            parts = self._parts(files)
            if self._streams(parts, size):
                return self._streamed(files, parts, size)
            arrays, copies = read_pairs(files, parts, height, width)
            classes = files.classes
            left_out = f", {copies} images left out that stand in another part as well" if copies else ""
            notes = (f"{self.dataset}: images and masks resized to {height}×{width}{left_out}",)
        split = self._split(arrays["train"], classes, zoom=self.zoom, flip=not made)
        return Splits(
            train=split,
            val=self._split(arrays["val"], classes),
            test=lambda: self._split(arrays["test"], classes),
            info=DataInfo(3, height, width, classes),
            fingerprint=fingerprint(*(array for part in scattered.PARTS for array in arrays[part])),
            notes=notes,
        )

    def _streams(self, parts: Mapping[str, Pairs], size: tuple[int, int]) -> bool:
        """Whether the images stay on disk."""
        from tasks.data.masked_streams import fits

        return not fits(parts, *size) if self.stream is None else self.stream

    def _streamed(self, files: Files, parts: Mapping[str, Pairs], size: tuple[int, int]) -> Splits:
        """The splits of a data set that stays on disk."""
        from tasks.data.masked_streams import check_pairs

        checked = check_pairs(files, parts)
        notes = ("images and masks resized to {}×{}".format(*size), "streamed", *checked.notes)
        return Splits(
            train=checked.split("train", size, self._statistics, zoom=self.zoom, flip=True),
            val=checked.split("val", size, self._statistics),
            test=lambda: checked.split("test", size, self._statistics),
            info=DataInfo(3, *size, files.classes),
            fingerprint=checked.fingerprint,
            notes=tuple(f"{self.dataset}: {note}" for note in notes),
        )

    def _parts(self, files: Files) -> dict[str, Pairs]:
        """Images and masks of each part, as files."""
        import numpy as np

        train, val = files.train, files.val
        if val is None:
            order = np.random.default_rng(0).permutation(len(train))
            held = min(max(1, round(self.val_fraction * len(train))), len(train) - 1)
            if not held:
                raise RequestError(
                    f"{self.dataset} has 1 training image; two are needed, since one is held out for validation"
                )
            train, val = ([train[i] for i in np.sort(part)] for part in (order[held:], order[:held]))
        if self.train_size > len(train):
            raise RequestError(
                f"train_size = {self.train_size} is not allowed for {self.dataset}: {len(train)} training images "
                "are left beside the validation split"
            )
        if self.train_size:
            order = np.random.default_rng(1).permutation(len(train))[: self.train_size]
            train = [train[i] for i in np.sort(order)]
        return {"train": train, "val": val, "test": files.test}

    def _files(self, root: Path | None, *, download: bool) -> Files:
        entry = entry_of(DATASETS, self.dataset)
        if self._own:
            return entry.read((root or Path()) / self.dataset.removeprefix("folder:"), self.classes, self._void)
        return entry.read(root, download=download)

    def _split(
        self, arrays: tuple[Any, Any], classes: tuple[str, ...], *, zoom: float = 1.0, flip: bool = False
    ) -> MaskedSplit:
        from tasks.data.masked import MaskedSplit

        images, masks = (torch.from_numpy(array) for array in arrays)
        mean, std = self._statistics
        return MaskedSplit(images, masks, mean=mean, std=std, zoom=zoom, flip=flip, classes=classes)

    @property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of each channel, of pixel values from 0 to 255."""
        return in_bytes(self.normalise) if self.normalise is not None else IMAGENET

    def untrained(self) -> Segmentation:
        """The same, with a network for which nothing is fetched."""
        return dataclasses.replace(self, encoder_weights="")

    def deployment(self, info: DataInfo) -> dict[str, Any]:
        """How an image becomes the input, and what the outputs are."""
        resize = "bilinear, antialiased, so that the image covers height × width; its middle is cut out"
        if self.dataset == "scattered-digits":
            resize = "none: images are made at this size"
        return {
            "input": image_input(info, in_units(*self._statistics), resize),
            "output": "N, classes, height, width: logits of each pixel; the largest is its class",
            "classes": list(info.classes),
        }

    def network(self, info: DataInfo) -> nn.Module:
        if is_own(self.model):
            return build_own(self.model, self.model_args)
        import segmentation_models_pytorch as smp

        arch, _, encoder = self.model.removeprefix("smp:").partition("/")
        try:
            self._require_encoder(encoder, smp.encoders.get_encoder_names())
            return smp.create_model(
                arch,
                encoder_name=encoder,
                encoder_weights=self.encoder_weights or None,
                in_channels=info.channels,
                classes=len(info.classes),
            )
        except RequestError as error:
            raise RequestError(f"segmentation-models-pytorch cannot build {self.model!r}: {error}") from error
        except Exception as error:  # whatever a library raises: not every architecture takes every encoder
            raise RequestError(
                f"segmentation-models-pytorch cannot build {self.model!r}: {reason_of(error)}"
            ) from error

    def _require_encoder(self, encoder: str, known: Sequence[str]) -> None:
        """Refuse an encoder that neither segmentation-models-pytorch nor, behind `tu-`, timm has."""
        from tasks.models.fetched import require_smp_weights, require_timm_weights
        from tasks.models.libraries import require_timm_name

        if encoder.startswith("tu-"):
            if self.encoder_weights not in ("", "imagenet"):
                raise RequestError(
                    f"encoder_weights = {self.encoder_weights!r} is not allowed for {encoder}; use 'imagenet'"
                )
            require_timm_name(encoder.removeprefix("tu-"), pretrained=bool(self.encoder_weights))
            if self.encoder_weights:
                require_timm_weights(encoder.removeprefix("tu-"))
        elif encoder not in known:
            raise RequestError(f"it has no encoder {encoder!r}{did_you_mean(encoder, known)}")
        elif self.encoder_weights:
            require_smp_weights(encoder, self.encoder_weights)

    def output_shape(self, shape: Sequence[int], info: DataInfo) -> tuple[int, ...]:
        """Logits of each pixel."""
        return shape[0], len(info.classes), *shape[2:]

    def example(self, info: DataInfo) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(1, info.channels, info.height, info.width, generator=generator)

    def loss(self, output: Any, target: Tensor, recipe: Recipe) -> Tensor:
        """Mean cross-entropy over the pixels that are not void, plus `dice` times the Dice loss."""
        logits = output.float()
        total = F.cross_entropy(
            logits, target, ignore_index=VOID, label_smoothing=recipe.label_smoothing, reduction="sum"
        ) / (target != VOID).sum().clamp(min=1)  # a batch that is all void has loss 0, not 0 / 0
        if self.dice:
            from segmentation_models_pytorch.losses import DiceLoss

            total = total + self.dice * DiceLoss("multiclass", ignore_index=VOID)(logits, target)
        return total

    def distil(self, output: Any, teacher: Any, target: Tensor, recipe: Recipe) -> Tensor:
        """Half the loss, half KL(teacher ‖ student) per pixel (Liu et al., CVPR 2019, section 3.1), void left out."""
        counted = target != VOID
        student, soft = F.log_softmax(output.float(), 1), F.log_softmax(teacher.float(), 1)
        divergence = F.kl_div(student, soft, reduction="none", log_target=True).sum(1)  # [N, H, W]
        mean = (divergence * counted).sum() / counted.sum().clamp(min=1)
        return 0.5 * self.loss(output, target, recipe) + 0.5 * mean

    def evaluate(self, model: nn.Module, split: Split, device: torch.device, recipe: Recipe) -> dict[str, float]:
        """`scores` of the predicted classes, and the mean cross-entropy."""
        return self.evaluate_samples(model, split, device, recipe)[0]

    def evaluate_samples(
        self, model: nn.Module, split: Split, device: torch.device, recipe: Recipe
    ) -> tuple[dict[str, float], Outcomes]:
        """`evaluate`, and of every image the intersection and union of each class in pixels."""
        from torchmetrics.functional.classification import multiclass_confusion_matrix

        from bench.interface.outcomes import packed
        from bench.training.evaluate import evaluate_batches

        classes = cast("MaskedSplit | Streamed", split).classes
        overlaps: list[Tensor] = []  # of each image, intersection and union of each class
        total = torch.zeros((), dtype=torch.long)
        loss, pixels = 0.0, 0
        for output, target in evaluate_batches(model, split, device, recipe, batch_size=16):
            logits = output.float()
            each = torch.stack([
                multiclass_confusion_matrix(p, t, logits.shape[1], ignore_index=VOID, validate_args=False)
                for p, t in zip(logits.argmax(1), target, strict=True)
            ]).cpu()  # fmt: skip
            inter = each.diagonal(dim1=1, dim2=2)
            overlaps.append(torch.stack([inter, each.sum(1) + each.sum(2) - inter], 1))
            total = total + each.sum(0)
            loss += float(F.cross_entropy(logits, target, ignore_index=VOID, reduction="sum"))
            pixels += int((target != VOID).sum())
        if not overlaps:
            raise RequestError(f"a split of {self.dataset} is empty: there is nothing to evaluate on")
        figures = {**scores(total, classes), "cross_entropy": loss / max(1, pixels)}
        return figures, packed("iou", torch.cat(overlaps).numpy())

    def references(self, splits: Splits, test: Split) -> dict[str, dict[str, float]]:
        """The figures of naming the training split's most frequent class for every pixel."""
        classes = len(splits.info.classes)
        cpu = torch.device("cpu")
        count = torch.zeros(2, classes, dtype=torch.long)
        for row, split in enumerate((splits.train, test)):
            for _, target in split.ordered(64, cpu):
                count[row] += torch.bincount(target[target != VOID].cpu(), minlength=classes)[:classes]
        matrix = torch.zeros(classes, classes)
        matrix[:, count[0].argmax()] = count[1].float()
        return {"majority class": scores(matrix, splits.info.classes)}

    def pictures(
        self, networks: Mapping[str, nn.Module], test: Split, folder: Path, device: torch.device, recipe: Recipe
    ) -> list[str]:
        """One strip for each of three test images spread over the split: image, truth, each network's classes."""
        from bench.training.device import autocast, to_device
        from tasks.data.strips import overlay, save_strip

        shown = [len(test) * place // 6 for place in (1, 3, 5)]
        until = itertools.islice(test.ordered(1, torch.device("cpu")), shown[-1] + 1)
        batches = {i: pair for i, pair in enumerate(until) if i in shown}
        names = []
        for number, index in enumerate(sorted(batches), 1):
            image, truth = batches[index]
            mean, std = (torch.tensor(values)[:, None, None] for values in self._statistics)
            pixels = (image[0].float().cpu() * std + mean).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
            mask = truth[0].cpu().numpy()
            panels = [(pixels, "image"), (overlay(pixels, mask), "truth")]
            for name, network in networks.items():
                to_device(network, device).eval()
                with torch.inference_mode(), autocast(recipe, device):
                    predicted = network(image.to(device)).argmax(1)[0].cpu().numpy()
                right = 100 * float((predicted == mask)[mask != VOID].mean()) if (mask != VOID).any() else 0.0
                panels.append((overlay(pixels, predicted), f"{name}: {right:.1f}% of pixels"))
            names.append(f"sample-{number}.png")
            save_strip(panels, folder / names[-1], enlarge=max(1, 256 // pixels.shape[1]))
        return names


def scores(matrix: Tensor, classes: tuple[str, ...]) -> dict[str, float]:
    """Figures in percent from pixel counts [classes, classes], rows true and columns predicted, without void pixels.

    The IoU of a class is TP / (TP + FP + FN) over all pixels of the split together; `miou` is the plain mean over the
    classes that are present in the truth or in the prediction (as scikit-learn's macro `jaccard_score`), and absent
    ones have no `iou.…` entry. `pixel_accuracy` is the share of right pixels.
    """
    counts = matrix.cpu().double()
    right = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - right
    present = union > 0
    if not present.any():
        return {"miou": 0.0, "pixel_accuracy": 0.0}
    iou = 100 * right / union.clamp(min=1)
    return {
        "miou": float(iou[present].mean()),
        "pixel_accuracy": float(100 * right.sum() / counts.sum()),
        **{f"iou.{name}": float(iou[i]) for i, name in enumerate(classes) if present[i]},
    }
