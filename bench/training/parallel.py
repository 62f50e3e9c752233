"""One network trained by several processes, a device each, as if by one: what the training loop does otherwise then.

Every process runs the same program. Of each batch it computes its own rows; outputs are gathered, so that the loss is
that of the whole batch, whatever the loss; gradients are added up explicitly, wherever they come from (`backward` or
`autograd.grad`). Norms take their statistics over the whole batch, and random numbers that a network draws for each
sample are drawn for the whole batch. The result is that of one process with the same batches, but for rounding.

With one process all of this does nothing.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from bench.errors import CellError, reason_of
from bench.interface.task import DividedSplit, Split
from bench.training import quiet

T = TypeVar("T")
PATIENCE = timedelta(days=2)
"""How long a process waits for the others: whoever started them sees one that is lost, and ends the rest."""


class PeerLostError(Exception):
    """Another of the processes is gone, so that this one cannot go on. It says nothing of what this one did."""


def join(device: torch.device) -> None:
    """Meet the other processes, whose number and place are in the environment (RANK, WORLD_SIZE, MASTER_ADDR, …)."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)


def leave() -> None:
    """Go on alone, or end: this process no longer waits for the others, nor they for it."""
    if size() > 1:
        dist.destroy_process_group()


def size() -> int:
    """How many processes train one network together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if size() > 1 else 0


def first() -> bool:
    """Whether this process is the one that writes: checkpoints, records, progress."""
    return rank() == 0


def goes_on() -> bool:
    """The end of what is done together: True in the first process, which is alone from now on."""
    alone = first()
    leave()
    return alone


def agreed(state: T) -> T:
    """What the first process has, in every process: tensors and plain values."""
    if size() == 1:
        return state
    buffer = io.BytesIO()
    if first():
        torch.save(state, buffer)
    length = torch.tensor([buffer.tell()])
    _broadcast(length)
    content = torch.empty(int(length), dtype=torch.uint8)
    if first():
        content.copy_(torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8))
    _broadcast(content)
    if first():
        return state
    return torch.load(io.BytesIO(content.numpy().tobytes()), map_location="cpu", weights_only=True)


@torch.no_grad()
def copy_from_first(tensors: Sequence[Tensor]) -> None:
    """Give these tensors the values of the first process, in place."""
    _together(tensors, _broadcast)


@torch.no_grad()
def add_up(parameters: Sequence[Tensor]) -> None:
    """Replace each gradient by its sum over the processes; a parameter without one has none anywhere."""
    _together([p.grad for p in parameters if p.grad is not None], _all_reduce)


def _together(tensors: Sequence[Tensor], act: Callable[[Tensor], Any]) -> None:
    """Do something to many tensors as to one, so that they travel together."""
    if size() == 1:
        return
    kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.device, tensor.dtype), []).append(tensor)
    for parts in kinds.values():
        flat = torch.cat([part.reshape(-1) for part in parts])
        act(flat)
        for part, values in zip(parts, flat.split([part.numel() for part in parts]), strict=True):
            part.copy_(values.view(part.shape))


@contextmanager
def _lost_told_apart() -> Iterator[None]:
    """Where another process is gone, the backends raise errors of their own, each with other words."""
    try:
        yield
    except RuntimeError as error:
        raise PeerLostError(reason_of(error)) from error


def _broadcast(tensor: Tensor) -> None:
    with _lost_told_apart():
        dist.broadcast(tensor, 0)


def _all_reduce(tensor: Tensor) -> None:
    with _lost_told_apart():
        dist.all_reduce(tensor)


def _all_gather(tensor: Tensor) -> list[Tensor]:
    every = [torch.empty_like(tensor) for _ in range(size())]
    with _lost_told_apart():
        dist.all_gather(every, tensor)
    return every


@contextmanager
def step() -> Iterator[None]:
    """One step of training; where a latency is being measured, all processes wait with the first."""
    if size() == 1:
        with quiet.step():
            yield
    elif first():
        with quiet.step():
            _all_reduce(torch.zeros(1))
            yield
    else:
        _all_reduce(torch.zeros(1))
        yield


def require_rows(batch_size: int) -> None:
    """Refuse batches of which some process would get nothing.

    Raises:
        CellError: naming the number of processes and the batch size.
    """
    if batch_size < size():
        raise CellError(f"a batch of {batch_size} samples cannot be shared by {size()} devices")


class Share(TorchFunctionMode):
    """This process's rows of a batch. While it is entered, what a network computes over samples is over all rows.

    * `batch_norm` in training takes mean and variance over the whole batch, and adds them to its running statistics.
    * `dropout`, `dropout1d` to `dropout3d` and `Tensor.bernoulli_` draw for the whole batch and keep the own rows,
      where the first axis is samples: the same numbers that one process would draw.

    Args:
        rows: of the whole batch.
    """

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows
        bounds = [rows * k // size() for k in range(size() + 1)]
        self.counts = [high - low for low, high in pairwise(bounds)]
        self.own = slice(bounds[rank()], bounds[rank() + 1])

    def part(self, x: Tensor) -> Tensor:
        """The own rows of a tensor of the whole batch; or of one that has no other rows."""
        return x if len(x) == self.own.stop - self.own.start else x[self.own]

    def whole(self, output: Any) -> Any:
        """The outputs of all rows, [B, …], from those of the own rows; gradients flow to the own rows."""
        return tree_map(lambda x: _Gathered.apply(x, self) if isinstance(x, Tensor) else x, output)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        own = _INSTEAD.get(func)
        if own is not None:
            return own(self, func, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def draw(self, like: Tensor, shape: Sequence[int], keep: float) -> Tensor | None:
        """Ones with probability `keep`, else zeros, [own rows, *shape]; None where the first axis is not samples."""
        own = self.own.stop - self.own.start
        each, rest = divmod(like.shape[0], own)  # an axis may hold several entries of each sample
        if rest:
            return None
        every = torch.empty((self.rows * each, *shape), dtype=like.dtype, device=like.device)
        if every.ndim == like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last):
            every = every.contiguous(memory_format=torch.channels_last)
        return every.bernoulli_(keep)[self.own.start * each : self.own.stop * each]


class _Alone:
    """`Share` where there is one process."""

    def __enter__(self) -> _Alone:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def part(self, x: Tensor) -> Tensor:
        return x

    def whole(self, output: Any) -> Any:
        return output


def share(rows: int) -> Share | _Alone:
    """How this process takes part in a batch of so many rows."""
    return Share(rows) if size() > 1 else _Alone()


def batches(split: Split, batch_size: int, **how: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of one epoch as `Split.batches` gives them, with all targets; of inputs that are read from files the
    own rows alone, so that each process reads its part.

    Args:
        how: seed, epoch and device.
    """
    shared = share(batch_size)
    if not isinstance(shared, Share) or not isinstance(split, DividedSplit):
        yield from split.batches(batch_size, **how)
        return
    for x, y in split.part_of_batches(batch_size, shared.own, **how):
        yield x, shared.whole(y)


class _Gathered(torch.autograd.Function):
    """All rows from each process's own: [own, …] -> [B, …].

    Every process computes the same loss of all rows, so a gradient's own rows are all that comes back.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, shared: Share) -> Tensor:
        ctx.own = shared.own
        most = max(shared.counts)
        padded = x.new_zeros((most, *x.shape[1:]))
        padded[: len(x)] = x
        every = _all_gather(padded)
        return torch.cat([part[:count] for part, count in zip(every, shared.counts, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return slopes[0][ctx.own], None


class _BatchNorm(torch.autograd.Function):
    """x [N, C, …] normalised by mean and biased variance over all processes' rows; and those statistics, [C] each.

    The gradient is that of Ioffe and Szegedy 2015, section 3, with its two sums over all rows.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Any:
        axes = [0, *range(2, x.ndim)]
        values = x if x.dtype == torch.float64 else x.float()
        variance, mean = torch.var_mean(values, axes, correction=0)
        count = torch.full_like(mean, x.numel() // x.shape[1])
        own = torch.stack([mean, variance, count])
        every = _all_gather(own)
        means, variances, counts = torch.stack(every).unbind(1)  # [processes, C]
        n = counts.sum(0)
        mean = (means * counts).sum(0) / n
        # Chan, Golub and LeVeque 1979: variances of parts come together with the spread of their means.
        variance = ((variances + (means - mean) ** 2) * counts).sum(0) / n
        scale = (variance + eps).rsqrt()
        shape = (1, -1, *[1] * (x.ndim - 2))
        normal = (values - mean.view(shape)) * scale.view(shape)
        y = normal if weight is None else normal * weight.view(shape)
        y = y if bias is None else y + bias.view(shape)
        ctx.save_for_backward(normal, scale, n, weight)
        ctx.axes, ctx.shape, ctx.has_bias = axes, shape, bias is not None
        ctx.mark_non_differentiable(mean, variance, n)
        return y.to(x.dtype), mean, variance, n

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        normal, scale, n, weight = ctx.saved_tensors
        slope = slopes[0].to(normal.dtype)
        of_bias, of_weight = slope.sum(ctx.axes), (slope * normal).sum(ctx.axes)
        sums = torch.stack([of_bias, of_weight])
        _all_reduce(sums)
        plain, along = (part.view(ctx.shape) for part in sums / n)
        factor = scale if weight is None else scale * weight
        of_x = (slope - plain - normal * along) * factor.view(ctx.shape)
        return (
            of_x.to(slopes[0].dtype),
            of_weight if weight is not None else None,
            of_bias if ctx.has_bias else None,
            None,
        )


def _norm(
    shared: Share,
    func: Any,
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`F.batch_norm` over the whole batch."""
    if not training:
        return func(x, running_mean, running_var, weight, bias, training, momentum, eps)
    y, mean, variance, n = _BatchNorm.apply(x, weight, bias, eps)
    with torch.no_grad():
        if running_mean is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        if running_var is not None:
            unbiased = variance * n / (n - 1)
            running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    return y


def _torch_norm(
    shared: Share,
    func: Any,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    """`torch.batch_norm` over the whole batch."""
    if not training:
        return func(x, weight, bias, running_mean, running_var, training, momentum, eps, cudnn_enabled)
    return _norm(shared, F.batch_norm, x, running_mean, running_var, weight, bias, training, momentum, eps)


def _dropout(
    shared: Share, func: Any, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """`F.dropout` and its kin: whole channels where its name ends with a number of dimensions."""
    maps = func is not F.dropout
    if training and 0 < p < 1 and x.ndim > 1:
        shape = (x.shape[1], *[1] * (x.ndim - 2)) if maps else x.shape[1:]
        noise = shared.draw(x, shape, 1 - p)
        if noise is not None:
            factor = noise.div_(1 - p)
            return x.mul_(factor) if inplace else x * factor
    return func(x, p, training, inplace)


def _bernoulli(shared: Share, func: Any, x: Tensor, p: Any = 0.5, **options: Any) -> Tensor:
    """`Tensor.bernoulli_`, of which stochastic depth is made."""
    drawn = shared.draw(x, x.shape[1:], p) if isinstance(p, float) and x.ndim > 1 and not options else None
    return func(x, p, **options) if drawn is None else x.copy_(drawn)


_INSTEAD: dict[Any, Callable[..., Tensor]] = {
    F.batch_norm: _norm,
    torch.batch_norm: _torch_norm,
    F.dropout: _dropout,
    F.dropout1d: _dropout,
    F.dropout2d: _dropout,
    F.dropout3d: _dropout,
    Tensor.bernoulli_: _bernoulli,
}
