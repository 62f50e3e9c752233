"""Processes that read, decode and change samples, a batch at a time, ahead of the one that trains.

A process is told all that a batch depends on: where the bytes lie, the label, and the seed of each sample's random
changes. So it holds no list of the data set, one set of processes serves all splits, and neither their number nor what
they did before changes a batch.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bench.errors import CellError, DataError, first_line
from bench.interface.loading import workers
from bench.processes import end_with_parent
from bench.training import quiet
from tasks.data.places import Place

AHEAD = 2
"""Batches that each process is ahead."""
KEPT = 2
"""Sets of processes that are kept for the next stream: a bi-level search has two streams side by side."""


@dataclass(frozen=True)
class Sample:
    """What a process must know of one sample."""

    places: tuple[Place, ...]
    """Of its files."""
    label: int
    seed: int
    """Of its random changes."""


class Reader(Protocol):
    """Makes one sample from its files: a small object that travels to the processes."""

    def read(self, sample: Sample, *, augment: bool) -> tuple[Tensor, ...]:
        """Tensors of a shape that all samples of a batch share. Random numbers come from torch's global generator.

        Raises:
            DataError: a file cannot be read.
        """
        ...


class Finish(Protocol):
    """Makes what networks see of what a reader gave, a whole batch at a time: a small object that travels as well."""

    def __call__(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]: ...


@dataclass(frozen=True)
class Request:
    """A batch that is asked for."""

    reader: Reader
    samples: list[Sample]
    augment: bool
    finish: Finish | None = None
    """Done by the process that reads; None: whoever asked does it, on a device that is faster at it."""


@dataclass(frozen=True)
class _Fault:
    """Why a batch cannot be had: an exception would come back as a traceback with its sentence lost in it."""

    sentence: str


def sample_seed(*parts: int) -> int:
    """A seed from whole numbers of any size."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")


def read_batch(request: Request) -> tuple[Tensor, ...]:
    """The samples of a request, stacked.

    Raises:
        DataError: a file cannot be read.
    """
    made = []
    for sample in request.samples:
        with _random_numbers(sample.seed):
            made.append(request.reader.read(sample, augment=request.augment))
    batch = tuple(torch.stack(column) for column in zip(*made, strict=True))
    return batch if request.finish is None else request.finish(batch)


def stream(requests: Iterator[Request], *, pin: bool) -> Iterator[tuple[Tensor, ...]]:
    """The batches that are asked for, in order.

    Args:
        pin: put them where a GPU can fetch them while it computes.

    Raises:
        DataError: a file cannot be read.
        CellError: one of the processes was lost.
    """
    count = workers()
    if not count:
        yield from ((_pinned(batch) if pin else batch) for batch in map(read_batch, requests))
        return
    idle = _idle.setdefault((count, pin), [])
    loader = idle.pop() if idle else _Loader(count, pin=pin)
    try:
        yield from loader.batches(requests)
    except (GeneratorExit, DataError):
        _keep(idle, loader)
        raise
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise CellError(
            f"a process that reads the data was lost (out of memory, or killed from outside): {first_line(error)}"
        ) from error
    _keep(idle, loader)


def close() -> None:
    """End the processes that wait for the next stream."""
    _idle.clear()


_idle: dict[tuple[int, bool], list[_Loader]] = {}
"""By (number of processes, whether pinned)."""


def _keep(idle: list[_Loader], loader: _Loader) -> None:
    if len(idle) < KEPT:
        idle.append(loader)


class _Loader:
    """A DataLoader whose processes go on from one stream to the next."""

    def __init__(self, count: int, *, pin: bool) -> None:
        # Not forked from this process: a fork would keep its locks and pipes open when it is killed, and copies of
        # locks that its threads hold. torch is imported once, by a server that forks the processes.
        method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        context = multiprocessing.get_context(method)
        if method == "forkserver":
            context.set_forkserver_preload(["torchvision.transforms.v2", "PIL.JpegImagePlugin", __name__])
        self._feed = _Feed()
        self._loader = DataLoader(
            _Batches(),
            batch_size=None,
            sampler=self._feed,  # pyright: ignore[reportArgumentType] - it gives requests, not numbers
            num_workers=count,
            collate_fn=_as_it_is,
            pin_memory=pin,
            prefetch_factor=AHEAD,
            persistent_workers=True,
            multiprocessing_context=context,
            worker_init_fn=_start,
            generator=torch.Generator(),  # else starting the processes would draw from the global one
        )

    def batches(self, requests: Iterator[Request]) -> Iterator[tuple[Tensor, ...]]:
        self._feed.requests = requests
        with _without_main(), warnings.catch_warnings():
            # That there are more processes than cores is the user's wish.
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            batches = iter(self._loader)
        for batch in batches:
            if isinstance(batch, _Fault):
                raise DataError(batch.sentence)
            yield tuple(batch)


class _Feed:
    """What a loader passes on to its processes: the requests of the stream that it is at.

    It knows nothing of the loader: in a circle of references, the queues to the processes would be taken down before
    the processes are told to end, and each would be waited for for five seconds.
    """

    def __init__(self) -> None:
        self.requests: Iterator[Request] = iter(())

    def __iter__(self) -> Iterator[Request]:
        return self.requests


class _Batches(Dataset[Any]):
    """The data set of every loader: a request is its own index."""

    def __getitem__(self, request: Request) -> tuple[Tensor, ...] | _Fault:
        try:
            with quiet.step():  # holds still while another process measures a latency
                return read_batch(request)
        except DataError as error:
            return _Fault(str(error))


def _as_it_is(batch: Any) -> Any:
    return batch


def _pinned(batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(tensor.pin_memory() for tensor in batch)


def _start(number: int) -> None:
    """What a process does first."""
    end_with_parent()


@contextmanager
def _random_numbers(seed: int) -> Iterator[None]:
    """torch's numbers on the CPU start from `seed` inside, and go on as before outside."""
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(before)


@contextmanager
def _without_main() -> Iterator[None]:
    """Processes that start inside do not import the main script, of which they need nothing: a script that has no
    `if __name__ == "__main__":` would run again in each."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
