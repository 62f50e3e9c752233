"""A copy of a network whose numbers hide nothing, on which claims about its structure are tried out."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn as nn
import torch.nn.functional as F

from bench.structure.walk import CONVS, tensors_in

if TYPE_CHECKING:
    from bench.structure.graph import ChannelGroup

SIDE = 64  # pixels: enough for every encoder of stride 32, and cheap
TOLERANCE = 1e-4  # of the output's largest value


class Probe:
    """The copy: on the CPU, in eval mode, float32, with random norms and biases, so that nothing cancels."""

    def __init__(self, model: nn.Module, example: torch.Tensor) -> None:
        training = {module: module.training for module in model.modules()}
        self.model = copy.deepcopy(model).to("cpu", torch.float32).eval()
        assert all(module.training == flag for module, flag in training.items())
        self.generator = torch.Generator().manual_seed(0)
        self._randomise()
        self.example = example.float()
        self.input = self._small(self.example)

    def _random(self, like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.rand(like.shape, generator=self.generator) * (high - low) + low

    @torch.no_grad()
    def _randomise(self) -> None:
        for module in self.model.modules():
            for name, p in module.named_parameters(recurse=False):
                p.requires_grad_(p.is_floating_point())
                if name == "bias":
                    p.copy_(self._random(p, -0.5, 0.5))
                elif sum(n > 1 for n in p.shape) <= 1:  # a scale: of a norm, a layer, a channel
                    p.copy_(self._random(p, 0.5, 1.5))
                elif p.numel() > 2 * int(p.count_nonzero()):  # initialised to zero, to start as an identity
                    p.copy_(self._random(p, -1, 1) / p[0].numel() ** 0.5)
            for name, b in module.named_buffers(recurse=False):
                if name == "running_mean":
                    b.copy_(self._random(b, -0.5, 0.5))
                elif name == "running_var":
                    b.copy_(self._random(b, 0.5, 1.5))

    def _small(self, example: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(1, *example.shape[1:], generator=self.generator)
        if noise.ndim != 4 or max(noise.shape[2:]) <= SIDE:
            return noise
        small = F.interpolate(noise, size=(min(SIDE, noise.shape[2]), min(SIDE, noise.shape[3])))
        try:
            self.outputs(self.model, small)
        except (RuntimeError, ValueError, AssertionError):
            return noise  # the network insists on its input size
        return small

    @torch.no_grad()
    def outputs(self, model: nn.Module, x: torch.Tensor | None = None) -> list[torch.Tensor]:
        return list(tensors_in(model(self.input if x is None else x)))

    def failing(self, groups: Sequence[ChannelGroup]) -> dict[str, str]:
        """Groups whose pruning changes what the masked network computes, with what happened."""
        failures: dict[str, str] = {}
        while True:
            rest = [group for group in groups if group.name not in failures]
            if not rest or self.compare(rest) is None:
                return failures
            failures |= self._bisect(rest)

    def _bisect(self, groups: Sequence[ChannelGroup]) -> dict[str, str]:
        if len(groups) == 1:
            return {groups[0].name: self.compare(groups) or "fails together with other groups"}
        half = len(groups) // 2
        bad = [part for part in (groups[:half], groups[half:]) if self.compare(part) is not None]
        found: dict[str, str] = {}
        for part in bad or [groups[half:]]:
            found |= self._bisect(part)
        return found

    def compare(self, groups: Sequence[ChannelGroup]) -> str | None:
        """Prune random channels of `groups`; None if masked and pruned agree, else what differs."""
        from bench.structure.surgery import Pruning

        keep: dict[str, torch.Tensor] = {}
        for group in groups:
            bundles = torch.rand(group.bundles, generator=self.generator) < 0.5
            first, second = torch.randperm(group.bundles, generator=self.generator)[:2].tolist()
            bundles[first], bundles[second] = True, False
            keep[group.name] = bundles.repeat_interleave(group.bundle)
        return self.difference(groups, (), Pruning(keep))

    @torch.no_grad()
    def difference(self, groups: Sequence[ChannelGroup], blocks: Sequence[Any], pruning: Any) -> str | None:
        from bench.structure.surgery import Structure, apply_recipe, recipe_of, skeleton, zero

        structure = Structure(tuple(groups), tuple(blocks))
        recipe = recipe_of(structure, pruning)
        small = apply_recipe(self.model, recipe, share=True)
        touched = {m.module for g in groups for m in g.members if m.kind != "in"} | {b.gate for b in blocks}
        masked = skeleton(self.model)
        for name in touched:
            module = masked.get_submodule(name)
            for store in (module._parameters, module._buffers):
                for key, tensor in store.items():
                    if tensor is not None:
                        copied = tensor.detach().clone()
                        store[key] = nn.Parameter(copied) if isinstance(tensor, nn.Parameter) else copied  # pyright: ignore[reportArgumentType]
        zero(masked, structure, pruning)
        expected = self._everywhere(masked)
        try:
            got = self._everywhere(small)
        except (RuntimeError, ValueError, IndexError, TypeError, AssertionError) as error:
            first = str(error).strip().splitlines() or [type(error).__name__]
            return f"the pruned network fails: {first[0]}"
        for name, tensors in got.items():
            sides = recipe["layers"].get(name, {})
            side = sides.get("out") or sides.get("pass")
            for a, b in zip(expected[name], tensors, strict=True):
                if side is not None:
                    axis = -1 if isinstance(self.model.get_submodule(name), nn.Linear) else 1
                    a = a.index_select(axis, torch.tensor(side["kept"]))
                if a.shape != b.shape:
                    return "the pruned network's output has another shape"
                if not (a.isfinite().all() and float((a - b).abs().max()) <= TOLERANCE * float(a.abs().max())):
                    return "the pruned network differs from the masked one"
        return None

    def _everywhere(self, model: nn.Module) -> dict[str, list[torch.Tensor]]:
        """What every convolution and linear layer returns, and under "" the network: a dead ReLU hides nothing."""
        seen: dict[str, list[torch.Tensor]] = {}
        handles = []
        for name, module in model.named_modules():
            if isinstance(module, (*CONVS, nn.Linear)):

                def note(m: nn.Module, args: object, output: torch.Tensor, name: str = name) -> None:
                    seen.setdefault(name, []).append(output.clone())  # what follows may work in place

                handles.append(module.register_forward_hook(note))
        try:
            seen[""] = self.outputs(model)
        finally:
            for handle in handles:
                handle.remove()
        return seen
