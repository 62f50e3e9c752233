"""Readers for super-resolution: folders of photographs, test sets in the usual layout, scikit-image's photographs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from bench.errors import DataError
from tasks.data import bicubic, photographs
from tasks.data.content import digest
from tasks.data.decode import MEMORY_LIMIT, as_rgb, in_parallel, read_image, read_rgb, read_size
from tasks.data.listing import data_folder, images_by_name
from tasks.data.luma import WINDOW
from tasks.data.patches import Photo


def find_folder(root: Path | None, names: Sequence[str], what: str) -> Path:
    """The first of `names` that is a folder below `root` or below its `sr` or `benchmark`.

    Raises:
        DataError: there is none.
    """
    root = data_folder(root, what)
    places = [root / middle / name for name in names for middle in ("", "sr", "benchmark")]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise DataError(f"{what} is not below {root}; looked for {', '.join(str(p.relative_to(root)) for p in places)}")
    return found


@lru_cache(maxsize=12)
def read_embedded(names: tuple[str, ...], scale: int) -> tuple[Photo, ...]:
    """Photographs of scikit-image by file name; made once for all, and not to be written into."""
    return tuple(make_photo(name, photographs.read_photograph(name), scale) for name in names)


def read_folder(files: Sequence[Path], scale: int, patch: int) -> list[Photo]:
    """Training photographs, their low-resolution versions made here.

    Raises:
        DataError: a file is unreadable or smaller than a patch, or all would not fit in memory.
    """
    sizes = [0] * len(files)

    def read(index: int) -> Photo:
        image = read_rgb(files[index])
        _require_patch(files[index], image.shape[:2], scale, patch)
        sizes[index] = image.size
        if sum(sizes) > MEMORY_LIMIT / 2:  # once here, once in the table that patches are taken from
            raise _too_much(files[0].parent, "lower train_size")
        return make_photo(files[index].name, image, scale)

    return in_parallel(read, range(len(files)))


def decoded_bytes(files: Sequence[Path], scale: int, patch: int) -> int:
    """Bytes of these photographs once decoded, by their headers.

    Raises:
        DataError: a file is unreadable or smaller than a patch.
    """

    def read(path: Path) -> int:
        size = read_size(path)
        _require_patch(path, size, scale, patch)
        return 3 * size[0] * size[1]

    return sum(in_parallel(read, files))


def _require_patch(path: Path, size: Sequence[int], scale: int, patch: int) -> None:
    height, width = size
    side = scale * patch
    if min(size) < side:
        raise DataError(
            f"{path} is {height}×{width}, smaller than the {side}×{side} crop of patch = {patch} at ×{scale}; lower "
            "patch or take the file away"
        )


def _too_much(folder: Path, remedy: str) -> DataError:
    return DataError(f"{folder} takes more than {MEMORY_LIMIT / 2**30:.0f} GiB of memory when decoded; {remedy}")


def make_photo(name: str, image: np.ndarray, scale: int) -> Photo:
    """A pair from one image, uint8 [H, W, C], cut to a multiple of `scale` and shrunk by antialiased bicubic."""
    height, width = (side - side % scale for side in image.shape[:2])
    high = image[:height, :width]
    return Photo(name, _tensor(as_rgb(bicubic.resize(high, 1 / scale))), _tensor(high))


def read_test_set(folder: Path, scale: int) -> list[Photo]:
    """`HR/*` and, where it is there, the matching `LR_bicubic_X2/*` (or `LR_bicubic/X2/*`, names ending in x2).

    Raises:
        DataError: a part is missing or unreadable, or the sizes of a pair do not go together.
    """
    layout = "HR/ with the images and, if wanted, LR_bicubic_X2/ (X3, X4) with the small ones"
    files = list(images_by_name(folder / "HR", layout).values())
    lows = next((f for f in (folder / f"LR_bicubic_X{scale}", folder / "LR_bicubic" / f"X{scale}") if f.is_dir()), None)
    small = images_by_name(lows, layout) if lows else {}

    sizes = [0] * len(files)

    def read(index: int) -> Photo:
        path = files[index]
        high = read_image(path)
        sizes[index] = high.size
        if sum(sizes) > MEMORY_LIMIT:
            raise _too_much(folder, "use a smaller test set")
        if lows is None:
            return make_photo(path.name, high, scale)
        match = small.get(path.stem) or small.get(f"{path.stem}x{scale}")
        if match is None:
            raise DataError(f"{path} has no partner in {lows}; needed: {path.stem} or {path.stem}x{scale}")
        low = read_rgb(match)
        fits = all(
            large // scale <= s <= -(-large // scale) for s, large in zip(low.shape, high.shape[:2], strict=False)
        )
        if not fits:
            raise DataError(
                f"{match} is {low.shape[0]}×{low.shape[1]}, not 1/{scale} of the {high.shape[0]}×{high.shape[1]} "
                f"of {path}"
            )
        # Where a side is no multiple, the partner may reach one pixel further than the photograph.
        height, width = (min(s, large // scale) for s, large in zip(low.shape, high.shape[:2], strict=False))
        return Photo(path.name, _tensor(low[:height, :width]), _tensor(high[: scale * height, : scale * width]))

    return in_parallel(read, range(len(files)))


def centre(photo: Photo, scale: int, side: int) -> Photo:
    """The middle of a photograph, at most `side` high-resolution pixels each way."""
    height, width = photo.low.shape[:2]
    rows, columns = min(height, side // scale), min(width, side // scale)
    top, left = (height - rows) // 2, (width - columns) // 2
    high = photo.high[scale * top : scale * (top + rows), scale * left : scale * (left + columns)]
    return Photo(photo.name, photo.low[top : top + rows, left : left + columns], high)


def refuse_shared(parts: Mapping[str, Sequence[Photo]]) -> None:
    """Refuse a photograph that stands in two parts at either resolution, whatever the files are called.

    Raises:
        DataError: naming both.
    """
    seen: dict[bytes, tuple[str, str]] = {}
    for part, photos in parts.items():
        for photo in photos:
            for array in photo.arrays:
                other, name = seen.setdefault(digest(array), (part, photo.name))
                if other != part:
                    raise DataError(
                        f"{photo.name} of the {part} set is the same photograph as {name} of the {other} set; the "
                        "parts must be disjoint"
                    )


def refuse_small(photos: Sequence[Photo], scale: int, part: str) -> None:
    """Refuse photographs of which too little is left to be measured, once `scale` pixels are shaved from each side.

    Raises:
        DataError: naming one, with the smallest size that is allowed.
    """
    smallest = -(-(WINDOW + 2 * scale) // scale) * scale
    for photo in photos:
        height, width = photo.high.shape[:2]
        if min(height, width) < smallest:
            raise DataError(
                f"{photo.name} of the {part} set comes to {height}×{width} pixels at ×{scale}, too few to be measured; "
                f"at least {smallest}×{smallest} are needed"
            )


def _tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.require(image, requirements=("C", "W")))
