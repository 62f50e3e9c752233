"""How fast streamed images are beside plain DataLoader code, and in how much memory.

    python -m benchmarks.stream                        # makes 20,000 JPEGs in 100 classes in the temporary folder
    python -m benchmarks.stream --images 2000 --rounds 3

Prints one JSON object. Both sides read the same folder with two processes and the same transforms, and train the same
ResNet-18; they are measured in turn, so that other work on the machine meets both. `ratio` is the median over rounds of
streamed / plain, of images a second (more is better) and of processor time an image (less is better).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CPU = torch.device("cpu")
PROJECT = Path(__file__).resolve().parent.parent
CAP = 1.5 * 2**30
"""Bytes that all processes may have together, pages that they share counted once."""
HEIGHT, WIDTH = 96, 128
"""Of the JPEGs."""
PARTS = ("reading", "training", "memory", "resuming")
Batches = Iterator[tuple[Tensor, Tensor]]


def make_folder(root: Path, images: int, classes: int, tests: int) -> None:
    """`imagenet/train` and `imagenet/val` below `root`, with JPEGs of which no two are alike."""
    from PIL import Image

    random = np.random.default_rng(0)
    for part, count in (("train", images // classes), ("val", tests // classes)):
        for label in range(classes):
            folder = root / "imagenet" / part / f"n{label:08}"
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
                pixels[..., label % 3] = (pixels[..., label % 3] // 4 + 2 * label).clip(0, 255)
                large = Image.fromarray(pixels).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
                large.save(folder / f"{index:05}.JPEG", quality=90)


def task_of(size: int, **options: Any) -> Any:
    from tasks.classification import Classification

    task = Classification("imagenet", "torchvision:resnet18", image_size=size, **options)
    task.validate()
    return task


def plain_batches(folder: Path, size: int, batch: int) -> Callable[[], Batches]:
    """What one would write by hand."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    transform = v2.Compose([
        v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip(), v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])  # fmt: skip
    loader = DataLoader(
        ImageFolder(folder, transform), batch, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True
    )
    return lambda: iter(loader)


def streamed_batches(split: Any, batch: int) -> Callable[[], Batches]:
    """The same through this project's split."""
    epochs = iter(range(10**6))
    return lambda: split.batches(batch, seed=0, epoch=next(epochs), device=CPU)


def endless(epoch: Callable[[], Batches]) -> Batches:
    """One epoch after the other."""
    while True:
        yield from epoch()


def trainer(batches: Batches, classes: int) -> Callable[[int], None]:
    """Takes so many steps of a ResNet-18."""
    from torchvision.models import resnet18

    torch.manual_seed(0)
    model = resnet18(num_classes=classes).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

    def run(steps: int) -> None:
        for _ in range(steps):
            x, y = next(batches)
            loss = nn.functional.cross_entropy(model(x.contiguous(memory_format=torch.channels_last)), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return run


def reader(batches: Batches) -> Callable[[int], None]:
    """Takes so many batches and does nothing with them."""

    def run(steps: int) -> None:
        for _ in range(steps):
            next(batches)

    return run


def in_turn(sides: dict[str, Callable[[int], None]], rounds: int, steps: int, batch: int) -> dict[str, Any]:
    """Measure the sides one after the other, round after round; the first one changes with each round."""
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    costs: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        side(2)  # starts the processes
    for number in range(rounds):
        for name in sorted(sides, reverse=bool(number % 2)):
            start, before = time.perf_counter(), processor_seconds()
            sides[name](steps)
            speeds[name].append(steps * batch / (time.perf_counter() - start))
            costs[name].append(1000 * (processor_seconds() - before) / (steps * batch))
    ratios = {
        what: statistics.median(s / p for s, p in zip(each["streamed"], each["plain"], strict=True))
        for what, each in (("images_per_second", speeds), ("processor_ms_per_image", costs))
    }
    medians = {
        name: {
            "images_per_second": round(statistics.median(speeds[name]), 1),
            "processor_ms_per_image": round(statistics.median(costs[name]), 3),
        }
        for name in sides
    }
    return {**medians, "ratio": {what: round(value, 3) for what, value in ratios.items()}}


def processes() -> list[int]:
    """This process, those that read for it, and the one that forks these."""
    from multiprocessing.forkserver import _forkserver

    server = getattr(_forkserver, "_forkserver_pid", None)
    children = [child.pid for child in multiprocessing.active_children() if child.pid]
    return [os.getpid(), *children, *([server] if server else [])]


def processor_seconds() -> float:
    """Of all `processes` since they began."""
    return sum(_ticks(pid) for pid in processes()) / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def memory() -> tuple[int, int]:
    """Bytes of all `processes`: resident, pages that they share counted in each, and with those counted once."""
    found = {"Rss": 0, "Pss": 0}
    for pid in processes():
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, rest = line.partition(":")
            if name in found:
                found[name] += 1024 * int(rest.split()[0])
    return found["Rss"], found["Pss"]


def peak_memory(root: Path, size: int, batch: int, steps: int) -> dict[str, Any]:
    """Train and evaluate for a while in this process, which has done nothing else, and watch its memory."""
    peak, ended = [0, 0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            peak[:] = [max(pair) for pair in zip(peak, memory(), strict=True)]

    watcher = threading.Thread(target=watch)
    watcher.start()
    task = task_of(size)
    data = task.load(root)
    run = trainer(endless(streamed_batches(data.train, batch)), len(data.info.classes))
    run(steps)
    model = task.network(data.info)
    some = dataclasses.replace(data.val, indices=data.val.indices[:150])
    accuracy = task.evaluate(model, some, CPU, task.recipe)["accuracy"]
    ended.set()
    watcher.join()
    return {
        "files": len(data.train) + len(data.val) + len(data.test()),
        "peak_rss_mib": round(peak[0] / 2**20),
        "peak_pss_mib": round(peak[1] / 2**20),
        "below_cap": peak[1] < CAP,
        "untrained_accuracy": round(accuracy, 2),
    }


class _Stopped(Exception):
    """Training was ended in the middle of an epoch, as by a kill."""


def resumed_equal(root: Path, size: int, folder: Path) -> bool:
    """Whether training that was stopped in the second epoch, and went on with another number of processes, ends with
    the same weights to the bit as training that was not."""
    from bench.interface.cell import Recipe
    from bench.interface.loading import set_workers
    from bench.interface.log import Observer
    from bench.training.loop import Phase, train

    task = task_of(size, train_size=400)
    data, recipe = task.load(root), Recipe(batch_size=40, lr=0.01, precision="fp32")

    class Stop(Observer):
        def step(self, phase: str, step: int, steps: int, loss: float) -> None:
            if step > 10:
                raise _Stopped

    def trained(name: str, observer: Observer | None = None) -> dict[str, Tensor]:
        torch.manual_seed(0)
        model = task.network(data.info)
        train(model, task, data.train, recipe, Phase("dense", 2, 0, CPU, folder / name), observer=observer)
        return model.state_dict()

    straight = trained("straight")
    try:
        trained("stopped", Stop())
    except _Stopped:
        set_workers(1)
    resumed = trained("stopped")
    set_workers(2)
    return all(torch.equal(straight[key], resumed[key]) for key in straight)


def arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])  # pyright: ignore
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--size", type=int, default=64, help="side of the network's input")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=8, help="of training in each round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2, help="of the process that trains")
    parser.add_argument("--folder", type=Path, help="of the images; made where it does not exist, and kept")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what is measured")
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> None:
    """Make the folder, measure, and print what was found."""
    from bench.interface.loading import set_workers

    asked = arguments(given)
    torch.set_num_threads(asked.threads)
    set_workers(2)
    if asked.memory_of:
        print(json.dumps(peak_memory(asked.memory_of, asked.size, asked.batch, asked.steps)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        root = asked.folder or Path(temporary) / "data"
        if not root.exists():
            make_folder(root, asked.images, asked.classes, asked.images // 10)
        print(json.dumps(measured(asked, root, Path(temporary)), indent=2))


def measured(asked: argparse.Namespace, root: Path, work: Path) -> dict[str, Any]:
    """The figures that are asked for."""
    start = time.perf_counter()
    data = task_of(asked.size).load(root)
    found: dict[str, Any] = {
        "images": len(data.train) + len(data.val) + len(data.test()),
        "classes": len(data.info.classes),
        "list_and_check_seconds": round(time.perf_counter() - start, 2),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
    }
    streamed = streamed_batches(data.train, asked.batch)
    plain = plain_batches(root / "imagenet" / "train", asked.size, asked.batch)
    sides = {"streamed": streamed, "plain": plain}
    if "reading" in asked.parts:
        each = {name: reader(endless(batches)) for name, batches in sides.items()}
        found["reading_alone"] = in_turn(each, asked.rounds, 20 * asked.steps, asked.batch)
    if "training" in asked.parts:
        each = {name: trainer(endless(batches), len(data.info.classes)) for name, batches in sides.items()}
        found["training_resnet18"] = in_turn(each, asked.rounds, asked.steps, asked.batch)
    if "memory" in asked.parts:
        own = [sys.executable, "-m", "benchmarks.stream", "--memory-of", str(root.absolute())]
        for name in ("size", "batch", "steps", "threads"):
            own += [f"--{name}", str(getattr(asked, name))]
        found["memory"] = json.loads(
            subprocess.run(own, check=True, stdout=subprocess.PIPE, text=True, cwd=PROJECT).stdout
        )
    if "resuming" in asked.parts:
        found["resumed_equal"] = resumed_equal(root, asked.size, work)
    return found


if __name__ == "__main__":
    main()
