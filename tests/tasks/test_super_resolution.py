"""Super-resolution: its resizing and its metrics, its data, its losses and pictures."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from bench.errors import DataError, RequestError
from tasks.data import bicubic, pairs, photographs
from tasks.data.decode import read_image
from tasks.data.luma import luma_of, psnr, ssim
from tasks.data.patches import PatchSplit, WholeSplit
from tasks.data.strips import busiest
from tasks.super_resolution import MEAN, SuperResolution, to_pixels
from tests.tasks.images import cut_short, noise, save

CPU = torch.device("cpu")


class Bicubic(nn.Module):
    """A network that is bicubic interpolation."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        mean = torch.tensor(MEAN)[:, None, None]
        images = [torch.from_numpy(bicubic.resize(to_pixels(image), self.scale)) for image in x]
        return torch.stack(images).permute(0, 3, 1, 2).float() / 255 - mean


def task(**options: Any) -> SuperResolution:
    made = SuperResolution(**{"dataset": "photographs", "model": "edsr-tiny", "patch": 12, "crops": 4, **options})
    made.validate()
    return made


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """A data folder: six training photographs, and a Set5 of two with their small versions."""
    for index in range(6):
        save(tmp_path / "photos" / f"{index}.png", noise(48, 60, seed=index))
    for index in range(2):
        high = noise(40, 44, seed=100 + index)
        save(tmp_path / "sr" / "Set5" / "HR" / f"{index}.png", high)
        save(tmp_path / "sr" / "Set5" / "LR_bicubic_X2" / f"{index}.png", bicubic.resize(high, 0.5))
    return tmp_path


# --- resizing and metrics


@pytest.mark.data
@pytest.mark.parametrize(("name", "expected", "slack"), [("Set5", 33.66, 0.05), ("Set14", 30.24, 0.1)])
def test_bicubic_gives_the_published_figures(data_root: Path, name: str, expected: float, slack: float):
    own = SuperResolution("photographs", "edsr-tiny")
    split = pairs.read_test_set(data_root / "sr" / name, 2)
    test = WholeSplit(split, mean=MEAN)
    figures = own.references(None, test)["bicubic"]  # pyright: ignore[reportArgumentType]
    assert figures["psnr"] == pytest.approx(expected, abs=slack)
    assert own.evaluate(Bicubic(2), test, CPU, own.recipe) == pytest.approx(figures)


@pytest.mark.data
@pytest.mark.parametrize("name", ["Set5", "Set14"])
def test_shrinking_gives_the_published_bytes(data_root: Path, name: str):
    folder = data_root / "sr" / name
    for path in sorted((folder / "HR").iterdir()):
        assert (bicubic.resize(read_image(path), 0.5) == read_image(folder / "LR_bicubic_X2" / path.name)).all(), path


@pytest.mark.parametrize("scale", [0.5, 1 / 3, 0.25, 2, 3, 4])
def test_resizing_agrees_with_pillow_away_from_the_border(scale: float):
    image = noise(48, 60, seed=3)
    mine = bicubic.resize(image, scale)
    size = (round(60 * scale), round(48 * scale))
    other = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    margin = max(2, round(2 * scale))
    inner = (slice(margin, -margin), slice(margin, -margin))
    assert mine.shape == other.shape
    # Both round after each pass, but Pillow takes the columns first.
    difference = np.abs(mine[inner].astype(int) - other[inner])
    assert difference.max() <= 2 and difference.mean() < 0.2


def test_resizing_keeps_constants_and_rounds_sizes_up():
    assert (bicubic.resize(np.full((7, 9, 1), 93, np.uint8), 0.5) == 93).all()
    assert bicubic.resize(np.zeros((7, 9, 3), np.uint8), 0.5).shape == (4, 5, 3)


def test_luma_runs_from_16_to_235():
    white, black = np.full((1, 1, 3), 255, np.uint8), np.zeros((1, 1, 3), np.uint8)
    assert luma_of(white).item() == pytest.approx(235, abs=1e-9)
    assert luma_of(black).item() == 16
    assert luma_of(np.array([[[255, 0, 0]]], np.uint8)).item() == pytest.approx(16 + 65.481)
    # A grey file is taken as it is; a colour image is brought to its range before the two are compared.
    assert luma_of(np.full((1, 1, 1), 200, np.uint8)).item() == 200
    assert luma_of(np.full((1, 1, 3), 200, np.uint8), grey=True).item() == pytest.approx(200)


def test_psnr_and_ssim():
    a = noise(32, 32, 1)[..., 0].astype(float)
    for measure in (psnr, ssim):
        with pytest.raises(ValueError, match=r"cannot be compared|smaller than the window"):
            measure(a[:0], a[:0])
    with pytest.raises(ValueError, match="smaller than the window of 11×11"):
        ssim(a[:10], a[:10])
    with pytest.raises(ValueError, match="no numbers"):
        psnr(a, a * np.nan)
    assert psnr(a, a + 5) == pytest.approx(20 * math.log10(255 / 5))
    assert psnr(a, a) == 100
    assert ssim(a, a) == pytest.approx(1)
    assert ssim(a, a.T) < 0.9


def test_the_border_is_shaved():
    own = task(scale=3)
    truth = noise(30, 30)
    spoiled = truth.copy()
    spoiled[:3], spoiled[-3:], spoiled[:, :3], spoiled[:, -3:] = 0, 255, 0, 255
    assert own._score(spoiled, truth)["psnr"] == 100
    spoiled[3, 3] = 255 - spoiled[3, 3]
    assert own._score(spoiled, truth)["psnr"] < 100


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_evaluating_bicubic_gives_the_reference_row(scale: int):
    own = task(scale=scale)
    data = own.load(None)
    test = data.test()
    assert own.evaluate(Bicubic(scale), test, CPU, own.recipe) == pytest.approx(own.references(data, test)["bicubic"])


# --- data


def test_embedded_photographs_are_disjoint():
    parts = [photographs.TRAIN, photographs.VAL, photographs.TEST]
    names = [name for part in parts for name in part]
    assert "motorcycle_right.png" not in names  # it shows a training scene from a hand's breadth beside
    digests = [hashlib.sha256(photographs.read_photograph(name).tobytes()).hexdigest() for name in names]
    assert len(names) == len(set(names)) == len(set(digests)) == 14


def test_training_reads_nothing_of_the_test_photographs():
    data = task().load(None)
    assert {f.name for f in dataclasses.fields(data.visible)} == {"train", "val"}
    names = [{photo.name for photo in split.photos} for split in (data.train, data.val, data.test())]  # pyright: ignore[reportAttributeAccessIssue]
    assert names[0].isdisjoint(names[1] | names[2]) and names[1].isdisjoint(names[2])


def test_folders_are_cut_into_train_val_and_test(folders: Path):
    data = task(dataset="folder:photos", val_photos=2).load(folders)
    assert [photo.name for photo in data.train.photos] == ["0.png", "1.png", "2.png", "3.png"]  # pyright: ignore[reportAttributeAccessIssue]
    assert [photo.name for photo in data.val.photos] == ["4.png", "5.png"]  # pyright: ignore[reportAttributeAccessIssue]
    assert len(data.train) == 16 and len(data.val) == 2 and len(data.test()) == 2
    assert data.fingerprint == task(dataset="folder:photos", val_photos=2).load(folders).fingerprint


@pytest.mark.data
def test_bsd400_and_set5(data_root: Path):
    data = task(dataset="bsd400").load(data_root)
    assert (len(data.train), len(data.val), len(data.test())) == (390 * 4, 10, 5)


def test_a_test_photograph_among_the_training_ones_is_refused(folders: Path):
    (folders / "photos" / "0.png").write_bytes((folders / "sr/Set5/HR/1.png").read_bytes())
    with pytest.raises(DataError, match=r"1\.png of the test set is the same photograph as 0\.png"):
        task(dataset="folder:photos", val_photos=2, patch=8).load(folders)


def test_a_shared_photograph_is_found_beside_published_small_ones(folders: Path):
    """The small image of a test set may differ from the one that is made here: the large ones are compared as well."""
    (folders / "photos" / "0.png").write_bytes((folders / "sr/Set5/HR/1.png").read_bytes())
    save(folders / "sr/Set5/LR_bicubic_X2/1.png", noise(20, 22, seed=55))
    with pytest.raises(DataError, match=r"1\.png of the test set is the same photograph as 0\.png of the training set"):
        task(dataset="folder:photos", val_photos=2, patch=8).load(folders)


def test_a_validation_photograph_that_trains_is_refused(folders: Path):
    (folders / "photos" / "5.png").write_bytes((folders / "photos" / "0.png").read_bytes())
    with pytest.raises(DataError, match=r"5\.png of the validation set is the same photograph as 0\.png"):
        task(dataset="folder:photos", val_photos=2).load(folders)


@pytest.mark.parametrize(("scale", "smallest"), [(2, 16), (3, 18), (4, 20)])
def test_photographs_too_small_to_be_measured_are_refused(folders: Path, scale: int, smallest: int):
    for path in (folders / "sr/Set5/LR_bicubic_X2").iterdir():
        path.unlink()
    (folders / "sr/Set5/LR_bicubic_X2").rmdir()
    own = task(dataset="folder:photos", val_photos=2, patch=8, scale=scale)
    save(folders / "sr/Set5/HR/1.png", noise(smallest - 1, 44, seed=101))
    message = rf"1\.png of the test set comes to \d+×\d+ pixels at ×{scale}, .*; at least {smallest}×{smallest} are"
    with pytest.raises(DataError, match=message):
        own.load(folders)
    save(folders / "sr/Set5/HR/1.png", noise(smallest, 44, seed=101))
    data = own.load(folders)
    figures = own.references(data, data.test())["bicubic"]
    assert 5 < figures["psnr"] < 60 and -1 <= figures["ssim"] < 1
    with pytest.raises(DataError, match="a of the validation set comes to 8×40 pixels at ×2, too few"):
        pairs.refuse_small([pairs.make_photo("a", noise(8, 40), 2)], 2, "validation")


def test_photographs_beyond_the_memory_are_refused(folders: Path, monkeypatch: pytest.MonkeyPatch):
    own = task(dataset="folder:photos", val_photos=2)
    monkeypatch.setattr("tasks.data.pairs.MEMORY_LIMIT", 2 * 3 * 48 * 60 * 3)
    with pytest.raises(DataError, match=r"photos takes more than .* when decoded; lower train_size"):
        own.load(folders)
    monkeypatch.setattr("tasks.data.pairs.MEMORY_LIMIT", 9000)
    with pytest.raises(DataError, match=r"Set5 takes more than .* when decoded; use a smaller test set"):
        pairs.read_test_set(folders / "sr/Set5", 2)


def test_the_fingerprint_covers_all_three_parts(folders: Path):
    own = task(dataset="folder:photos", val_photos=2)
    digests = {own.load(folders).fingerprint}
    for number, place in enumerate(("photos/0.png", "photos/5.png")):
        save(folders / place, noise(48, 60, seed=200 + number))
        digests.add(own.load(folders).fingerprint)
    small = folders / "sr/Set5/LR_bicubic_X2/0.png"
    save(small, noise(20, 22, seed=300))
    digests.add(own.load(folders).fingerprint)
    assert len(digests) == 4 and own.load(folders).fingerprint in digests


@pytest.mark.parametrize("scale", [2, 3])
def test_both_patches_show_the_same_place_in_every_orientation(scale: int):
    image = noise(60, 48, seed=5)
    data = PatchSplit([pairs.make_photo("a", image, scale)], scale=scale, patch=12, crops=64, mean=MEAN)
    seen = set()
    for low, high in data.batches(16, seed=1, epoch=0, device=CPU):
        assert low.shape == (16, 3, 12, 12) and high.shape == (16, 3, 12 * scale, 12 * scale)
        for small, large in zip(low, high, strict=True):
            shrunk = bicubic.resize(to_pixels(large), 1 / scale)[2:-2, 2:-2].astype(int)
            assert np.abs(shrunk - to_pixels(small)[2:-2, 2:-2]).max() <= 2
            seen.add(to_pixels(large).tobytes())
    assert len(seen) > 40


def test_all_eight_orientations_occur():
    image = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    image = np.random.default_rng(0).permuted(image.ravel()).reshape(16, 16, 3)
    data = PatchSplit([pairs.make_photo("a", image, 2)], scale=2, patch=8, crops=128, mean=MEAN)
    turned = {np.rot90(flip, k).tobytes() for k in range(4) for flip in (image, image[:, ::-1])}
    ((_, high),) = data.batches(128, seed=0, epoch=0, device=CPU)
    assert {to_pixels(patch).tobytes() for patch in high} == turned


def test_batches_depend_on_seed_and_epoch_alone():
    data = task().load(None).train

    def drawn(seed: int, epoch: int) -> Tensor:
        return torch.cat([x.flatten() for x, _ in data.batches(8, seed=seed, epoch=epoch, device=CPU)])

    assert torch.equal(drawn(3, 1), drawn(3, 1))
    assert not torch.equal(drawn(3, 1), drawn(3, 2))
    assert not torch.equal(drawn(3, 1), drawn(4, 1))


def test_an_epoch_takes_every_photograph_the_same_number_of_times():
    photos = [pairs.make_photo(str(i), np.full((32, 32, 3), 10 * i, np.uint8), 2) for i in range(5)]
    data = PatchSplit(photos, scale=2, patch=8, crops=3, mean=(0.0, 0.0, 0.0))
    levels = torch.cat([x[:, 0, 0, 0] for x, _ in data.batches(5, seed=0, epoch=0, device=CPU)]) * 255
    assert torch.bincount((levels / 10).round().long()).tolist() == [3] * 5


def test_ordered_patches_are_the_same_each_time():
    data = task().load(None).train
    first = [x for x, _ in data.ordered(16, CPU)]
    assert sum(map(len, first)) == len(data)
    assert all(torch.equal(a, b) for a, (b, _) in zip(first, data.ordered(16, CPU), strict=True))


def test_halves_share_no_photograph():
    data = task().load(None).train
    first, second = data.halves(0)
    names = [{p.name for p in half.photos} for half in (first, second)]  # pyright: ignore[reportAttributeAccessIssue]
    assert names[0].isdisjoint(names[1]) and len(names[0]) == len(names[1]) == 4
    assert len(first) == 16


def test_a_small_photograph_is_named(folders: Path):
    save(folders / "photos" / "0.png", noise(20, 60))
    with pytest.raises(DataError, match=r"0\.png is 20×60, smaller than the 24×24 crop"):
        task(dataset="folder:photos", val_photos=2).load(folders)


def test_a_corrupt_photograph_is_named(folders: Path):
    cut_short(folders / "photos" / "3.png")
    with pytest.raises(DataError, match=r"3\.png is not a readable image"):
        task(dataset="folder:photos", val_photos=2).load(folders)


def test_grey_and_transparent_photographs_train(folders: Path):
    save(folders / "photos" / "0.png", noise(48, 60, 1))
    save(folders / "photos" / "1.png", noise(48, 60, 4))
    data = task(dataset="folder:photos", val_photos=2).load(folders)
    low, high = next(iter(data.train.ordered(4, CPU)))
    pixels = to_pixels(high[0])
    assert low.shape == (4, 3, 12, 12) and (pixels[..., :1] == pixels).all()


def test_grey_test_photographs_are_compared_as_they_are(folders: Path):
    grey = noise(40, 44, 1, seed=9)
    save(folders / "sr/Set5/HR/0.png", grey)
    save(folders / "sr/Set5/LR_bicubic_X2/0.png", bicubic.resize(grey, 0.5))
    own = task(dataset="folder:photos", val_photos=2)
    test = own.load(folders).test()
    _, target = next(iter(test.ordered(1, CPU)))
    assert target.shape == (1, 1, 40, 44)
    enlarged = bicubic.resize(bicubic.resize(grey, 0.5), 2)[2:-2, 2:-2, 0].astype(float)
    expected = psnr(enlarged, grey[2:-2, 2:-2, 0].astype(float))
    scores = own._score(own._bicubic(next(iter(test.ordered(1, CPU)))[0][0]), own._truth(target[0]))
    assert scores["psnr"] == pytest.approx(expected, abs=1e-6)


def test_test_sets_without_small_images_and_of_odd_sizes(folders: Path):
    for path in (folders / "sr/Set5/LR_bicubic_X2").iterdir():
        path.unlink()
    (folders / "sr/Set5/LR_bicubic_X2").rmdir()
    save(folders / "sr/Set5/HR/0.png", noise(41, 45, seed=11))
    low, high = next(iter(task(dataset="folder:photos", val_photos=2).load(folders).test().ordered(1, CPU)))
    assert low.shape == (1, 3, 20, 22) and high.shape == (1, 3, 40, 44)


def test_pairs_that_do_not_go_together_are_refused(folders: Path):
    own = task(dataset="folder:photos", val_photos=2)
    small = folders / "sr/Set5/LR_bicubic_X2/1.png"
    save(small, noise(15, 22))
    with pytest.raises(DataError, match=r"LR_bicubic_X2/1\.png is 15×22, not 1/2 of the 40×44 of .*HR/1\.png"):
        own.load(folders)
    small.unlink()
    with pytest.raises(DataError, match=r"HR/1\.png has no partner"):
        own.load(folders)
    save(folders / "sr/Set5/LR_bicubic_X2/0.bmp", noise(20, 22))
    with pytest.raises(DataError, match=r"X2/0\.bmp and .*X2/0\.png have one name"):
        own.load(folders)


def test_what_is_missing_is_said(tmp_path: Path):
    with pytest.raises(DataError, match="needs a data folder"):
        task(dataset="bsd400").load(None)
    with pytest.raises(DataError, match="looked for BSD400, sr/BSD400"):
        task(dataset="bsd400").load(tmp_path)
    save(tmp_path / "photos" / "0.png", noise(48, 60))
    with pytest.raises(RequestError, match="0 training photographs are left"):
        task(dataset="folder:photos").load(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "mnist"}, "unknown data set 'mnist'; available: bsd400"),
        ({"dataset": "folder:"}, "needs a folder's path"),
        (
            {"model": "edsr"},
            "unknown model 'edsr'; did you mean 'edsr-tiny'.* PATH.py:NAME, edsr-baseline, edsr-tiny, ",
        ),
        ({"scale": 5}, "scale = 5 is not allowed; use 2, 3, 4"),
        ({"patch": 4}, "patch = 4 is not allowed"),
        ({"crops": 0}, "crops = 0 is not allowed"),
        ({"train_size": -1}, "train_size = -1"),
        ({"val_photos": 0}, "val_photos = 0"),
        ({"example_size": (4, 64)}, r"example_size = \[4, 64\]"),
        ({"test_set": "Set14"}, "has a test set of its own"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(RequestError, match=message):
        task(**options)


# --- networks, losses, pictures


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_networks_enlarge_by_the_scale(scale: int):
    own = task(scale=scale, example_size=(10, 12))
    info = own.load(None).info
    assert own.network(info)(own.example(info)).shape == (1, 3, 10 * scale, 12 * scale)


def test_losses_by_hand():
    own = task()
    output, target, teacher = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.5), torch.full((2, 3, 4, 4), -0.1)
    assert float(own.loss(output, target, own.recipe)) == pytest.approx(0.5)
    assert float(own.distil(output, teacher, target, own.recipe)) == pytest.approx(0.5 * 0.5 + 0.5 * 0.1)


def test_training_shrinks_the_loss():
    from bench.interface.log import TrainingLog
    from bench.training.loop import Phase, train

    own = task(crops=32)
    data = own.load(None)
    torch.manual_seed(0)
    log = TrainingLog()
    train(own.network(data.info), own, data.train, own.recipe, Phase("dense", 3, 0, CPU), log=log)
    assert log.rows[-1]["loss"] < 0.6 * log.rows[0]["loss"]


def test_pictures_are_of_the_same_places_for_every_network(tmp_path: Path):
    own = task()
    data = own.load(None)
    good, bad = Bicubic(2), own.network(data.info)
    names = own.pictures({"dense": good, "pruned": bad}, data.test(), tmp_path / "a", CPU, own.recipe)
    assert names == ["sample-1.png", "sample-2.png", "sample-3.png"]
    own.pictures({"dense": bad, "pruned": bad}, data.test(), tmp_path / "b", CPU, own.recipe)
    for name in names:
        first, second = (np.asarray(Image.open(tmp_path / folder / name)) for folder in "ab")
        assert first.shape == second.shape
        panel = (first.shape[1] + 4) // 4  # HR, bicubic, dense, pruned
        assert (first[:, : 2 * panel] == second[:, : 2 * panel]).all()
        # The dense network of `a` is bicubic interpolation: its panel repeats the one before it, above the caption.
        assert (first[:-20, panel : 2 * panel - 4] == first[:-20, 2 * panel : 3 * panel - 4]).all()
        assert (first[:-20, 2 * panel : 3 * panel - 4] != second[:-20, 2 * panel : 3 * panel - 4]).any()


def test_the_busiest_square_is_found():
    image = np.zeros((40, 50))
    image[21:29:2, 33:41] = 100
    rows, columns = busiest(image, 12)
    assert rows.start <= 21 and rows.stop >= 28 and columns.start <= 33 and columns.stop >= 41
    assert rows.stop - rows.start == columns.stop - columns.start == 12
    assert busiest(image, 99) == (slice(0, 40), slice(int(busiest(image, 99)[1].start), busiest(image, 99)[1].stop))
