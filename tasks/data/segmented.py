"""Readers of images with masks: any folder, CamVid in SegNet's layout, Pascal VOC 2012 and Oxford-IIIT Pet through
torchvision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from bench.errors import DataError
from tasks.data.content import digest, refuse_leaks
from tasks.data.decode import MEMORY_LIMIT, Source, in_parallel, read_labels, read_rgb
from tasks.data.listing import data_folder, images_by_name, list_images
from tasks.data.masked import VOID
from tasks.data.scattered import Arrays

CAMVID = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign symbol", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip
VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table",
    "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv monitor",
)  # fmt: skip
PET = ("background", "pet")

MASK_ENDINGS = ("_mask", "_masks", "_label", "_labels", "_gt", "_seg", "-mask", "-label")
"""That a mask's name may have after its image's."""
Pairs = list[tuple[Path, Path]]


@dataclass(frozen=True)
class Files:
    """A data set as files: (image, mask) pairs of each part, and what label values mean."""

    train: Pairs
    test: Pairs
    labels: Mapping[int, int]
    """Value in the mask -> class index, or VOID."""
    classes: tuple[str, ...]
    val: Pairs | None = None
    """None: to be held out of `train`."""
    published: bool = False
    """Whether these are published files, in which who uses them cannot mend a copy."""


def find_camvid(root: Path | None, *, download: bool = False) -> Files:
    """`camvid/{train,val,test}/*.jpg|png` and `…annot/*.png` of the same names; label 11 is void.

    Raises:
        DataError: a folder is missing, or an image has no mask.
    """
    base = data_folder(root, "data set 'camvid'")
    folder = next((f for f in (base / "camvid", base / "CamVid", base) if (f / "train").is_dir()), base / "camvid")
    layout = "camvid/train, val and test, and trainannot, valannot and testannot with masks of the same names"
    parts = {part: match_pairs(folder / part, folder / f"{part}annot", layout) for part in ("train", "val", "test")}
    labels = {i: i for i in range(len(CAMVID))} | {len(CAMVID): VOID}
    return Files(parts["train"], parts["test"], labels, CAMVID, parts["val"])


def find_folder(folder: Path, classes: tuple[str, ...], void: Sequence[int]) -> Files:
    """`train/images` and `train/masks`, `test/…` and, if wanted, `val/…` in a folder of one's own; or `train` and
    `trainannot`, and so on, as SegNet lays them out. Label i of a mask is class i; those of `void` are void.

    Raises:
        DataError: a folder is missing, or images and masks do not go together.
    """
    layout = "train/images, train/masks, test/images and test/masks (or train, trainannot, test and testannot)"
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist; needed below it: {layout}")
    flat = (folder / "trainannot").is_dir()
    if flat and (folder / "train" / "masks").is_dir():
        raise DataError(f"{folder} holds both train/masks and trainannot; keep one of the two layouts")

    def pairs(part: str) -> Pairs:
        images, masks = (part, f"{part}annot") if flat else (f"{part}/images", f"{part}/masks")
        return match_pairs(folder / images, folder / masks, layout)

    labels = {i: i for i in range(len(classes))} | dict.fromkeys(void, VOID)
    return Files(pairs("train"), pairs("test"), labels, classes, pairs("val") if (folder / "val").is_dir() else None)


def match_pairs(images: Path, masks: Path, layout: str) -> Pairs:
    """Each image with the mask of the same name, or of that name with one of `MASK_ENDINGS`; suffixes do not matter.

    Raises:
        DataError: a folder is missing or empty, two images have one name, an image has no mask or two, or a mask no
            image.
    """
    named = images_by_name(images, layout)
    found: dict[str, Path] = {}
    for mask in list_images(masks, layout):
        stems = [mask.stem, *(mask.stem.removesuffix(end) for end in MASK_ENDINGS if mask.stem.endswith(end))]
        stem = next((stem for stem in stems if stem in named), None)
        if stem is None:
            raise DataError(f"{mask} is a mask without an image of its name in {images}; add it or take the mask away")
        other = found.setdefault(stem, mask)
        if other != mask:
            raise DataError(f"{named[stem]} has two masks, {other} and {mask}; keep one")
    bare = next((path for stem, path in named.items() if stem not in found), None)
    if bare is not None:
        raise DataError(f"{bare} has no mask {masks / bare.stem}.png")
    return [(path, found[stem]) for stem, path in named.items()]


def find_voc(root: Path | None, *, download: bool) -> Files:
    """Pascal VOC 2012 as torchvision lays it out. Its `val` list is the test split: that of its `test` is not public.

    Raises:
        DataError: it is not there.
    """
    from torchvision.datasets import VOCSegmentation

    base = data_folder(root, "data set 'voc2012'")
    try:
        train, test = (
            VOCSegmentation(str(base), year="2012", image_set=part, download=download) for part in ("train", "val")
        )
    except (RuntimeError, OSError, ValueError) as error:
        raise DataError(
            f"no Pascal VOC 2012 below {base}: needed is VOCdevkit/VOC2012 as torchvision lays it out; --download "
            "fetches it"
        ) from error
    labels = {i: i for i in range(len(VOC))} | {255: VOID}
    return Files(_pairs(train.images, train.masks), _pairs(test.images, test.masks), labels, VOC, published=True)


def find_pet(root: Path | None, *, download: bool) -> Files:
    """Oxford-IIIT Pet as torchvision lays it out: pet and background; the trimap's outline ("not classified") is void.

    Raises:
        DataError: it is not there.
    """
    from torchvision.datasets import OxfordIIITPet

    base = data_folder(root, "data set 'oxford-pet'")
    try:
        train, test = (
            OxfordIIITPet(str(base), split=part, target_types="segmentation", download=download)
            for part in ("trainval", "test")
        )
    except (RuntimeError, OSError, ValueError) as error:
        raise DataError(
            f"no Oxford-IIIT Pet below {base}: needed are oxford-iiit-pet/images and annotations as torchvision lays "
            "them out; --download fetches them"
        ) from error
    labels = {1: 1, 2: 0, 3: VOID}
    return Files(_pairs(train._images, train._segs), _pairs(test._images, test._segs), labels, PET, published=True)


def read_pairs(files: Files, parts: Mapping[str, Pairs], height: int, width: int) -> tuple[Arrays, int]:
    """Images uint8 [N, H, W, 3] and masks uint8 [N, H, W] of each part: resized to cover H × W, the centre kept.

    Of published files, what stands in another part as well is left out; the second value says how many images that is.

    Raises:
        DataError: a file is unreadable, a mask has another size than its image or a label that is not known, an image
            stands in two parts, or all would not fit in memory.
    """
    need = sum(map(len, parts.values())) * height * width * 4
    if need > MEMORY_LIMIT:
        raise DataError(
            f"the images would take {need / 2**30:.1f} GiB at {height}×{width}, more than the "
            f"{MEMORY_LIMIT / 2**30:.0f} GiB that is held in memory; lower image_size"
        )
    labels = tuple(files.labels.items())

    def read(pair: tuple[Path, Path]) -> tuple[np.ndarray, np.ndarray, bytes]:
        image, indices = read_pair(*pair, labels)
        fitted = fit(image, height, width, nearest=False), fit(indices, height, width, nearest=True)
        return *fitted, digest(image)

    decoded = {part: in_parallel(read, pairs) for part, pairs in parts.items()}
    contents = {part: [each[2] for each in samples] for part, samples in decoded.items()}
    own = {part: _first_seen(contents, part) if files.published else [True] * len(parts[part]) for part in parts}
    refuse_leaks(
        {
            part: [(pair[0], c) for pair, c, keep in zip(parts[part], contents[part], own[part], strict=True) if keep]
            for part in parts
        }
    )
    arrays: Arrays = {}
    for part, samples in decoded.items():
        kept = [each for each, keep in zip(samples, own[part], strict=True) if keep]
        if not kept:
            raise DataError(f"every image of {part} stands in another part as well, {parts[part][0][0]} say")
        arrays[part] = np.stack([each[0] for each in kept]), np.stack([each[1] for each in kept])
    return arrays, sum(keeps.count(False) for keeps in own.values())


def read_pair(image: Source, mask: Source, labels: tuple[tuple[int, int], ...]) -> tuple[np.ndarray, np.ndarray]:
    """An image, uint8 [H, W, 3], and its mask as class indices and VOID, uint8 [H, W].

    Args:
        labels: (value in the mask, class index or VOID) of each label.

    Raises:
        DataError: a file is unreadable, or the mask has another size than its image or a label that is not known.
    """
    pixels, values, table = read_rgb(image), read_labels(mask), _table(labels)
    if values.shape != pixels.shape[:2]:
        raise DataError(
            f"{mask} is {values.shape[0]}×{values.shape[1]}, its image {image} is "
            f"{pixels.shape[0]}×{pixels.shape[1]}; a mask must have its image's size"
        )
    if values.min() < 0 or values.max() >= len(table) or (table[values] < 0).any():
        strange = sorted(set(np.unique(values).tolist()) - dict(labels).keys())
        known = ", ".join(str(value) for value in sorted(dict(labels)))
        raise DataError(f"{mask} holds the unknown label {strange[0]}; known: {known}")
    return pixels, table[values].astype(np.uint8)


@lru_cache(maxsize=4)
def _table(labels: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Class index of each label value, −1 of those that are not known."""
    table = np.full(2**16, -1, np.int64)
    for value, index in labels:
        table[value] = index
    return table


def _first_seen(contents: Mapping[str, Sequence[bytes]], part: str) -> list[bool]:
    """Which samples of `part` are in no part before it, of test, validation and training in this order."""
    order = ("test", "val", "train")
    before = {content for other in order[: order.index(part)] for content in contents[other]}
    return [content not in before for content in contents[part]]


def fit(pixels: np.ndarray, height: int, width: int, *, nearest: bool) -> np.ndarray:
    """Resized to cover H × W, the centre kept."""
    from PIL import Image, ImageOps

    method = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    return np.asarray(ImageOps.fit(Image.fromarray(pixels), (width, height), method))


def _pairs(images: Sequence[str | Path], masks: Sequence[str | Path]) -> Pairs:
    return [(Path(image), Path(mask)) for image, mask in zip(images, masks, strict=True)]
