"""Image files of every kind are brought to 8 bits or refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.errors import DataError
from tasks.data.content import digest, fingerprint, refuse_leaks
from tasks.data.decode import PIXEL_LIMIT, Encoded, in_parallel, read_image, read_labels, read_rgb
from tests.tasks.images import cut_short, huge_png, noise, save, save_png16


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_keep_their_range(tmp_path: Path, channels: int):
    pixels = np.linspace(0, 65535, 8 * 9 * channels).astype(np.uint16).reshape(8, 9, channels)
    image = read_image(save_png16(tmp_path / "deep.png", pixels))
    assert image.dtype == np.uint8 and image.shape == (8, 9, channels)
    np.testing.assert_allclose(image, pixels / 257.0, atol=1.0)


def test_grey_rgba_palette_and_cmyk(tmp_path: Path):
    pixels = noise(10, 12)
    grey = read_image(save(tmp_path / "grey.png", pixels[..., :1]))
    assert grey.shape == (10, 12, 1)
    assert (read_rgb(tmp_path / "grey.png") == grey).all()
    alpha = np.concatenate([pixels, np.full((10, 12, 1), 7, np.uint8)], 2)
    assert (read_image(save(tmp_path / "rgba.png", alpha)) == pixels).all()
    Image.fromarray(pixels).quantize(16).save(tmp_path / "palette.png")
    assert read_image(tmp_path / "palette.png").shape == (10, 12, 3)
    Image.fromarray(pixels).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    assert read_image(tmp_path / "cmyk.jpg").shape == (10, 12, 3)


@pytest.mark.parametrize("read", [read_image, read_labels])
def test_unreadable_files_are_named(tmp_path: Path, read):
    broken = cut_short(save(tmp_path / "broken.png", noise(64, 64)))
    text = tmp_path / "text.png"
    text.write_text("no image")
    for path in (broken, text, tmp_path / "missing.png"):
        with pytest.raises(DataError, match=path.name):
            read(path)


def test_empty_files_are_named(tmp_path: Path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(DataError, match=r"empty\.png is not a readable image \(it is empty\)"):
        read_image(tmp_path / "empty.png")
    with pytest.raises(DataError, match=r"a\.parquet, row 3, is not a readable image \(it is not of a known format\)"):
        read_image(Encoded(b"hello", "a.parquet, row 3,"))


def test_a_file_and_its_bytes_are_read_alike(tmp_path: Path):
    path = save(tmp_path / "a.png", noise(9, 7))
    assert (read_image(Encoded(path.read_bytes(), "row 0")) == read_image(path)).all()


@pytest.mark.filterwarnings("error")
def test_every_mode_of_a_grey_ramp(tmp_path: Path):
    """A ramp over the full range is the same ramp, whatever the file keeps it as."""
    ramp = np.arange(256, dtype=np.uint8)[None].repeat(4, 0)
    deep = ramp.astype(np.uint16) * 257
    grey, alpha = Image.fromarray(ramp), Image.fromarray(ramp[:, ::-1].copy())
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    Image.frombytes("I;16B", (256, 4), deep.astype(">u2").tobytes()).save(tmp_path / "big-endian.tif")
    (tmp_path / "deep.pgm").write_bytes(b"P5 256 4 65535\n" + deep.astype(">u2").tobytes())
    grey.save(tmp_path / "grey.pgm")
    Image.merge("LA", (grey, alpha)).save(tmp_path / "alpha.png")
    for path in sorted(tmp_path.iterdir()):
        image = read_image(path)
        assert image.shape == (4, 256, 1) and (image[..., 0] == ramp).all(), path
    palette = grey.convert("P")
    palette.save(tmp_path / "clear.png", transparency=bytes(range(256)))
    Image.merge("RGBA", (grey, grey, grey, alpha)).save(tmp_path / "clear.webp", lossless=True, exact=True)
    Image.merge("CMYK", [Image.fromarray(255 - ramp)] * 3 + [Image.new("L", (256, 4))]).save(tmp_path / "inks.tif")
    for name in ("clear.png", "clear.webp", "inks.tif"):
        image = read_image(tmp_path / name)
        assert image.shape == (4, 256, 3) and (image == ramp[..., None]).all(), name
    Image.fromarray(ramp > 127).save(tmp_path / "bits.png")
    assert (read_image(tmp_path / "bits.png")[..., 0] == 255 * (ramp > 127)).all()


def test_colours_that_cannot_be_brought_to_rgb_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(*_: object) -> None:
        raise ValueError("conversion not supported")

    Image.new("LAB", (4, 4), (255, 128, 128)).save(tmp_path / "lab.tif")
    assert read_image(tmp_path / "lab.tif").min() > 250
    monkeypatch.setattr(Image.Image, "convert", refused)
    with pytest.raises(DataError, match=r"lab\.tif is an image of mode LAB; grey, RGB, CMYK or palette is needed"):
        read_image(tmp_path / "lab.tif")


@pytest.mark.parametrize("kind", ["int32", "int16"])
def test_values_without_a_white_are_refused(tmp_path: Path, kind: str):
    # As 16 bits these would all be black.
    values = np.arange(12, dtype=kind).reshape(3, 4)
    if kind == "int32":
        Image.fromarray(values).save(tmp_path / "deep.tif")
    else:
        Image.fromarray(values.astype(np.uint16)).save(tmp_path / "deep.tif", tiffinfo={339: 2})
    with pytest.raises(DataError, match=r"deep\.tif holds (32|16) bits a channel with a sign; an image of 8"):
        read_image(tmp_path / "deep.tif")
    assert (read_labels(tmp_path / "deep.tif") == values).all()


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_several_images_in_a_file_are_refused(tmp_path: Path, suffix: str):
    frames = [Image.fromarray(noise(8, 8, seed=i)) for i in range(3)]
    frames[0].save(tmp_path / f"film.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=rf"film\.{suffix} holds 3 images \(an animation or pages\)"):
        read_image(tmp_path / f"film.{suffix}")


def test_the_first_picture_of_a_telephones_file_is_read(tmp_path: Path):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "photo.jpg", "MPO", save_all=True, append_images=frames[1:])
    assert Image.open(tmp_path / "photo.jpg").format == "MPO"
    assert np.abs(read_image(tmp_path / "photo.jpg") - np.array([254.0, 0, 0])).max() < 3


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "webp"])
@pytest.mark.parametrize(
    ("orientation", "turns", "mirror"), [(2, 0, True), (3, 2, False), (6, 1, False), (8, 3, False)]
)
def test_photographs_stand_upright(tmp_path: Path, suffix: str, orientation: int, turns: int, mirror: bool):
    upright = noise(24, 40)
    stored = np.rot90(upright[:, ::-1] if mirror else upright, turns)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, quality=95)
    image = read_image(path)
    assert image.shape == upright.shape
    assert np.abs(image.astype(int) - upright).mean() < (8 if suffix in ("jpg", "webp") else 1e-9)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("kind", ["L", "P", "I;16"])
def test_masks_are_turned_as_images_are(tmp_path: Path, suffix: str, kind: str):
    labels = np.arange(24, dtype=np.uint16 if kind == "I;16" else np.uint8).reshape(4, 6)
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(labels)))
    (stored.convert("P") if kind == "P" else stored).save(tmp_path / f"mask.{suffix}", exif=exif)
    assert (read_labels(tmp_path / f"mask.{suffix}") == labels).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("side", [8_001, 10_000, 30_000])
def test_huge_images_are_refused_by_their_header(tmp_path: Path, side: int):
    (tmp_path / "huge.png").write_bytes(huge_png(side, side))
    for read in (read_image, read_labels):
        with pytest.raises(DataError, match=r"huge\.png has more than the 64 million pixels that an image may have"):
            read(tmp_path / "huge.png")


def test_the_largest_image_is_decoded(tmp_path: Path):
    # Its header is allowed; that the rows are not there is another matter.
    (tmp_path / "large.png").write_bytes(huge_png(PIXEL_LIMIT // 8, 8))
    with pytest.raises(DataError, match=r"large\.png is not a readable image"):
        read_image(tmp_path / "large.png")


def test_masks_that_were_altered_are_refused(tmp_path: Path):
    values = np.arange(20, dtype=np.uint8).reshape(4, 5)
    for name, options in (("mask.jpg", {}), ("mask.tif", {"compression": "jpeg"})):
        Image.fromarray(values).save(tmp_path / name, **options)
        with pytest.raises(DataError, match=rf"{name} is a mask in JPEG, which alters label values; a PNG is needed"):
            read_labels(tmp_path / name)
    (tmp_path / "mask.pgm").write_bytes(b"P5 5 4 19\n" + values.tobytes())
    with pytest.raises(DataError, match=r"mask\.pgm is a mask with the largest value 19; 255, 65535"):
        read_labels(tmp_path / "mask.pgm")
    (tmp_path / "mask.pgm").write_bytes(b"P5 5 4 255\n" + values.tobytes())
    assert (read_labels(tmp_path / "mask.pgm") == values).all()


def test_masks_of_few_bits_keep_their_values(tmp_path: Path):
    values = np.arange(20, dtype=np.uint8).reshape(4, 5) % 4
    palette = Image.fromarray(values).convert("P")
    palette.putpalette([90, 0, 0, 0, 80, 0, 0, 0, 70, 1, 1, 1])
    palette.save(tmp_path / "palette.png", bits=2, transparency=bytes([0, 128, 255, 255]))
    assert (read_labels(tmp_path / "palette.png") == values).all()
    Image.fromarray(values > 1).save(tmp_path / "bits.png")
    assert (read_labels(tmp_path / "bits.png") == (values > 1)).all()
    deep = np.full((4, 5), 40_000, np.uint16)
    assert (read_labels(save_png16(tmp_path / "deep.png", deep[..., None])) == 40_000).all()


def test_floating_point_images_are_refused(tmp_path: Path):
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(DataError, match=r"float\.tif holds floating-point"):
        read_image(tmp_path / "float.tif")


def test_masks_keep_their_values(tmp_path: Path):
    values = np.arange(20, dtype=np.uint8).reshape(4, 5)
    assert (read_labels(save(tmp_path / "grey.png", values)) == values).all()
    palette = Image.fromarray(values)
    palette = palette.convert("P")
    palette.putpalette([255 - i // 3 for i in range(768)])
    palette.save(tmp_path / "palette.png")
    assert (read_labels(tmp_path / "palette.png") == values).all()
    with pytest.raises(DataError, match=r"colour\.png is a mask of mode RGB"):
        read_labels(save(tmp_path / "colour.png", noise(4, 5)))


def test_a_shared_image_is_a_leak_whatever_its_file():
    first, second = noise(4, 4), noise(4, 4, seed=1)
    refuse_leaks({"train": [("a.png", digest(first))], "test": [("b.png", digest(second))]})
    parts = {"train": [("a.png", digest(first)), ("d.png", digest(first))], "test": [("c.bmp", digest(first))]}
    with pytest.raises(DataError, match=r"c\.bmp \(test\) has the same content as a\.png \(train\); the parts must be"):
        refuse_leaks(parts)
    assert digest(first[..., :1]) == digest(np.repeat(first[..., :1], 3, 2)) != digest(first)
    assert digest(first[:2]) != digest(first[:2].reshape(4, 2, 3))


def test_a_fingerprint_is_of_values_shapes_and_order():
    a, b = np.arange(6, dtype=np.uint8), np.arange(6, dtype=np.int64)
    assert fingerprint(a, b) == fingerprint(a.copy(), b.copy())
    assert len({fingerprint(a, b), fingerprint(b, a), fingerprint(a.reshape(2, 3), b), fingerprint(a, b + 1)}) == 4


@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_what_threads_read_comes_in_order(count: int):
    names = [str(i) for i in range(count)]
    read = in_parallel(lambda i, name: (i, name), range(count), names)
    assert read == list(enumerate(names))


def test_the_first_file_that_cannot_be_read_is_named():
    def read(index: int) -> int:
        if index >= 700:
            raise DataError(f"{index} is damaged")
        return index

    with pytest.raises(DataError, match=r"^700 is damaged"):
        in_parallel(read, range(1000))
