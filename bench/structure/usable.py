"""Networks that cannot be traced, refused before anything runs, each in a sentence."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parameter import UninitializedTensorMixin  # pyright: ignore[reportAttributeAccessIssue]

from bench.errors import RequestError
from bench.structure.compiled import is_compiled


def usable(model: nn.Module, example: torch.Tensor) -> torch.Tensor:
    """`example` where `model` is, in its type of numbers.

    Raises:
        RequestError: a network or an example that cannot be traced.
    """
    if not isinstance(example, torch.Tensor):
        kind = type(example).__name__
        raise RequestError(f"tracing takes a network of one tensor, so example must be a tensor, not a {kind}")
    _require_plain(model)
    tensors = [*model.parameters(), *model.buffers()]
    if any(isinstance(tensor, UninitializedTensorMixin) for tensor in tensors):
        raise RequestError("the network has lazy layers without weights yet: run it once on an example first")
    if any(tensor.is_inference() for tensor in tensors):
        raise RequestError(
            "the network was made under torch.inference_mode(), which autograd cannot follow: make it outside of it"
        )
    if any(tensor.device.type == "meta" for tensor in tensors):
        raise RequestError("the network is on the meta device and has no numbers: give it some with to_empty() first")
    first = next((tensor for tensor in tensors if tensor.is_floating_point()), None)
    example = example.detach()
    if first is None:
        return example
    return example.to(first.device, first.dtype if example.is_floating_point() else example.dtype)


def _require_plain(model: nn.Module) -> None:
    """Refuse networks whose layers are no Python modules that could be changed."""
    for name, module in model.named_modules():
        kind = type(module)
        where = f"{name} ({kind.__name__})" if name else f"the network ({kind.__name__})"
        if isinstance(module, torch.jit.ScriptModule):
            raise RequestError(f"{where} is TorchScript, which cannot be pruned: give the module that it was made from")
        if "quantized" in kind.__module__.split("."):
            raise RequestError(f"{where} is quantised, which cannot be pruned: prune first and quantise the result")
        if _is_exported(module):
            raise RequestError(
                f"{where} is an exported graph, which cannot be pruned: give the module it was made from"
            )
        if is_compiled(module):
            raise RequestError(
                f"{where} is compiled: prune the module that torch.compile was given, and compile the result"
            )
        forward = module.__dict__.get("forward")
        if forward is not None and getattr(forward, "__self__", None) is not module:
            raise RequestError(
                f"{where} has another function in place of its method forward, which copies would share: define a class"
            )


def _is_exported(module: nn.Module) -> bool:
    """Whether a module is what `torch.export` makes: a graph with its shapes written into it."""
    return isinstance(module, torch.fx.GraphModule) and any(
        node.target is torch.ops.aten.sym_size.int or str(node.target).startswith("aten.")
        for node in module.graph.nodes
    )
