"""Image classification: cross-entropy, top-1 accuracy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from bench.errors import RequestError, unknown
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
    import numpy as np
    from torch import Tensor, nn

    from bench.interface.record import Outcomes
    from tasks.data.images import ImageSplit
    from tasks.data.labelled import Labelled
    from tasks.data.labelled_streams import Checked, LabelledFiles
    from tasks.data.places import Places
    from tasks.data.streamed import Streamed

_FETCHED = ("hf_hub", "local_dir", "http", "https", "file")
"""What timm and others write before the address of a network that lies elsewhere."""
_MEAN, _STD = IMAGENET
_COVERED = "bilinear, antialiased, so that the image covers a square of 8/7 of the side; its middle is cut out"
_RESNETS = (8, 20, 32, 56, 110)
DATASETS = {
    "digits": DataSet(
        "scikit-learn's 1,797 handwritten digits, 10 classes; embedded",
        "tasks.data.labelled:digits",
        (16, 16),
        mean=(78.0,),
        std=(96.0,),
        resized="grey images of 8×8 pixels are enlarged bilinearly",
    ),
    "cifar10": DataSet(
        "CIFAR-10, 32×32, in torchvision's layout or the hub's parquet files",
        "tasks.data.cifar:cifar",
        (32, 32),
        fixed_size=True,
        mean=(125.3, 123.0, 113.9),
        std=(63.0, 62.1, 66.7),
        resized="none: images are 32×32",
    ),
    "cifar100": DataSet(
        "CIFAR-100, 32×32, in torchvision's layout or the hub's parquet files",
        "tasks.data.cifar:cifar",
        (32, 32),
        fixed_size=True,
        mean=(129.3, 124.1, 112.4),
        std=(68.2, 65.4, 70.4),
        resized="none: images are 32×32",
    ),
    "imagefolder:PATH": DataSet(
        "train/CLASS/… and test/CLASS/… below PATH (absolute, or inside the data folder)",
        "tasks.data.labelled:image_folder",
        (224, 224),
        mean=_MEAN,
        std=_STD,
        resized=_COVERED,
        crop="shifted",
    ),
    "imagenet": DataSet(
        "ImageNet in torchvision's layout, or train and val of one's own, as class folders or archives; streamed",
        size=(224, 224),
        mean=_MEAN,
        std=_STD,
        resized=_COVERED,
        folders=("imagenet", "ImageNet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC"),
        crop="resized",
    ),
    "shards:PATH": DataSet(
        "WebDataset's archives train/*.tar and test/*.tar below PATH (absolute, or inside the data folder); streamed",
        size=(224, 224),
        mean=_MEAN,
        std=_STD,
        resized=_COVERED,
        crop="resized",
    ),
}
"""All that is known of a data set before it is read: a new one is an entry here and its reader."""


@dataclass(frozen=True)
class Classification:
    """Networks that map an image [C, H, W] to logits [classes]."""

    dataset: str
    model: str
    image_size: int = 0
    """Height and width of the input; 0: the data set's own (digits 16, CIFAR 32, folders and archives 224)."""
    train_size: int = 0
    """Use only this many samples of the training split, evenly over the classes; 0: all."""
    val_fraction: float = 0.1
    """Share of the training split that is held out for validation."""
    pretrained: bool = False
    """Start from the library's weights (torchvision, timm); they are fetched by the library on first use."""
    model_args: dict[str, Any] | None = None
    """What a network of one's own is built with, by the names of its arguments."""
    normalise: Normalise | None = None
    """Mean and standard deviation of each channel, of pixel values from 0 to 1, in place of the data set's."""
    stream: bool | None = None
    """Leave the images of a folder on disk and read them in other processes; none: where they would take more than
    12 GiB of memory. ImageNet and archives are always streamed."""

    metric: ClassVar[str] = "accuracy"
    unit: ClassVar[str] = "%"
    higher_is_better: ClassVar[bool] = True
    recipe: ClassVar[Recipe] = Recipe(lr=0.1, weight_decay=5e-4, batch_size=128, warmup_epochs=0.5)
    finetune: ClassVar[Recipe] = Recipe(lr=0.02, weight_decay=5e-4, batch_size=128)
    trial: ClassVar[Mapping[str, Any]] = {"dataset": "digits", "model": "resnet8", "train_size": 100}

    @classmethod
    def datasets(cls) -> Mapping[str, str]:
        return lines(DATASETS)

    @classmethod
    def models(cls) -> Mapping[str, str]:
        return {
            **{f"resnet{d}": f"CIFAR ResNet of {d} layers, parameter-free shortcuts (He et al.)" for d in _RESNETS},
            "torchvision:NAME": "a network of torchvision.models.list_models(module=torchvision.models); not others",
            "timm:NAME": "a network of timm.list_models(), with a tag (NAME.TAG) to choose among pretrained weights",
            "PATH.py:NAME": "what NAME of a file of one's own builds; or package.module:NAME",
        }

    def validate(self) -> None:
        data_set = entry_of(DATASETS, self.dataset)
        self._validate_model()
        require_normalise(self.normalise)
        if self.image_size and not 8 <= self.image_size <= 1024:
            raise RequestError(f"image_size = {self.image_size} is not allowed; use 8 to 1024, or 0 for the default")
        if self.image_size and data_set.fixed_size and self.image_size != data_set.size[0]:
            sides = "×".join(map(str, data_set.size))
            raise RequestError(
                f"image_size = {self.image_size} is not allowed: the images of {self.dataset} are {sides}"
            )
        if not 0 < self.val_fraction < 1:
            raise RequestError(f"val_fraction = {self.val_fraction} is not allowed; use a fraction between 0 and 1")
        if self.train_size < 0:
            raise RequestError(f"train_size = {self.train_size} is not allowed; use a positive count, or 0 for all")
        if self.stream and not data_set.crop:
            raise RequestError(f"stream = true is not allowed: {self.dataset} is small, and held in memory")
        if self.stream is False and not data_set.reader:
            raise RequestError(f"stream = false is not allowed: {self.dataset} is always streamed")

    def _validate_model(self) -> None:
        """Refuse a network that no library has by such a name, and options that do not go with it."""
        library, _, name = self.model.partition(":")
        if library.lower().replace("-", "_") in _FETCHED or (library in ("torchvision", "timm") and {*name} & {*":/"}):
            raise RequestError(
                f"model {self.model!r} is not allowed: a network is not fetched from a hub or a file; write timm:NAME "
                "or torchvision:NAME with the name that the library itself has for it"
            )
        require_name(self.model)
        own = is_own(self.model)
        if own:
            require_own(self.model, self.model_args)
        elif self.model_args is not None:
            raise RequestError(f"model_args is not allowed: {self.model!r} is not a network of your own ({FORMS})")
        elif self.model not in self.models() and not (library in ("torchvision", "timm") and name):
            raise unknown("model", self.model, self.models())
        if name == "NAME":
            raise RequestError(f"model {self.model!r} needs a network's name in place of NAME")
        if self.pretrained and (own or not name):
            raise RequestError(f"{self.model!r} has no pretrained weights; use a torchvision: or timm: network")

    def load(self, root: Path | None, *, download: bool = False) -> Splits:
        from tasks.data.content import fingerprint, keep_copies_together, refuse_leaks
        from tasks.data.images import make_split

        entry = entry_of(DATASETS, self.dataset)
        files = self._to_stream(root)
        if files is not None:
            return self._streamed(files)
        mean, std = self._statistics
        read = entry.read(self.dataset, root, self.image_size or entry.size[0], download=download)
        data: Labelled = read.data
        contents = [content for _, content in data.train_samples]
        kept, held = self._kept_and_held(
            data.train_labels, lambda kept, held: keep_copies_together(kept, held, contents)
        )
        # Validation holds no copy of what trains, by the way it is held out.
        refuse_leaks({"train": data.train_samples, "test": data.test_samples})
        require_channels(self.normalise, data.train_images.shape[-1], self.dataset)

        def split(images: np.ndarray, labels: np.ndarray, *, augment: bool) -> ImageSplit:
            return make_split(
                images,
                labels,
                mean=mean,
                std=std,
                margin=read.margin if augment or read.padded else 0,
                flip=read.flip and augment,
                padded=read.padded,
            )

        train = split(data.train_images[kept], data.train_labels[kept], augment=True)
        val = split(data.train_images[held], data.train_labels[held], augment=False)
        return Splits(
            train=train,
            val=val,
            test=lambda: split(data.test_images, data.test_labels, augment=False),
            info=DataInfo(train.images.shape[-1], train.height, train.width, data.classes),
            fingerprint=fingerprint(*train.arrays, *val.arrays, data.test_images, data.test_labels),
            notes=(f"{self.dataset}: {data.note}",) if data.note else (),
        )

    def _to_stream(self, root: Path | None) -> LabelledFiles | None:
        """The files of a data set that is streamed; None for one that is held in memory."""
        entry = entry_of(DATASETS, self.dataset)
        if not entry.crop or self.stream is False:
            return None
        from tasks.data.decode import MEMORY_LIMIT
        from tasks.data.labelled import margin_of
        from tasks.data.labelled_streams import find

        size = self.image_size or entry.size[0]
        files = find(self.dataset, root, entry.folders)
        small = files.decoded_bytes(size + 2 * margin_of(size)) <= MEMORY_LIMIT
        return None if entry.reader and self.stream is None and small else files

    def _streamed(self, files: LabelledFiles) -> Splits:
        """The splits of a data set that stays on disk."""
        import numpy as np

        from tasks.data.labelled import margin_of
        from tasks.data.labelled_streams import check
        from tasks.data.streamed import ImageReader, Streamed

        entry = entry_of(DATASETS, self.dataset)
        size = self.image_size or entry.size[0]
        require_channels(self.normalise, 3, self.dataset)
        checked = check(files, published=self.dataset == "imagenet")
        train, labels = checked.train, files.train_labels
        kept, held = self._kept_and_held(labels[train], lambda *parts: _within(train, checked, *parts))
        mean, std = self._statistics
        reader = ImageReader(size, margin_of(size), cast(Any, entry.crop))

        def split(table: Places, labels: np.ndarray, indices: np.ndarray) -> Streamed:
            return Streamed(reader, (table,), indices, mean, std, labels, files.classes, pixels=size**2)

        return Splits(
            train=split(files.train, labels, train[kept]),
            val=split(files.train, labels, train[held]),
            test=lambda: split(files.test, files.test_labels, np.arange(len(files.test))),
            info=DataInfo(3, size, size, files.classes),
            fingerprint=checked.fingerprint,
            notes=tuple(f"{self.dataset}: {note}" for note in ("streamed", *checked.notes)),
        )

    def _kept_and_held(
        self, labels: np.ndarray, together: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the training and of the validation split, both evenly over the classes.

        Args:
            together: moves what is held out and has a copy that trains.

        Raises:
            RequestError: the training split is smaller than `train_size`, or `train_size` than the number of classes,
                or nothing is left to validate on.
        """
        import numpy as np

        from tasks.data.images import evenly, stratified_split

        kept, held = together(*stratified_split(labels, self.val_fraction, seed=0))
        if not len(held):
            raise RequestError(
                f"{self.dataset} leaves no image for validation: at least one class needs two different training images"
            )
        if self.train_size:
            if self.train_size > len(kept):
                raise RequestError(
                    f"train_size = {self.train_size} is not allowed for {self.dataset}: {len(kept)} training samples "
                    "are left beside the validation split"
                )
            classes = len(np.unique(labels))
            if self.train_size < classes:
                raise RequestError(
                    f"train_size = {self.train_size} is not allowed for {self.dataset}: its {classes} classes need a "
                    "training sample each"
                )
            kept = kept[evenly(labels[kept], self.train_size, seed=1)]
        return kept, held

    @property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of each channel, of pixel values from 0 to 255."""
        entry = entry_of(DATASETS, self.dataset)
        return in_bytes(self.normalise) if self.normalise is not None else (entry.mean, entry.std)

    def untrained(self) -> Classification:
        """The same, with a network for which nothing is fetched."""
        return dataclasses.replace(self, pretrained=False)

    def deployment(self, info: DataInfo) -> dict[str, Any]:
        """How an image becomes the input, and what the outputs are."""
        return {
            "input": image_input(info, in_units(*self._statistics), entry_of(DATASETS, self.dataset).resized),
            "output": "N, classes: logits; the largest is the class",
            "classes": list(info.classes),
        }

    def network(self, info: DataInfo) -> nn.Module:
        if is_own(self.model):
            return build_own(self.model, self.model_args)
        library, _, name = self.model.partition(":")
        classes = len(info.classes)
        if not name:
            from tasks.models.resnet import cifar_resnet

            return cifar_resnet(int(self.model.removeprefix("resnet")), classes, info.channels)
        if library == "timm":
            from tasks.models.libraries import timm_classifier

            return timm_classifier(name, classes, info.channels, pretrained=self.pretrained)
        from tasks.models.libraries import torchvision_classifier

        if info.channels != 3:
            raise RequestError(f"torchvision's networks take 3 channels, {self.dataset} has {info.channels}; use timm:")
        return torchvision_classifier(name, classes, pretrained=self.pretrained)

    def output_shape(self, shape: Sequence[int], info: DataInfo) -> tuple[int, ...]:
        """Logits of each image."""
        return shape[0], len(info.classes)

    def example(self, info: DataInfo) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(1, info.channels, info.height, info.width, generator=generator)

    def loss(self, output: Any, target: Tensor, recipe: Recipe) -> Tensor:
        logits = output.float()
        return F.cross_entropy(logits, target, label_smoothing=recipe.label_smoothing)

    def distil(self, output: Any, teacher: Any, target: Tensor, recipe: Recipe) -> Tensor:
        """(1 − λ)·CE + λ·T²·KL(teacher ‖ student), λ = 0.9, T = 4 (Dong & Yang 2019, section 3.3)."""
        share, temperature = 0.9, 4.0
        student = F.log_softmax(output.float() / temperature, 1)
        soft = F.log_softmax(teacher.float() / temperature, 1)
        divergence = F.kl_div(student, soft, reduction="batchmean", log_target=True)
        return (1 - share) * self.loss(output, target, recipe) + share * temperature**2 * divergence

    def evaluate(self, model: nn.Module, split: Split, device: torch.device, recipe: Recipe) -> dict[str, float]:
        """Top-1 accuracy in percent and mean cross-entropy."""
        return self.evaluate_samples(model, split, device, recipe)[0]

    def evaluate_samples(
        self, model: nn.Module, split: Split, device: torch.device, recipe: Recipe
    ) -> tuple[dict[str, float], Outcomes]:
        """`evaluate`, and of every sample whether it was classified correctly."""
        from bench.interface.outcomes import packed
        from bench.training.evaluate import evaluate_batches

        correct: list[Tensor] = []
        loss = 0.0
        for output, target in evaluate_batches(model, split, device, recipe):
            logits = output.float()
            correct.append(logits.argmax(1) == target)
            loss += float(F.cross_entropy(logits, target, reduction="sum"))
        if not correct:
            raise RequestError(f"a split of {self.dataset} is empty: there is nothing to evaluate on")
        right = torch.cat(correct).cpu()
        figures = {"accuracy": 100 * int(right.sum()) / len(right), "cross_entropy": loss / len(right)}
        return figures, packed("correct", right.numpy())

    def references(self, splits: Splits, test: Split) -> dict[str, dict[str, float]]:
        """The accuracy of naming the training split's most frequent class every time."""
        counts = torch.bincount(_labels(splits.train), minlength=len(splits.info.classes))
        right = int((_labels(test) == counts.argmax()).sum())
        return {"majority class": {"accuracy": 100 * right / len(test)}}

    def pictures(
        self, networks: Mapping[str, nn.Module], test: Split, folder: Path, device: torch.device, recipe: Recipe
    ) -> list[str]:
        return []


def _labels(split: Split) -> Tensor:
    """Of every sample, int64 [N] on the CPU; no image is read for them."""
    return cast("ImageSplit | Streamed", split).labels.cpu()


def _within(chosen: np.ndarray, checked: Checked, kept: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`Checked.keep_copies_together` for indices into `chosen`, which is in ascending order."""
    import numpy as np

    first, second = checked.keep_copies_together(chosen[kept], chosen[held])
    return np.searchsorted(chosen, first), np.searchsorted(chosen, second)
