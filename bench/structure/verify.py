"""A copy of a network whose numbers hide nothing, on which claims about its structure are tried out."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from bench.structure.groups import Block, ChannelGroup, Pruning, Structure
from bench.structure.layers import makes_channels, require_rule
from bench.structure.surgery import cut, plan_of, skeleton, zero
from bench.structure.tensors import tensors_in

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
        return list(tensors_in(model((self.input if x is None else x).clone())))  # some change their input in place

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
        keep: dict[str, torch.Tensor] = {}
        for group in groups:
            bundles = torch.rand(group.n_bundles, generator=self.generator) < 0.5
            first, second = torch.randperm(group.n_bundles, generator=self.generator)[:2].tolist()
            bundles[first], bundles[second] = True, False
            keep[group.name] = bundles.repeat_interleave(group.bundle)
        return self.difference(groups, (), Pruning(keep))

    @torch.no_grad()
    def difference(self, groups: Sequence[ChannelGroup], blocks: Sequence[Block], pruning: Pruning) -> str | None:
        """What tells the pruned network from the masked one; None where they compute the same."""
        structure = Structure(tuple(groups), tuple(blocks))
        plan = plan_of(structure, pruning)
        small = cut(self.model, plan)
        expected = self._everywhere(self._masked(structure, pruning))
        try:
            got = self._everywhere(small)
        except (RuntimeError, ValueError, IndexError, TypeError, AssertionError) as error:
            first = str(error).strip().splitlines() or [type(error).__name__]
            return f"the pruned network fails: {first[0]}"
        for name, tensors in got.items():
            sides = plan.layers.get(name, {})
            side = sides.get("out") or sides.get("pass")
            layer = self.model.get_submodule(name)
            for a, b in zip(expected[name], tensors, strict=True):
                if side is not None:
                    a = a.index_select(require_rule(layer).channel_axis(layer, a.ndim), torch.tensor(side.kept))
                if a.shape != b.shape:
                    return "the pruned network's output has another shape"
                if not (a.isfinite().all() and float((a - b).abs().max()) <= TOLERANCE * float(a.abs().max())):
                    return "the pruned network differs from the masked one"
        return None

    def _masked(self, structure: Structure, pruning: Pruning) -> nn.Module:
        """A copy with zeroed channels and blocks; tensors that are not zeroed stay shared with the probe's model."""
        touched = {m.module for g in structure.groups for m in g.members if m.kind != "in"}
        touched |= {block.gate for block in structure.blocks}
        masked = skeleton(self.model)
        for name in touched:
            module = masked.get_submodule(name)
            for store in (module._parameters, module._buffers):
                for key, tensor in store.items():
                    if tensor is not None:
                        copied = tensor.detach().clone()
                        store[key] = nn.Parameter(copied) if isinstance(tensor, nn.Parameter) else copied  # pyright: ignore[reportArgumentType]
        zero(masked, structure, pruning)
        return masked

    def _everywhere(self, model: nn.Module) -> dict[str, list[torch.Tensor]]:
        """What every convolution and linear layer returns, and under "" the network: a dead ReLU hides nothing."""
        seen: dict[str, list[torch.Tensor]] = {}
        handles = []
        for name, module in model.named_modules():
            if makes_channels(module):

                def note(m: nn.Module, args: object, output: torch.Tensor, name: str = name) -> None:
                    seen.setdefault(name, []).append(output.clone())  # what follows may work in place

                handles.append(module.register_forward_hook(note))
        try:
            seen[""] = self.outputs(model)
        finally:
            for handle in handles:
                handle.remove()
        return seen
