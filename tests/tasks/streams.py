"""What tests of streamed data share."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from bench.interface.task import Split
from tests.tasks.images import noise, save

CPU = torch.device("cpu")


def class_folders(folder: Path, parts: Mapping[str, int], suffix: str = "JPEG") -> Path:
    """Two classes of noisy images, 30×40 pixels, as many of each as `parts` says; no two alike."""
    seed = 0
    for part, count in parts.items():
        for label, name in enumerate(("cat", "dog")):
            for index in range(count):
                seed += 1
                save(folder / part / name / f"{index:03}.{suffix}", noise(30, 40, seed=seed + 100_000 * label))
    return folder


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """A file of an archive."""
    header = tarfile.TarInfo(name)
    header.size = len(content)
    archive.addfile(header, io.BytesIO(content))


def shards(folder: Path, source: Path, part: str, archives: int) -> None:
    """The images of `class_folders` below `source` as archives; every other label is a `.json`."""
    (folder / part).mkdir(parents=True, exist_ok=True)
    files = sorted((source / part).rglob("*.JPEG"), key=lambda path: path.name)
    for number in range(archives):
        with tarfile.open(folder / part / f"{number:06}.tar", "w") as archive:
            for index, path in enumerate(files[number::archives]):
                label = ("cat", "dog").index(path.parent.name)
                key = f"{path.parent.name}-{path.stem}"
                facts = {"label": label, "path": str(path)}
                labelled = (".json", json.dumps(facts)) if index % 2 else (".cls", f"{label}\n")
                add(archive, f"{key}.jpg", path.read_bytes())
                add(archive, f"{key}{labelled[0]}", labelled[1].encode())


def epoch(split: Split, size: int, seed: int, number: int) -> list[tuple[Tensor, Tensor]]:
    """The batches of one epoch."""
    return list(split.batches(size, seed=seed, epoch=number, device=CPU))


def same(first: list[tuple[Tensor, Tensor]], second: list[tuple[Tensor, Tensor]]) -> bool:
    """Whether two lists of batches are equal bit for bit."""
    pairs = zip(first, second, strict=True)
    return all(torch.equal(a, b) and torch.equal(c, d) for (a, c), (b, d) in pairs)


def all_of(split: Split) -> tuple[Tensor, Tensor]:
    """Inputs and targets in order."""
    batches = list(split.ordered(7, CPU))
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


def counted(batches: Iterator[tuple[Tensor, Tensor]], count: int) -> list[tuple[Tensor, Tensor]]:
    """The first batches; the rest is not asked for."""
    found = [next(batches) for _ in range(count)]
    del batches
    return found
