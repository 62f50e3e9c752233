"""Runs code as if on a GPU, on a machine without one: torch's `FakeTensorMode` with values.

`FakeTensorMode` computes devices, shapes and types of `torch.device("cuda")`, without a driver, and raises where a
tensor of the CPU meets one of a GPU. It has no values, so that a search, which decides by values, could not run. Here
each of its tensors has a twin on the CPU which goes through the same operations, and gives the value wherever Python
asks for one.

Backward passes need a driver. Gradients are therefore made up: on the device and of the shape of what they belong to.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils.weak import WeakIdKeyDictionary

from bench.structure.tensors import WITHOUT_FLOAT64

CUDA = torch.device("cuda")


@contextmanager
def pretended_cuda() -> Iterator[Pretended]:
    """Tensors of CUDA can be made and computed with inside, and what is done with modules and gradients works."""
    with ExitStack() as stack:
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))  # its kernels have no twin on the CPU
        fake = stack.enter_context(FakeTensorMode())
        pretended = stack.enter_context(Pretended(fake))
        stack.enter_context(_Values(pretended))
        stack.enter_context(mock.patch.object(nn.Module, "_apply", _moved))
        stack.enter_context(mock.patch("torch.autograd.grad", pretended.gradients))
        for name in ("SGD", "Adam"):
            plain = getattr(torch.optim, name)
            stack.enter_context(mock.patch.object(torch.optim, name, _unfused(plain)))
        yield pretended


class Pretended(TorchDispatchMode):
    """Every operation twice: on tensors without values, for their devices, and on their twins, for the values."""

    def __init__(self, fake: FakeTensorMode) -> None:
        super().__init__()
        self.fake, self.twins = fake, WeakIdKeyDictionary()
        self.on_gpu = 0
        """How many operations had an output on the GPU."""

    def twin(self, tensor: Tensor) -> Tensor:
        """The values of a tensor: [its shape], on the CPU."""
        return self.twins[tensor] if isinstance(tensor, FakeTensor) else tensor

    def adopted(self, module: nn.Module) -> nn.Module:
        """A copy of a network from outside, on the CPU."""
        with _disable_current_modes():
            own = copy.deepcopy(module)
        for part in own.modules():
            for name, p in part._parameters.items():
                if p is not None:
                    part._parameters[name] = nn.Parameter(self._fake(p.detach()), p.requires_grad)
            for name, b in part._buffers.items():
                if b is not None:
                    part._buffers[name] = self._fake(b)
        return own

    def _fake(self, tensor: Tensor) -> Tensor:
        if isinstance(tensor, FakeTensor):
            return tensor
        made = self.fake.from_tensor(tensor)
        self.twins[made] = tensor
        return made

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.prim.device.default and isinstance(args[0], FakeTensor):  # half of all that comes here
            return FakeTensor.__torch_dispatch__(func, types, args)
        given, structure = tree_flatten((args, dict(kwargs or {})))
        values = [self.twin(x) if isinstance(x, Tensor) else _on_cpu(x) for x in given]
        faked = [self._fake(x) if isinstance(x, Tensor) else x for x in given]
        # First without values: an operation on tensors of two devices must not change the twins.
        with self.fake:
            own, options = tree_unflatten(faked, structure)
            try:
                output = func(*own, **options)
            except (DataDependentOutputException, DynamicOutputShapeException):
                output = None
        own, options = tree_unflatten(values, structure)
        with _disable_current_modes(), torch.no_grad():
            real = func(*own, **options)
        if output is None:
            output = self._like(real, faked)
        for made, value in zip(_flat(output), _flat(real), strict=True):
            if isinstance(made, FakeTensor):
                self.twins[made] = value
                self.on_gpu += made.device.type != "cpu"
                if made.device.type in WITHOUT_FLOAT64 and made.dtype == torch.float64:
                    raise TypeError(f"{func}: {made.device.type} has no float64")
        return output

    def _like(self, real: Any, given: list[Any]) -> Any:
        """What has the shape of a result that depends on values, on the device of what it was computed from."""
        devices = [x.device for x in given if isinstance(x, Tensor)]

        def made(x: Any) -> Any:
            if not isinstance(x, Tensor):
                return x
            with self.fake:
                return torch.empty(x.shape, dtype=x.dtype, device=devices[0])

        return tree_map(made, real)

    def gradients(self, outputs: Any, inputs: Any, **options: Any) -> tuple[Tensor | None, ...]:
        """In place of `torch.autograd.grad`: small random numbers where something of the output depends on."""
        reached = _leaves(outputs)
        given = [inputs] if isinstance(inputs, Tensor) else list(inputs)
        whole = options.get("materialize_grads", False) or not options.get("allow_unused", False)
        return tuple(_random(x) if whole or id(x) in reached or x.grad_fn is not None else None for x in given)


class _Values(TorchFunctionMode):
    """What leaves torch for Python and NumPy, and `backward`."""

    def __init__(self, pretended: Pretended) -> None:
        super().__init__()
        self.pretended = pretended

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.tolist, Tensor.numpy, Tensor.__array__) and isinstance(args[0], FakeTensor):
            if func is not Tensor.tolist and args[0].device.type != "cpu":
                raise TypeError("can't convert cuda:0 device type tensor to numpy")
            with _disable_current_modes():
                return func(self.pretended.twin(args[0]).detach(), *args[1:], **(kwargs or {}))
        if func is Tensor.__deepcopy__ and isinstance(args[0], FakeTensor):
            # A plain one would be of a copy of the mode itself.
            values, needs = args[0].detach().clone(), args[0].requires_grad
            copied = nn.Parameter(values, needs) if isinstance(args[0], nn.Parameter) else values.requires_grad_(needs)
            args[1][id(args[0])] = copied
            return copied
        if func is Tensor.backward:
            for leaf in _leaves(args[0]).values():
                leaf.grad = _random(leaf)
            return None
        return func(*args, **(kwargs or {}))


def _flat(output: Any) -> list[Any]:
    """All that an operation gave; most give one tensor."""
    return [output] if isinstance(output, Tensor) else tree_flatten(output)[0]


def _on_cpu(value: Any) -> Any:
    return torch.device("cpu") if isinstance(value, torch.device) else value


def _random(like: Tensor) -> Tensor:
    return 1e-2 * torch.randn_like(like.detach())


def _leaves(output: Tensor) -> dict[int, Tensor]:
    """The leaves that a tensor depends on, by id."""
    found: dict[int, Tensor] = {}
    seen: set[Any] = set()
    waiting = [output.grad_fn]
    while waiting:
        node: Any = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found[id(node.variable)] = node.variable
        waiting += [parent for parent, _ in node.next_functions]
    return found


def _moved(module: nn.Module, fn: Any, recurse: bool = True) -> nn.Module:
    """`nn.Module._apply`, which can give no parameter of a fake another device: new ones stand in their place."""
    for child in module.children() if recurse else ():
        _moved(child, fn)
    for name, p in module._parameters.items():
        if p is not None:
            moved = fn(p.detach())
            if moved.device != p.device or moved.dtype != p.dtype:
                module._parameters[name] = nn.Parameter(moved, p.requires_grad)
    for name, b in module._buffers.items():
        if b is not None:
            module._buffers[name] = fn(b)
    return module


def _unfused(plain: Any) -> Any:
    """An optimiser that asks for no fused kernel, which would look for a driver."""

    def made(parameters: Any, **options: Any) -> Any:
        return plain(parameters, **{**options, "fused": False, "foreach": False})

    return made
