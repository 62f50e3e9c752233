"""What a folder of images holds: the one rule of all readers for suffixes, hidden names, stray files and links."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from bench.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
"""Of the files that are read, in small or capital letters."""
OTHER_IMAGES = (
    ".gif", ".heic", ".heif", ".avif", ".jp2", ".jpe", ".jfif", ".tga", ".psd", ".exr", ".dng", ".cr2", ".nef", ".arw",
)  # fmt: skip
"""Of images that are not read: passing over them would lose samples."""
_HIDDEN = ("__macosx",)


def data_folder(root: Path | None, what: str) -> Path:
    """The data folder, which is there.

    Args:
        what: needs it; begins the sentence.

    Raises:
        DataError: none was given, or it does not exist.
    """
    if root is None:
        raise DataError(f"{what} needs a data folder: give --data DIR or set PRUNEBENCH_DATA")
    if not root.is_dir():
        raise DataError(f"data folder {root} does not exist; give an existing one with --data DIR or PRUNEBENCH_DATA")
    return root


def list_images(folder: Path, needed: str) -> list[Path]:
    """The images directly in `folder`, by name. Hidden files, folders and files that are no images are passed over.

    Raises:
        DataError: the folder is missing or without an image, or holds images of a kind that is not read, a folder with
            an image's name or a link that leads nowhere; `needed` ends the sentence.
    """
    entries = _entries(folder, needed)
    images = [path for path in entries if path.is_file() and is_image(path)]
    folders = [path for path in entries if path.is_dir() and path.suffix.lower() in IMAGE_SUFFIXES]
    if folders:
        raise DataError(f"{folders[0]} is a folder with the name of an image; needed: {needed}")
    if not images:
        raise _without_images(folder, entries, needed)
    return images


def images_by_name(folder: Path, needed: str) -> dict[str, Path]:
    """`list_images` by their names without suffixes.

    Raises:
        DataError: as `list_images`, or two have one name: what belongs to them cannot be told apart.
    """
    named: dict[str, Path] = {}
    for path in list_images(folder, needed):
        other = named.setdefault(path.stem, path)
        if other != path:
            raise DataError(
                f"{other} and {path} have one name, so that their partners cannot be told apart; rename one"
            )
    return named


def images_below(folder: Path, needed: str) -> list[Path]:
    """The images in `folder` and the folders below it, links followed, by path; passes over and raises as above."""
    return [Path(path) for path, _ in sized_images_below(folder, needed)]


def sized_images_below(folder: Path, needed: str) -> Iterator[tuple[str, int]]:
    """(path, bytes) of each of `images_below`, without a list of all: for folders of any size. Raises as it does."""
    none = True
    for entry in _walk(folder, needed, ()):
        none = False
        yield entry.path, entry.stat().st_size
    if none:
        raise _without_images(folder, _entries(folder, needed), needed)


def folders_in(folder: Path, needed: str) -> list[Path]:
    """The folders directly in `folder` that are not hidden, by name.

    Raises:
        DataError: `folder` is missing, or holds a link that leads nowhere.
    """
    return [path for path in _entries(folder, needed) if path.is_dir()]


def is_image(path: Path, named: object = None) -> bool:
    """Whether a file is to be read, by its suffix.

    Args:
        named: what the message calls it, where that is not its path.

    Raises:
        DataError: it is an image of a kind that is not read.
    """
    suffix = path.suffix.lower()
    if suffix in OTHER_IMAGES:
        raise DataError(f"{named or path} is an image of a kind that is not read; allowed: {', '.join(IMAGE_SUFFIXES)}")
    return suffix in IMAGE_SUFFIXES


def _entries(folder: Path, needed: str) -> list[Path]:
    """What is in a folder and not hidden, by name."""
    return [Path(entry.path) for entry in _shown(folder, needed)]


def _shown(folder: Path, needed: str) -> list[os.DirEntry[str]]:
    if not folder.is_dir():
        kind = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {kind}; needed: {needed}")
    try:
        with os.scandir(folder) as found:
            every = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror or error}); needed: {needed}") from error
    shown = [entry for entry in every if not entry.name.startswith(".") and entry.name.lower() not in _HIDDEN]
    for entry in shown:
        if entry.is_symlink() and not Path(entry.path).exists():
            raise DataError(f"{entry.path} is a link that leads nowhere; mend it or take it away")
    return shown


def _walk(folder: Path, needed: str, above: tuple[Path, ...]) -> Iterator[os.DirEntry[str]]:
    """The images below a folder in order of their paths, part by part."""
    place = folder.resolve()
    if place in above:
        raise DataError(f"{folder} is a link to a folder that holds it; take it away")
    for entry in _shown(folder, needed):
        if entry.is_dir():
            yield from _walk(Path(entry.path), needed, (*above, place))
        elif entry.is_file() and is_image(Path(entry.name), Path(entry.path)):
            yield entry


def _without_images(folder: Path, entries: list[Path], needed: str) -> DataError:
    held = f" (only {', '.join(path.name for path in entries[:3])}{', …' * (len(entries) > 3)})" if entries else ""
    return DataError(f"{folder} has no images{held}; needed: {needed}")
