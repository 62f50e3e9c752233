"""Streamed labelled images: what a batch depends on, what is read, and what is refused."""

from __future__ import annotations

import gc
import shutil
import tarfile
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.errors import DataError, RequestError
from bench.interface.cell import Recipe
from bench.interface.loading import set_workers
from bench.interface.log import Observer, TrainingLog
from bench.interface.task import Splits
from bench.training.loop import Phase, train
from tasks.classification import Classification
from tasks.data import reading
from tasks.data.archives import archives_of, read_archives
from tasks.data.images import ImageSplit
from tasks.data.places import Places
from tasks.data.reading import Sample
from tasks.data.streamed import Streamed
from tests.tasks.images import cut_short, huge_png, noise, save
from tests.tasks.streams import CPU, add, all_of, class_folders, counted, epoch, same, shards

pytestmark = pytest.mark.usefixtures("alone", "closed")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with an ImageNet of 2 × 20 training and 2 × 6 test images; never changed."""
    folder = tmp_path_factory.mktemp("data")
    class_folders(folder / "imagenet", {"train": 20, "val": 6})
    return folder


@pytest.fixture
def own(root: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(root, tmp_path / "data"))


def task(dataset: str = "imagenet", **options: Any) -> Classification:
    made = Classification(dataset, "torchvision:resnet18", **{"image_size": 28, **options})
    made.validate()
    return made


def load(root: Path, dataset: str = "imagenet", **options: Any) -> tuple[Splits, Streamed]:
    """The data set, and its training split."""
    data = task(dataset, **options).load(root)
    assert isinstance(data.train, Streamed)
    return data, data.train


# What a batch depends on


@pytest.mark.parametrize("count", [1, 2])
def test_the_number_of_processes_changes_no_batch(root: Path, count: int) -> None:
    data, split = load(root)
    alone = [epoch(split, 5, 3, 0), epoch(split, 5, 3, 1), list(data.val.ordered(3, CPU))]
    set_workers(count)
    state = torch.get_rng_state()
    several = [epoch(split, 5, 3, 0), epoch(split, 5, 3, 1), list(data.val.ordered(3, CPU))]
    assert all(same(one, other) for one, other in zip(alone, several, strict=True))
    assert torch.equal(state, torch.get_rng_state())  # reading draws nothing from the numbers that training draws from


def test_batches_begin_anew_after_a_stream_that_was_given_up(root: Path) -> None:
    _, split = load(root)
    whole = epoch(split, 4, 1, 5)
    set_workers(2)
    assert same(counted(split.batches(4, seed=1, epoch=4, device=CPU), 2), epoch(split, 4, 1, 4)[:2])
    assert same(whole, epoch(split, 4, 1, 5))


def test_processes_end_as_soon_as_nothing_needs_them(root: Path) -> None:
    """Those that are not told to end are waited for for five seconds each."""
    set_workers(2)
    _, split = load(root)
    epoch(split, 5, 3, 0)
    counted(split.batches(4, seed=1, epoch=4, device=CPU), 2)
    begun = time.monotonic()
    reading.close()
    gc.collect()
    assert time.monotonic() - begun < 4


def test_two_streams_run_side_by_side(root: Path) -> None:
    _, split = load(root)
    halves = split.halves(9)
    apart = [epoch(half, 3, 2, 0) for half in halves]
    set_workers(1)
    streams = [half.batches(3, seed=2, epoch=0, device=CPU) for half in halves]
    together = list(zip(*streams, strict=True))
    assert all(same([pair[i] for pair in together], apart[i]) for i in (0, 1))


def test_an_epoch_holds_every_sample_once_and_each_epoch_looks_different(root: Path) -> None:
    data, split = load(root)
    assert (len(split), len(data.val), len(data.test())) == (36, 4, 12)
    batches = epoch(split, 5, 0, 0)
    assert [tuple(x.shape) for x, _ in batches] == [(5, 3, 28, 28)] * 7  # the last image makes no full batch
    assert batches[0][0].is_contiguous(memory_format=torch.channels_last)
    assert not same(batches, epoch(split, 5, 0, 1)) and not same(batches, epoch(split, 5, 1, 0))
    _, labels = all_of(split)
    assert torch.equal(labels, split.labels) and torch.bincount(labels).tolist() == [18, 18]
    first, second = split.halves(4)
    assert {*first.indices} | {*second.indices} == {*split.indices} and not {*first.indices} & {*second.indices}


def test_a_sample_looks_the_same_in_a_half_as_in_the_whole(root: Path) -> None:
    """Its changes come from (seed, epoch, sample), not from its place in a batch."""
    _, split = load(root)
    one = replace(split, indices=split.indices[4:5])
    (x, _), *_ = epoch(one, 1, 6, 2)
    whole = torch.cat([x for x, _ in epoch(split, 4, 6, 2)])
    assert sum(torch.equal(x[0], other) for other in whole) == 1


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.2),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Stop(Observer):
    """Ends training in the middle of an epoch, as a kill would."""

    def __init__(self, at: int) -> None:
        self.at = at

    def step(self, phase: str, step: int, steps: int, loss: float) -> None:
        if step >= self.at:
            raise InterruptedError


def test_training_that_was_stopped_ends_with_the_same_numbers(root: Path, tmp_path: Path) -> None:
    data, split = load(root)
    recipe = Recipe(batch_size=4, lr=0.05, precision="fp32")

    def trained(name: str, observer: Observer | None = None) -> tuple[list[Tensor], list[dict[str, Any]]]:
        torch.manual_seed(0)
        model, log = Tiny(), TrainingLog()
        phase = Phase("dense", 3, 7, CPU, tmp_path / name)
        train(model, task(), split, recipe, phase, val=data.val, log=log, observer=observer)
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in log.rows]
        return [p.detach() for p in model.state_dict().values()], rows

    straight, figures = trained("straight")
    set_workers(2)
    with pytest.raises(InterruptedError):
        trained("stopped", Stop(at=15))  # 9 steps an epoch
    set_workers(1)
    resumed, again = trained("stopped")
    assert all(torch.equal(a, b) for a, b in zip(straight, resumed, strict=True)) and figures == again


# What is read


def test_a_streamed_folder_is_evaluated_as_one_in_memory(own: Path) -> None:
    """The same pixels to the bit, the same split, the same figures."""
    held = task("imagefolder:imagenet").load(own)
    data, split = load(own, "imagefolder:imagenet", stream=True)
    assert isinstance(held.train, ImageSplit) and held.info == data.info
    for one, other in ((held.val, data.val), (held.test(), data.test())):
        assert same([all_of(one)], [all_of(other)])
    assert torch.equal(held.train.labels, split.labels)
    assert task().references(held, held.test()) == task().references(data, data.test())
    torch.manual_seed(0)
    model = Tiny().eval()
    figures = [task().evaluate(model, part.test(), CPU, Recipe(precision="fp32")) for part in (held, data)]
    assert figures[0] == pytest.approx(figures[1])
    padded = all_of(replace(split, reader=replace(split.reader, size=32, margin=0)))[0]  # pyright: ignore
    crops = [padded[:, :, t : t + 28, s : s + 28] for t in range(5) for s in range(5)]
    for x, _ in epoch(split, 6, 0, 0)[:1]:
        assert all(any((c == i).flatten(1).all(1).any() for c in crops for i in (image, image.flip(2))) for image in x)


def test_training_crops_are_of_every_size_and_mirrored(tmp_path: Path) -> None:
    """RandomResizedCrop shows 8 to 100 % of the area: on a ramp, the range of a crop is its width."""
    ramp = np.repeat(np.linspace(0, 255, 100).astype(np.uint8)[None, :, None], 100, 0).repeat(3, 2)
    for part in ("train", "val"):
        for name in ("cat", "dog"):
            for index in range(2):
                marked = ramp.copy()
                marked[0, 0] = 40 * index + (100 if name == "dog" else 0) + (20 if part == "val" else 0)
                save(tmp_path / "imagenet" / part / name / f"{index}.png", marked)
    _, split = load(tmp_path, normalise={"mean": [0.0] * 3, "std": [1.0] * 3})
    x = torch.cat([x for number in range(40) for x, _ in epoch(split, 2, 0, number)])[:, 0, 14]  # the middle row
    widths = (x[:, -1] - x[:, 0]).abs()
    assert 0.2 < widths.min() < 0.4 and 0.85 < widths.max() <= 1.0
    assert 20 < int((x[:, -1] < x[:, 0]).sum()) < 60  # of 80


def test_archives_hold_the_same_samples_as_folders(own: Path) -> None:
    for part in ("train", "val"):
        shards(own / "packed", own / "imagenet", part, 3)
    (own / "packed/classes.txt").write_text("cat\ndog\n")
    folders, packed = load(own)[0], load(own, "shards:packed")[0]
    assert folders.info == packed.info

    def images(data: Splits) -> set[tuple[int, bytes]]:
        return {(int(label), x.numpy().tobytes()) for x, label in zip(*all_of(data.test()), strict=True)}

    assert images(folders) == images(packed) and len(images(packed)) == 12
    assert load(own, "shards:packed")[0].fingerprint == packed.fingerprint != folders.fingerprint
    shutil.move(own / "imagenet", own / "elsewhere")
    for part, count in (("train", 3), ("val", 3)):
        for number in range(count):
            place = own / "ImageNet" / f"ilsvrc-{part}-{number:06}.tar"
            place.parent.mkdir(exist_ok=True)
            shutil.copy(own / "packed" / part / f"{number:06}.tar", place)
    assert images(load(own)[0]) == images(packed)
    assert [path.name for path in archives_of(own / "ImageNet", "val")] == [f"ilsvrc-val-{i:06}.tar" for i in range(3)]


def test_a_data_set_is_streamed_where_memory_does_not_hold_it(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(task("imagefolder:imagenet").load(own).train, ImageSplit)
    monkeypatch.setattr("tasks.data.decode.MEMORY_LIMIT", 52 * 3 * 32**2 - 1)
    assert isinstance(task("imagefolder:imagenet").load(own).train, Streamed)
    monkeypatch.setattr("tasks.data.decode.MEMORY_LIMIT", 52 * 3 * 32**2)
    assert isinstance(task("imagefolder:imagenet").load(own).train, ImageSplit)


def test_streaming_is_in_an_identity_only_where_it_is_asked_for() -> None:
    from bench.interface.cell import Epochs, Workload

    def identity(**options: Any) -> dict[str, Any]:
        recipes: dict[str, Any] = {"train": Classification.recipe, "finetune": Classification.finetune}
        epochs = Epochs(dense=1, recovery=1)
        return Workload(
            name="a", task="classification", dataset="d", model="m", options=options, epochs=epochs, **recipes
        ).identity()

    assert identity(stream=None) == identity() != identity(stream=True)


# What is refused


@pytest.mark.parametrize(
    ("dataset", "stream", "message"),
    [
        ("digits", True, "stream = true is not allowed: digits is small, and held in memory"),
        ("imagenet", False, "stream = false is not allowed: imagenet is always streamed"),
        ("shards:x", False, "stream = false is not allowed: shards:x is always streamed"),
    ],
)
def test_what_cannot_be_streamed_is_said(dataset: str, stream: bool, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Classification(dataset, "resnet8", stream=stream).validate()


def test_a_count_of_processes_that_is_not_allowed_is_refused() -> None:
    for count in (-1, 129):
        with pytest.raises(RequestError, match=f"workers = {count} is not allowed; use 0 to 128"):
            set_workers(count)


@pytest.mark.parametrize("count", [0, 1])
def test_a_file_that_goes_bad_is_named_whatever_process_reads_it(own: Path, count: int) -> None:
    _, split = load(own)
    bad = cut_short(Path(split.files[0][int(split.indices[3])].path))
    set_workers(count)
    for _ in range(2):  # what was refused once is refused again, by the same processes
        with pytest.raises(DataError, match=rf"^{bad} is not a readable image"):
            epoch(split, 36, 0, 0)


def test_all_is_decoded_before_training_where_it_is_little(own: Path) -> None:
    bad = own / "imagenet/val/cat/002.JPEG"
    bad.write_bytes(huge_png(9000, 9000))
    with pytest.raises(DataError, match=rf"^{bad} has more than the 64 million pixels"):
        load(own)


def test_stray_files_turned_photographs_and_16_bits_are_treated_as_in_memory(own: Path) -> None:
    from PIL import Image

    from tests.tasks.images import save_png16

    folder = own / "imagenet/val/cat"
    (folder / "notes.txt").write_text("x")
    (folder / ".hidden.jpg").write_text("x")
    turned = Image.fromarray(noise(30, 40, seed=5))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / "turned.jpg", exif=exif)
    save_png16(folder / "deep.png", noise(30, 40, seed=6).astype(np.uint16) * 257)
    held = task("imagefolder:imagenet", stream=False).load(own)
    streamed = load(own, "imagefolder:imagenet", stream=True)[0]
    assert len(streamed.test()) == 14 and same([all_of(held.test())], [all_of(streamed.test())])
    (folder / "loop.gif").write_bytes(b"GIF89a")
    with pytest.raises(DataError, match=r"loop\.gif is an image of a kind that is not read"):
        load(own)


@pytest.mark.parametrize("decoded", [True, False])
def test_copies_in_two_parts(own: Path, monkeypatch: pytest.MonkeyPatch, decoded: bool) -> None:
    """Refused in a folder of one's own; left out of the training part of ImageNet, which nobody can mend."""
    if not decoded:
        monkeypatch.setattr("tasks.data.inspected.DECODED_LIMIT", 0)
    shutil.copy(own / "imagenet/val/cat/003.JPEG", own / "imagenet/train/dog/900.jpg")
    shutil.copy(own / "imagenet/val/cat/003.JPEG", own / "imagenet/train/dog/901.jpg")
    with pytest.raises(DataError, match=r"val/cat/003\.JPEG \(test\) has the same content as .*train/dog/90"):
        load(own, "imagefolder:imagenet", stream=True)
    data, split = load(own)
    assert len(split) + len(data.val) == 40
    note = "imagenet: 2 training images left out that stand in the test part as well"
    compared = () if decoded else ("imagenet: parts compared by the bytes of all files",)
    assert data.notes == ("imagenet: streamed", *compared, note)


@pytest.mark.parametrize("decoded", [True, False])
def test_a_copy_of_a_training_image_trains_with_it(own: Path, monkeypatch: pytest.MonkeyPatch, decoded: bool) -> None:
    if not decoded:
        monkeypatch.setattr("tasks.data.inspected.DECODED_LIMIT", 0)
    for index in range(20):
        shutil.copy(own / f"imagenet/train/cat/{index:03}.JPEG", own / f"imagenet/train/cat/{index:03}b.JPEG")
    data, split = load(own)
    assert isinstance(data.val, Streamed)
    names = [{split.files[0].name(i)[:7] for i in part.indices} for part in (split, data.val)]
    assert len(split) + len(data.val) == 60 and not names[0] & names[1]


def test_the_fingerprint_covers_names_and_bytes(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.data.inspected.DECODED_LIMIT", 0)
    first = load(own)[0].fingerprint
    assert load(own)[0].fingerprint == first
    place = own / "imagenet/val/dog/001.JPEG"
    place.rename(place.with_name("renamed.JPEG"))
    renamed = load(own)[0].fingerprint
    place.with_name("renamed.JPEG").rename(place)
    assert load(own)[0].fingerprint == first
    content = place.read_bytes()
    place.write_bytes(content[:-2] + b"\0\0")  # of the same size
    changed = load(own)[0].fingerprint
    assert len({first, renamed, changed}) == 3


def test_bad_archives_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a-train-0.tar"

    def refused(message: str, files: dict[str, bytes], mode: str = "w") -> None:
        with tarfile.open(path, mode) as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
            for name, content in files.items():
                add(archive, name, content)
        with pytest.raises(DataError, match=message):
            read_archives([path])

    refused(r"a-train-0\.tar: 1 has no label; add 1\.cls, or 1\.json with 'label'", {"1.jpg": b"x", "2.cls": b"0"})
    refused(r": 1 has a label and no image; allowed: \.jpg", {"1.cls": b"0", "2.jpg": b"x", "2.cls": b"0"})
    refused(r": 1 has two images, 1\.jpg and 1\.png; keep one", {"1.jpg": b"x", "1.png": b"x", "1.cls": b"0"})
    refused(r"1\.cls holds no label; a whole number from 0 on is needed", {"1.jpg": b"x", "1.cls": b"cat"})
    refused(r"1\.json holds no label", {"1.jpg": b"x", "1.json": b'{"label": -2}'})
    refused(r"1\.gif is an image of a kind that is not read", {"1.gif": b"x", "1.cls": b"0"})
    refused(r"hold no image with a label", {"readme.txt": b"x"})
    refused(r"not a readable archive .* not a compressed one", {"1.jpg": b"x", "1.cls": b"0"}, "w:gz")
    with tarfile.open(path, "w") as archive:
        add(archive, "1.jpg", bytes(9000))
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(DataError, match=r"a-train-0\.tar is cut short: it ends inside 1\.jpg"):
        read_archives([path])
    with pytest.raises(DataError, match=r"has no archives to test on; needed: train/\*\.tar"):
        task(f"shards:{tmp_path}").load(None)


def test_an_archive_that_changes_during_a_run_is_named(own: Path) -> None:
    for part in ("train", "val"):
        shards(own / "packed", own / "imagenet", part, 1)
    _, split = load(own, "shards:packed")
    path = own / "packed/train/000000.tar"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=rf"^{path}: (cat|dog)-\d+\.jpg is shorter than when the data set was listed"):
        epoch(split, 36, 0, 0)


# Memory


class Blank:
    """A reader that reads nothing."""

    def read(self, sample: Sample, *, augment: bool) -> tuple[Tensor, Tensor]:
        return torch.zeros(1, 1, 3, dtype=torch.uint8), torch.tensor(sample.label)


def test_memory_grows_by_some_bytes_a_file(tmp_path: Path) -> None:
    """A million files take 100 MB, whatever they hold: listing, an epoch, halves and a pass in order."""

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            places = Places()
            folder = places.root(tmp_path)
            for index in range(count):
                places.add(folder, f"n01440764/n01440764_{index:06}.JPEG", 110_000)
            labels = np.zeros(count, np.int64)
            split = Streamed(Blank(), (places,), np.arange(count), (0.0,) * 3, (1.0,) * 3, labels)
            seen = sum(len(y) for _, y in split.batches(50, seed=0, epoch=0, device=CPU))
            assert seen == count and len(split.halves(0)[0]) == count // 2
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)  # what is imported and cached once
    small, large = peak(1_000), peak(11_000)
    assert 60 < (large - small) / 10_000 < 130
