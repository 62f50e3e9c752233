"""Streamed images with masks, and streamed photographs for super-resolution: as in memory, but for what is drawn."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.errors import DataError, RequestError
from bench.interface.loading import set_workers
from tasks.data import bicubic
from tasks.data.masked import VOID, MaskedSplit, draw_views, take_views
from tasks.data.patches import PatchSplit
from tasks.data.reading import Sample
from tasks.data.streamed import MaskReader, PatchReader, Streamed
from tasks.segmentation import Segmentation
from tasks.super_resolution import SuperResolution
from tests.tasks.images import cut_short, noise, save
from tests.tasks.streams import all_of, epoch, same

pytestmark = pytest.mark.usefixtures("alone", "closed")


def segmentation(**options: Any) -> Segmentation:
    own = {"dataset": "folder:streets", "model": "smp:unet/resnet18", "classes": ("a", "b", "c"), "void": 9}
    made = Segmentation(**{**own, "image_size": (32, 64), **options})  # pyright: ignore[reportArgumentType]
    made.validate()
    return made


def super_resolution(**options: Any) -> SuperResolution:
    own = {"dataset": "folder:photos", "model": "edsr-tiny", "patch": 10, "crops": 3, "val_photos": 2}
    made = SuperResolution(**{**own, **options})
    made.validate()
    return made


@pytest.fixture
def streets(tmp_path: Path) -> Path:
    """A folder of 12 training and 4 test images with masks, 40×70 pixels."""
    for part, count in (("train", 12), ("test", 4)):
        for index in range(count):
            seed = 50 * len(part) + index
            save(tmp_path / "streets" / part / "images" / f"{index}.jpg", noise(40, 70, seed=seed))
            mask = np.random.default_rng(seed).choice(np.array([0, 1, 2, 9], np.uint8), (40, 70))
            save(tmp_path / "streets" / part / "masks" / f"{index}.png", mask)
    return tmp_path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Eight photographs of several sizes, one of them grey, and a Set5 of two."""
    for index in range(8):
        save(tmp_path / "photos" / f"{index}.png", noise(49 + index, 60, 1 if index == 3 else 3, seed=index))
    for index in range(2):
        save(tmp_path / "sr" / "Set5" / "HR" / f"{index}.png", noise(40, 44, seed=100 + index))
    return tmp_path


def streamed(split: Any) -> Streamed:
    assert isinstance(split, Streamed)
    return split


# Masks


def test_streamed_masks_are_evaluated_as_those_in_memory(streets: Path) -> None:
    held, data = segmentation().load(streets), segmentation(stream=True).load(streets)
    assert isinstance(held.train, MaskedSplit) and isinstance(data.test(), Streamed)
    for one, other in ((held.train, data.train), (held.val, data.val), (held.test(), data.test())):
        assert same([all_of(one)], [all_of(other)])
    task = segmentation()
    assert task.references(held, held.test()) == task.references(data, data.test())
    assert data.info == held.info and data.fingerprint != held.fingerprint
    assert data.notes[1] == "folder:streets: streamed"


def test_a_streamed_view_is_what_memory_would_show_of_it(streets: Path) -> None:
    """Image and mask of one sample, for the numbers that its seed gives."""
    split = streamed(segmentation(stream=True, zoom=2.0).load(streets).train)
    (x, y), *_ = epoch(replace(split, indices=split.indices[2:3]), 1, 4, 1)
    sample = replace(split, indices=split.indices[2:3])._sample(0, (4, 1))
    plain_x, plain_y = all_of(replace(split, indices=split.indices[2:3]))
    draws = torch.rand(4, 1, generator=torch.Generator().manual_seed(sample.seed))
    views = draw_views(draws, 2.0, flip=True)
    assert 0.5 <= float(views[0]) <= 1 and abs(float(views[3])) == 1
    wanted_x, wanted_y = take_views(plain_x, plain_y, views, whole=False)
    assert torch.allclose(x, wanted_x, atol=1e-5) and torch.equal(y, wanted_y)
    assert set(torch.unique(y).tolist()) == {0, 1, 2, VOID} and y.dtype == torch.int64


def test_streamed_masks_without_zoom_are_only_mirrored(streets: Path) -> None:
    split = streamed(segmentation(stream=True, zoom=1.0).load(streets).train)
    whole_x, whole_y = all_of(split)
    mirrored = 0
    for x, y in epoch(split, 1, 0, 0) + epoch(split, 1, 0, 1):
        found = [i for i, image in enumerate(whole_x) if torch.equal(x[0], image) or torch.equal(x[0], image.flip(2))]
        assert len(found) == 1
        flipped = not torch.equal(x[0], whole_x[found[0]])
        mirrored += flipped
        assert torch.equal(y[0], whole_y[found[0]].flip(1) if flipped else whole_y[found[0]])
    assert 3 < mirrored < 19  # of 22


def test_processes_change_no_batch_of_masks_or_patches(streets: Path, photos: Path) -> None:
    splits = [segmentation(stream=True).load(streets).train, super_resolution(stream=True).load(photos).train]
    wanted = [epoch(split, 4, 2, 1) for split in splits]
    set_workers(2)
    for split, batches in zip(splits, wanted, strict=True):
        assert same(epoch(split, 4, 2, 1), batches) and not same(epoch(split, 4, 2, 2), batches)


def test_bad_masks_and_copies_of_streamed_images_are_named(streets: Path) -> None:
    task = segmentation(stream=True)
    mask = streets / "streets/train/masks/3.png"
    kept = mask.read_bytes()
    for content, message in ((np.full((40, 70), 7, np.uint8), "unknown label 7"), (noise(9, 9, 1), "9×9, its image")):
        save(mask, content)
        with pytest.raises(DataError, match=f"3.png .*{message}"):
            data = task.load(streets)
            all_of(data.train)
            all_of(data.val)
    mask.write_bytes(kept)
    shutil.copy(streets / "streets/test/images/1.jpg", streets / "streets/train/images/5.jpg")
    with pytest.raises(DataError, match=r"images/1\.jpg \(test\) has the same content as .*train/images/5\.jpg"):
        task.load(streets)


def test_what_is_larger_than_memory_is_streamed(streets: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.data.masked_streams.MEMORY_LIMIT", 16 * 32 * 64 * 4 - 1)
    assert isinstance(segmentation().load(streets).test(), Streamed)
    monkeypatch.undo()
    assert isinstance(segmentation().load(streets).test(), MaskedSplit)
    need = sum(3 * (49 + index) * 60 for index in range(6))
    monkeypatch.setattr("tasks.data.decode.MEMORY_LIMIT", 2 * need - 1)
    assert isinstance(super_resolution().load(photos).train, Streamed)
    monkeypatch.setattr("tasks.data.decode.MEMORY_LIMIT", 2 * need)
    assert isinstance(super_resolution().load(photos).train, PatchSplit)


@pytest.mark.parametrize("made", [Segmentation("scattered-digits", "smp:unet/resnet18", stream=True),
                                  SuperResolution("photographs", "edsr-tiny", stream=True)])  # fmt: skip
def test_embedded_data_is_not_streamed(made: Any) -> None:
    with pytest.raises(RequestError, match="stream = true is not allowed: "):
        made.validate()


# Patches


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_patch_is_cut_from_the_small_version_of_the_whole(scale: int) -> None:
    """To the bit, at every corner and border, though the whole is never made small."""
    image = noise(17 * scale, 15 * scale, seed=scale)
    whole, reader = bicubic.resize(image, 1 / scale), PatchReader(scale, 8)
    for top in range(10):
        for left in range(8):
            low, high = reader.cut(image, top, left)
            assert np.array_equal(low, whole[top : top + 8, left : left + 8])
            assert np.array_equal(high, image[scale * top : scale * (top + 8), scale * left : scale * (left + 8)])


def test_streamed_patches_are_turned_and_from_every_place(photos: Path) -> None:
    data = super_resolution(stream=True, crops=400, train_size=1).load(photos)
    split = streamed(data.train)
    held = super_resolution(crops=1, train_size=1).load(photos).train
    assert isinstance(held, PatchSplit) and len(split) == 400
    mean = torch.tensor(split.mean)
    low = ((held.photos[0].low.float() / 255 - mean) / 1).permute(2, 0, 1)  # 24×30
    places = [(t, s) for t in range(15) for s in range(21)]
    crops = torch.stack([low[:, t : t + 10, s : s + 10] for t, s in places])
    ways = [crops.rot90(k, (2, 3)) for k in range(4)] + [crops.transpose(2, 3).rot90(k, (2, 3)) for k in range(4)]
    seen = set()
    for x, y in epoch(split, 100, 0, 0):
        assert x.shape == (100, 3, 10, 10) and y.shape == (100, 3, 20, 20)
        for image in x:
            found = [(w, i) for w, way in enumerate(ways) for i in (way == image).flatten(1).all(1).nonzero().tolist()]
            assert len(found) == 1
            seen.add((found[0][0], places[found[0][1][0]]))
    assert {way for way, _ in seen} == set(range(8))
    assert {top for _, (top, _) in seen} == set(range(15)) and {left for _, (_, left) in seen} == set(range(21))


def test_both_resolutions_of_a_streamed_patch_are_turned_alike(photos: Path) -> None:
    split = streamed(super_resolution(stream=True).load(photos).train)
    assert len(split) == 18 and [len(half) for half in split.halves(0)] == [9, 9]
    for x, y in epoch(split, 6, 1, 0):
        small = torch.nn.functional.avg_pool2d(y, 2)
        assert float((x - small).abs().mean()) < 0.02 < float((x.flip(2) - small).abs().mean())
    assert same([all_of(split)], [all_of(split)]) and len(all_of(split)[0]) == 18


def test_bad_and_doubled_photographs_are_named(photos: Path) -> None:
    task = super_resolution(stream=True)
    small = save(photos / "photos/1.png", noise(12, 60, seed=1))
    with pytest.raises(DataError, match=rf"^{small} is 12×60, smaller than the 20×20 crop of patch = 10 at ×2"):
        task.load(photos)
    cut_short(save(small, noise(50, 60, seed=1)))
    with pytest.raises(DataError, match=rf"^{small} is not a readable image"):
        task.load(photos)
    shutil.copy(photos / "sr/Set5/HR/1.png", small)
    with pytest.raises(DataError, match=r"HR/1\.png \(test\) has the same content as .*photos/1\.png \(training\)"):
        task.load(photos)


def test_a_reader_is_told_all_that_a_sample_depends_on(streets: Path) -> None:
    split = streamed(segmentation(stream=True).load(streets).train)
    assert isinstance(split.reader, MaskReader)
    sample = split._sample(3, (1, 2))
    image, mask = (Path(place.path) for place in sample.places)
    assert isinstance(sample, Sample) and (image.stem, image.parent.name, mask.parent.name) == (
        mask.stem, "images", "masks"
    )  # fmt: skip
    assert len({split._sample(3, seeds).seed for seeds in ((1, 2), (2, 1), (1, 3))}) == 3
