"""Labelled images: what is read, how it is augmented, and what is refused by name."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from PIL import Image

from bench.errors import DataError, RequestError
from tasks.classification import Classification
from tasks.data.digits import read_handwritten
from tasks.data.images import ImageSplit, evenly, make_split, stratified_split
from tasks.data.labelled import read_digits
from tasks.data.shipped import shipped
from tests.tasks.images import huge_png, save_png16

CPU = torch.device("cpu")


def split(n: int = 12, margin: int = 2, flip: bool = True) -> ImageSplit:
    images = np.random.default_rng(0).integers(0, 256, (n, 6, 5, 3), np.uint8)
    return make_split(images, np.arange(n), mean=(10.0,) * 3, std=(2.0,) * 3, margin=margin, flip=flip)


def hashes(images: torch.Tensor) -> set[str]:
    return {hashlib.sha256(i.numpy().tobytes()).hexdigest() for i in images}


def test_every_augmented_image_is_a_crop_of_its_padded_original_or_its_mirror() -> None:
    data = split()
    for x, y in data.batches(4, seed=1, epoch=0, device=CPU):
        assert x.shape == (4, 3, 6, 5) and x.is_contiguous(memory_format=torch.channels_last)
        for image, label in zip(x, y, strict=True):
            padded = ((data.images[label].float() - 10) / 2).permute(2, 0, 1)  # [3, 10, 9]
            crops = [padded[:, t : t + 6, s : s + 5] for t in range(5) for s in range(5)]
            assert any(torch.equal(image, c) or torch.equal(image, c.flip(2)) for c in crops)


def test_shifts_and_flips_all_occur_and_can_be_off() -> None:
    data = split(n=400)
    x, y = next(iter(data.batches(400, seed=0, epoch=0, device=CPU)))
    centre = ((data.images[y][:, 2:8, 2:7].float() - 10) / 2).permute(0, 3, 1, 2)
    untouched = (x == centre).flatten(1).all(1).float().mean()
    assert 0.005 < untouched < 0.06  # 1 in 50
    plain = split(margin=0, flip=False)
    x, y = next(iter(plain.batches(12, seed=0, epoch=0, device=CPU)))
    assert torch.equal(x, ((plain.images[y].float() - 10) / 2).permute(0, 3, 1, 2))


def test_an_epoch_depends_on_seed_and_epoch_alone() -> None:
    data = split()

    def epoch(seed: int, number: int) -> torch.Tensor:
        return torch.cat([x for x, _ in data.batches(4, seed=seed, epoch=number, device=CPU)])

    first = epoch(0, 0)
    epoch(0, 1)
    assert torch.equal(first, epoch(0, 0))
    assert not torch.equal(first, epoch(0, 1)) and not torch.equal(first, epoch(1, 0))


def test_an_epoch_holds_every_sample_once_but_for_a_partial_batch() -> None:
    labels = torch.cat([y for _, y in split().batches(5, seed=0, epoch=0, device=CPU)])
    assert len(labels) == 10 == len(set(labels.tolist()))
    ordered = torch.cat([y for _, y in split().ordered(5, CPU)])
    assert ordered.tolist() == list(range(12))


def test_halves_are_disjoint_and_complete() -> None:
    a, b = split().halves(3)
    assert len(a) == len(b) == 6
    assert set(a.labels.tolist()) | set(b.labels.tolist()) == set(range(12))


def test_a_stratified_split_takes_every_class() -> None:
    labels = np.repeat(np.arange(5), [40, 20, 10, 4, 2])
    kept, held = stratified_split(labels, 0.1, seed=0)
    assert np.bincount(labels[held]).tolist() == [4, 2, 1, 1, 1]
    assert sorted([*kept, *held]) == list(range(76))


def test_digits_are_complete_and_their_splits_disjoint() -> None:
    data = Classification("digits", "resnet8").load(None)
    train, val, test = data.train, data.val, data.test()
    assert isinstance(train, ImageSplit) and isinstance(val, ImageSplit) and isinstance(test, ImageSplit)
    assert len(train) + len(val) + len(test) == 1797
    core = train.images[:, train.margin : -train.margin, train.margin : -train.margin]
    sets = [hashes(core), hashes(val.images), hashes(test.images)]
    assert not sets[0] & sets[1] and not sets[0] & sets[2] and not sets[1] & sets[2]
    assert data.info.height == data.info.width == 16 and len(data.info.classes) == 10


def test_digits_are_those_that_scikit_learn_gives() -> None:
    from sklearn.datasets import load_digits

    values, labels = read_handwritten()
    given: Any = load_digits()
    assert np.array_equal(values, given.images) and values.dtype == given.images.dtype
    assert np.array_equal(labels, given.target) and labels.dtype == np.int64


def test_what_a_package_does_not_ship_is_named() -> None:
    with pytest.raises(DataError, match=r"this version of scikit-image does not ship nothing\.png$"):
        shipped("skimage", "scikit-image", "data", "nothing.png")
    with pytest.raises(DataError, match=r"^x\.png comes with a package, which is not installed$"):
        shipped("no_such_package", "a package", "x.png")


def test_digits_enlarge() -> None:
    assert read_digits(8).train_images.max() == 255
    assert read_digits(32).test_images.shape[1:] == (32, 32, 1)


def test_a_training_size_is_met_exactly_and_evenly() -> None:
    data = Classification("digits", "resnet8", train_size=333).load(None)
    assert isinstance(data.train, ImageSplit)
    counts = torch.bincount(data.train.labels)
    assert len(data.train) == 333 and counts.max() - counts.min() <= 8
    with pytest.raises(RequestError, match="train_size = 5000 is not allowed for digits: 1213 training samples"):
        Classification("digits", "resnet8", train_size=5000).load(None)


# CIFAR, in both layouts


def pixels(seed: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def jpeg(seed: int, size: int = 32, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels(seed, size)).save(buffer, kind)
    return buffer.getvalue()


def write_parquet(path: Path, blobs: list[bytes], labels: list[int], image: str = "img", label: str = "label") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {image: [{"bytes": b, "path": None} for b in blobs], label: labels}
    parquet.write_table(pa.table(table), path)


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    for part, start in (("train", 0), ("test", 1000)):
        blobs = [jpeg(start + i, kind="PNG") for i in range(40)]
        write_parquet(tmp_path / "cifar10" / f"{part}.parquet", blobs, [i % 10 for i in range(40)])
    return tmp_path


def test_cifar_from_parquet(hub: Path) -> None:
    data = Classification("cifar10", "resnet20").load(hub)
    assert isinstance(data.train, ImageSplit)
    assert len(data.train) == 30 and len(data.val) == 10 and len(data.test()) == 40
    first = np.random.default_rng(1000).integers(0, 256, (32, 32, 3), np.uint8)
    test = data.test()
    assert isinstance(test, ImageSplit)
    assert np.array_equal(test.images[0].numpy(), first)  # PNG keeps every pixel
    assert data.info.classes[3] == "cat" and data.notes == ()


@pytest.mark.parametrize("place", ["cifar10/plain_text", "cifar10/data", "cifar10", "plain_text", "data"])
def test_the_hubs_own_file_names(hub: Path, place: str) -> None:
    own = Classification("cifar10", "resnet20")
    plain = own.load(hub)
    for part in ("train", "test"):
        (hub / "cifar10" / f"{part}.parquet").unlink()
    start = {"train": 0, "test": 1000}
    for part, count in (("train", 2), ("test", 1)):
        for shard in range(count):
            rows = range(40 * shard // count, 40 * (shard + 1) // count)
            path = hub / place / f"{part}-{shard:05d}-of-{count:05d}.parquet"
            write_parquet(path, [jpeg(start[part] + i, kind="PNG") for i in rows], [i % 10 for i in rows])
    assert own.load(hub).fingerprint == plain.fingerprint
    (hub / place / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(DataError, match=r"lacks train-00001-of-00002\.parquet; all 2 files are needed"):
        own.load(hub)
    (hub / place / "train-00000-of-00002.parquet").unlink()
    with pytest.raises(DataError, match=r"has no train\.parquet \(nor train-00000-of-00001\.parquet\)"):
        own.load(hub)


def test_cifar100_of_the_hub(tmp_path: Path) -> None:
    for part, start in (("train", 0), ("test", 500)):
        path = tmp_path / f"cifar100/cifar100/{part}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        blobs = [{"bytes": jpeg(start + i, kind="PNG"), "path": None} for i in range(6)]
        fine = [99, 99, 7, 7, 0, 0]
        parquet.write_table(pa.table({"img": blobs, "fine_label": fine, "coarse_label": [1] * 6}), path)
    data = Classification("cifar100", "resnet20").load(tmp_path)
    test = data.test()
    assert isinstance(test, ImageSplit) and test.labels.tolist() == [99, 99, 7, 7, 0, 0]
    assert len(data.info.classes) == 100
    with pytest.raises(DataError, match="needed: img \\(or image\\) and label"):
        Classification("cifar10", "resnet20").load(tmp_path / "cifar100" / "cifar100")


def test_a_huge_image_in_a_parquet_file_is_refused(hub: Path) -> None:
    write_parquet(hub / "cifar10" / "test.parquet", [jpeg(2000), huge_png(30_000, 30_000)], [0, 1])
    with pytest.raises(DataError, match=r"test\.parquet, row 1, has more than the 64 million pixels"):
        Classification("cifar10", "resnet20").load(hub)


def test_jpeg_is_noted(hub: Path) -> None:
    write_parquet(hub / "cifar10" / "test.parquet", [jpeg(i) for i in range(10)], list(range(10)))
    assert Classification("cifar10", "resnet20").load(hub).notes == ("cifar10: re-encoded as JPEG",)


def torchvision_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: np.ndarray, test: np.ndarray) -> Path:
    """CIFAR-10 of these images [N, 3072] in torchvision's layout, with the checksums to match."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()

    def write(name: str, content: Any) -> tuple[str, str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return name, hashlib.md5((folder / name).read_bytes()).hexdigest()

    def batch(images: np.ndarray) -> dict[str, Any]:
        return {"data": images, "labels": [i % 10 for i in range(len(images))]}

    meta = write("batches.meta", {"label_names": [f"c{i}" for i in range(10)]})
    monkeypatch.setattr(CIFAR10, "train_list", [write("data_batch_1", batch(train))])
    monkeypatch.setattr(CIFAR10, "test_list", [write("test_batch", batch(test))])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    return folder


def test_cifar_in_torchvisions_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 3072), np.uint8)
    folder = torchvision_cifar(tmp_path, monkeypatch, images[:40], images[40:])
    data = Classification("cifar10", "resnet20").load(tmp_path)
    assert len(data.train) + len(data.val) == 40 and len(data.test()) == 20
    assert data.info.classes[:2] == ("c0", "c1") and data.notes == ()
    # One changed byte fails the checksum, so a foreign pickle is never opened.
    (folder / "data_batch_1").write_bytes(b"\x80" + (folder / "data_batch_1").read_bytes()[1:] + b"x")
    with pytest.raises(DataError, match="checksums"):
        Classification("cifar10", "resnet20").load(tmp_path)


def test_copies_in_the_published_files_do_not_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 3072), np.uint8)
    images[[3, 17]] = images[[45, 59]]
    torchvision_cifar(tmp_path, monkeypatch, images[:40], images[40:])
    data = Classification("cifar10", "resnet20", val_fraction=0.25).load(tmp_path)
    assert len(data.train) + len(data.val) == 38 and len(data.test()) == 20
    assert data.notes == ("cifar10: 2 training images left out that stand in the test part as well",)


def test_a_data_folder_is_asked_for() -> None:
    with pytest.raises(DataError, match="give --data DIR or set PRUNEBENCH_DATA"):
        Classification("cifar10", "resnet20").load(None)


def test_a_missing_folder_or_data_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data folder .*absent does not exist"):
        Classification("cifar10", "resnet20").load(tmp_path / "absent")
    with pytest.raises(DataError, match=r"no complete cifar100 below .*cifar-100-python"):
        Classification("cifar100", "resnet20").load(tmp_path)


def test_truncated_and_foreign_parquet_files_are_named(hub: Path) -> None:
    path = hub / "cifar10" / "train.parquet"
    whole = path.read_bytes()
    task = Classification("cifar10", "resnet20")
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"train\.parquet is not a readable parquet file"):
        task.load(hub)
    path.write_bytes(b"hello")
    with pytest.raises(DataError, match=r"train\.parquet is not a readable parquet file"):
        task.load(hub)
    write_parquet(path, [jpeg(0)], [0], image="picture")
    with pytest.raises(DataError, match=r"has columns picture, label; needed: img \(or image\) and label"):
        task.load(hub)
    write_parquet(path, [jpeg(0), jpeg(1)[:200]], [0, 1])
    with pytest.raises(DataError, match=r"train\.parquet, row 1, is not a readable image"):
        task.load(hub)
    write_parquet(path, [jpeg(0), jpeg(1, size=16)], [0, 1])
    with pytest.raises(DataError, match=r"parquet, row 1, is an image of 16×16 pixels, not the 32×32 of cifar10"):
        task.load(hub)
    write_parquet(path, [jpeg(0), None], [0, 1])  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match=r"row 1, is not a readable image \(it holds no bytes of a file\)"):
        task.load(hub)
    write_parquet(path, [], [])
    with pytest.raises(DataError, match=r"train\.parquet has no rows"):
        task.load(hub)
    write_parquet(path, [jpeg(0), jpeg(1)], [0, None])  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match=r"holds empty values in column label; integers 0 to 9 are needed"):
        task.load(hub)
    write_parquet(path, [jpeg(0)], ["cat"])  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match=r"holds string in column label; integers 0 to 9 are needed"):
        task.load(hub)
    write_parquet(path, [jpeg(0), jpeg(1)], [0, 10])
    with pytest.raises(DataError, match="labels 0 to 10, not the 0 to 9"):
        task.load(hub)


@pytest.mark.data
def test_the_real_cifar10(data_root: Path) -> None:
    data = Classification("cifar10", "resnet20").load(data_root)
    assert (len(data.train), len(data.val), len(data.test())) == (45_000, 5_000, 10_000)
    assert data.notes == ("cifar10: re-encoded as JPEG",)
    test = data.test()
    assert isinstance(data.train, ImageSplit) and isinstance(test, ImageSplit) and isinstance(data.val, ImageSplit)
    train = hashes(data.train.images[:, 4:-4, 4:-4])
    assert not train & hashes(data.val.images) and not train & hashes(test.images)
    assert torch.bincount(test.labels).tolist() == [1000] * 10


# Folders of images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ("train", "test"):
        for label, name in enumerate(("cat", "dog")):
            for i in range(10):
                path = tmp_path / "pets" / part / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                shade = np.full((20 + i, 30, 3), 100 * label + i + (50 if part == "test" else 0), np.uint8)
                Image.fromarray(shade).save(path)
    return tmp_path


def test_an_image_folder(folder: Path) -> None:
    data = Classification("imagefolder:pets", "timm:resnet10t", image_size=16).load(folder)
    assert data.info.classes == ("cat", "dog")
    assert (len(data.train), len(data.val), len(data.test())) == (18, 2, 20)
    x, _ = next(iter(data.train.batches(4, seed=0, epoch=0, device=CPU)))
    assert x.shape == (4, 3, 16, 16)
    test = data.test()
    assert isinstance(test, ImageSplit)
    shades = {int(i.float().mean()) - 50 - 100 * int(y) for i, y in zip(test.images, test.labels, strict=True)}
    assert shades == set(range(10))


def test_class_folders_whose_names_are_no_text_are_refused(folder: Path) -> None:
    for part in ("train", "test"):
        (folder / "pets" / part / "cat").rename(folder / "pets" / part / "caf\udce9")
    with pytest.raises(DataError, match=r"^class folder 'caf\\udce9' in .* has a name that is not UTF-8; rename it$"):
        Classification("imagefolder:pets", "timm:resnet10t", image_size=16).load(folder)


def test_image_folders_that_cannot_be_used_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Classification("imagefolder:pets", "timm:resnet10t", image_size=16)
    with pytest.raises(DataError, match="absent does not exist"):
        Classification("imagefolder:absent", "timm:resnet10t").load(folder)
    monkeypatch.setattr("tasks.data.labelled.MEMORY_LIMIT", 1000)
    with pytest.raises(DataError, match=r"more than the .* held in memory; lower image_size"):
        task.load(folder)
    monkeypatch.undo()
    cut = folder / "pets/train/cat/3.png"
    cut.write_bytes(cut.read_bytes()[:60])
    with pytest.raises(DataError, match=r"3\.png is not a readable image"):
        task.load(folder)
    cut.unlink()
    (folder / "pets/test/bird").mkdir()
    (folder / "pets/train/fish").mkdir()
    with pytest.raises(DataError, match=r"different classes: fish only in train and bird only in test; both need"):
        task.load(folder)
    (folder / "pets/train/bird").mkdir()
    (folder / "pets/train/fish").rmdir()
    (folder / "pets/train/bird/notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"train/bird has no images \(only notes\.txt\)"):
        task.load(folder)


def test_stray_files_and_hidden_folders_are_passed_over(folder: Path) -> None:
    own = Classification("imagefolder:pets", "timm:resnet10t", image_size=16)
    before = own.load(folder)
    for part in ("train", "test"):
        base = folder / "pets" / part
        for name in (".DS_Store", "Thumbs.db", "cat/Thumbs.db", "cat/desktop.ini", "cat/notes.txt", "cat/._0.png"):
            (base / name).write_text("x")
        for name in ("__MACOSX", ".ipynb_checkpoints", "dog/.ipynb_checkpoints", "dog/__MACOSX"):
            (base / name).mkdir()
            (base / name / "0-checkpoint.png").write_text("no image")
    after = own.load(folder)
    assert after.info.classes == ("cat", "dog")
    assert (len(after.train), len(after.val), len(after.test())) == (18, 2, 20)
    assert after.fingerprint == before.fingerprint


def test_an_image_in_two_parts_of_a_folder_is_refused(folder: Path) -> None:
    own = Classification("imagefolder:pets", "timm:resnet10t", image_size=16)
    pets = folder / "pets"
    (pets / "test/cat/copy.png").write_bytes((pets / "train/cat/3.png").read_bytes())
    shared = r"test/cat/copy\.png \(test\) has the same content as .*train/cat/3\.png \(train\); the parts must be"
    with pytest.raises(DataError, match=shared):
        own.load(folder)
    # In another file format and with another label it is the same image still.
    (pets / "test/cat/copy.png").unlink()
    Image.open(pets / "train/cat/3.png").save(pets / "test/dog/copy.bmp")
    with pytest.raises(DataError, match=r"test/dog/copy\.bmp \(test\) has the same content as .*train/cat/3\.png"):
        own.load(folder)


def test_a_row_in_both_parquet_files_is_refused(hub: Path) -> None:
    write_parquet(hub / "cifar10" / "test.parquet", [jpeg(2000), jpeg(7, kind="PNG")], [0, 1])
    with pytest.raises(
        DataError, match=r"test\.parquet, row 1 \(test\) has the same content as .*train\.parquet, row 7"
    ):
        Classification("cifar10", "resnet20").load(hub)


def test_copies_among_the_training_images_stay_on_one_side(folder: Path) -> None:
    for i in range(10):
        (folder / f"pets/train/cat/copy{i}.png").write_bytes((folder / f"pets/train/cat/{i}.png").read_bytes())
    for fraction in (0.2, 0.5):
        own = Classification("imagefolder:pets", "timm:resnet10t", image_size=16, val_fraction=fraction)
        data = own.load(folder)
        assert isinstance(data.train, ImageSplit) and isinstance(data.val, ImageSplit)
        assert not hashes(data.train.images) & hashes(data.val.images)
        assert len(data.train) + len(data.val) == 30 and len(data.val) > 0


def test_the_fingerprint_covers_all_three_parts(folder: Path) -> None:
    own = Classification("imagefolder:pets", "timm:resnet10t", image_size=16)
    first = own.load(folder).fingerprint
    assert own.load(folder).fingerprint == first
    digests = {first}
    for part, name in (("test", "cat/0.png"), ("train", "cat/0.png"), ("train", "dog/9.png")):
        Image.fromarray(np.full((20, 30, 3), 200 + len(digests), np.uint8)).save(folder / "pets" / part / name)
        digests.add(own.load(folder).fingerprint)
    # A test label alone changes it as well.
    (folder / "pets/test/cat/5.png").rename(folder / "pets/test/dog/a5.png")
    digests.add(own.load(folder).fingerprint)
    assert len(digests) == 5


def test_the_validation_part_is_in_the_fingerprint(hub: Path) -> None:
    own = Classification("cifar10", "resnet20")
    data = own.load(hub)
    assert isinstance(data.val, ImageSplit)
    held = hashes(data.val.images)
    blobs = [jpeg(i, kind="PNG") for i in range(40)]
    index = next(i for i in range(40) if hashes(torch.from_numpy(pixels(i))[None]) & held)
    blobs[index] = jpeg(5000, kind="PNG")
    write_parquet(hub / "cifar10" / "train.parquet", blobs, [i % 10 for i in range(40)])
    changed = own.load(hub)
    assert isinstance(data.train, ImageSplit) and isinstance(changed.train, ImageSplit)
    assert torch.equal(changed.train.images, data.train.images) and changed.fingerprint != data.fingerprint


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_photograph_on_its_side_trains_upright(folder: Path, orientation: int) -> None:
    upright = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    turns = {3: 2, 6: 1, 8: 3}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(np.rot90(upright, turns))).save(folder / "pets/test/cat/0.png", exif=exif)
    # Pixels of the shown image, at its own size.
    data = Classification("imagefolder:pets", "timm:resnet10t", image_size=40).load(folder)
    test = data.test()
    assert isinstance(test, ImageSplit)
    expected = Image.fromarray(upright).resize((44, 44), Image.Resampling.BILINEAR)
    assert np.array_equal(test.images[0].numpy(), np.asarray(expected))


def test_grey_and_colour_of_any_depth_in_one_folder(folder: Path) -> None:
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16)[None].repeat(256, 0)
    save_png16(folder / "pets/test/cat/0.png", ramp[..., None])
    data = Classification("imagefolder:pets", "timm:resnet10t", image_size=238).load(folder)
    test = data.test()
    assert isinstance(test, ImageSplit) and test.images.shape[1:] == (272, 272, 3)
    image = test.images[0].float()
    assert float(image.mean()) == pytest.approx(127.5, abs=0.5) and len(torch.unique(test.images[0])) == 256
    assert torch.equal(image[..., 0], image[..., 2])


def test_floats_are_refused_in_folders(folder: Path) -> None:
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(folder / "pets/test/cat/f.tif")
    with pytest.raises(DataError, match=r"f\.tif holds floating-point values"):
        Classification("imagefolder:pets", "timm:resnet10t", image_size=16).load(folder)


def test_rare_classes_keep_a_training_sample() -> None:
    labels = np.repeat(np.arange(4), [2, 1, 3, 30])
    for fraction in (0.1, 0.5, 0.99):
        kept, held = stratified_split(labels, fraction, seed=0)
        assert set(labels[kept]) == {0, 1, 2, 3} and set(labels[held]) == {0, 2, 3}
    for count in (4, 5, 6, 20, 36):
        part = evenly(labels, count, seed=1)
        assert len(set(part.tolist())) == len(part) == count and set(labels[part]) == {0, 1, 2, 3}


def test_too_few_samples_for_the_classes_are_refused(folder: Path) -> None:
    with pytest.raises(RequestError, match=r"train_size = 9 is not allowed for digits: its 10 classes need"):
        Classification("digits", "resnet8", train_size=9).load(None)
    for name in ("cat", "dog"):
        for i in range(1, 10):
            (folder / f"pets/train/{name}/{i}.png").unlink()
    with pytest.raises(RequestError, match="imagefolder:pets leaves no image for validation"):
        Classification("imagefolder:pets", "timm:resnet10t", image_size=16).load(folder)
