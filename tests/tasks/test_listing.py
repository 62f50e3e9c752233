"""What a folder of images holds: suffixes, hidden names, stray files and links, for all readers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.errors import DataError
from tasks.data.listing import folders_in, images_below, images_by_name, list_images
from tests.tasks.images import noise, save


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`b.PNG`, `a.jpeg`, and what is no sample; the path has a space, a # and an umlaut."""
    base = tmp_path / "my # pictures ü"
    save(base / "b.PNG", noise(4, 4))
    save(base / "a.jpeg", noise(4, 4))
    for name in (".DS_Store", "._a.jpeg", "Thumbs.db", "desktop.ini", "notes.txt"):
        (base / name).write_text("x")
    save(base / "__MACOSX" / "c.png", noise(4, 4))
    save(base / ".ipynb_checkpoints" / "d.png", noise(4, 4))
    return base


def test_images_alone_are_listed(folder: Path):
    assert names(list_images(folder, "images")) == ["a.jpeg", "b.PNG"]
    assert names(images_below(folder, "images")) == ["a.jpeg", "b.PNG"]
    assert folders_in(folder, "images") == []
    save(folder / "more" / "e.tif", noise(4, 4))
    assert names(list_images(folder, "images")) == ["a.jpeg", "b.PNG"]
    assert names(images_below(folder, "images")) == ["a.jpeg", "b.PNG", "e.tif"]
    assert names(folders_in(folder, "images")) == ["more"]


def test_folders_without_images_are_refused(tmp_path: Path):
    for read in (list_images, images_below):
        with pytest.raises(DataError, match="nowhere does not exist; needed: pictures"):
            read(tmp_path / "nowhere", "pictures")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file is not a folder; needed: pictures"):
        folders_in(tmp_path / "file", "pictures")
    (tmp_path / "few").mkdir()
    for read in (list_images, images_below):
        with pytest.raises(DataError, match="few has no images; needed: pictures"):
            read(tmp_path / "few", "pictures")
    for name in "abcd":
        (tmp_path / "few" / f"{name}.txt").touch()
    for read in (list_images, images_below):
        with pytest.raises(DataError, match=r"few has no images \(only a\.txt, b\.txt, c\.txt, …\); needed: pictures"):
            read(tmp_path / "few", "pictures")


def test_what_is_no_file_is_not_opened(folder: Path):
    os.mkfifo(folder / "c.png")
    assert names(list_images(folder, "images")) == names(images_below(folder, "images")) == ["a.jpeg", "b.PNG"]


def test_images_of_one_name_are_refused(folder: Path):
    assert names(list(images_by_name(folder, "images").values())) == ["a.jpeg", "b.PNG"]
    save(folder / "b.bmp", noise(4, 4))
    with pytest.raises(
        DataError, match=r"b\.PNG and .*b\.bmp have one name, so that their partners cannot be told apart"
    ):
        images_by_name(folder, "images")


@pytest.mark.parametrize("name", ["a.gif", "photo.HEIC"])
def test_images_that_are_not_read_are_no_stray_files(folder: Path, name: str):
    (folder / name).touch()
    for read in (list_images, images_below):
        with pytest.raises(DataError, match=rf"{name} is an image of a kind that is not read; allowed: \.jpg, .*"):
            read(folder, "images")


def test_a_folder_named_like_an_image_is_refused(folder: Path):
    (folder / "x.png").mkdir()
    with pytest.raises(DataError, match=r"x\.png is a folder with the name of an image"):
        list_images(folder, "images")


def test_links_are_followed_but_in_circles(folder: Path, tmp_path: Path):
    save(tmp_path / "elsewhere" / "far.png", noise(4, 4))
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "c.png").symlink_to(tmp_path / "elsewhere" / "far.png")
    assert names(images_below(folder, "images")) == ["a.jpeg", "b.PNG", "c.png", "far.png"]
    (tmp_path / "elsewhere" / "back").symlink_to(folder)
    with pytest.raises(DataError, match=r"linked/back is a link to a folder that holds it; take it away"):
        images_below(folder, "images")
    (tmp_path / "elsewhere" / "back").unlink()
    (folder / "itself").symlink_to(folder / "itself")
    for read in (list_images, images_below, folders_in):
        with pytest.raises(DataError, match="itself is a link that leads nowhere"):
            read(folder, "images")
