"""Image files of every kind are brought to 8 bits or refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.errors import DataError
from tasks.data.decode import read_image, read_labels, read_rgb
from tests.tasks.images import cut_short, noise, save, save_png16


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
