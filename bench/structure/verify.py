"""A copy of a network whose numbers hide nothing, on which claims about its structure are tried out.

Pruned networks are held to masked ones of full size, at every convolution and linear layer. Channels are masked where
they are read, in their consumers' columns; and where they are made, which computes the same only if what lies between
gives zero for zero. Every group learns where masking it is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from bench.errors import first_line
from bench.structure.copies import FAILURES, borrowed, duplicate
from bench.structure.groups import Block, ChannelGroup, GateSide, Pruning, Structure
from bench.structure.layers import makes_channels, require_rule
from bench.structure.stack import running
from bench.structure.surgery import SurgeryPlan, carve, plan_of, zero
from bench.structure.tensors import tensors_in

SIDE = 64  # pixels: enough for every encoder of stride 32, and cheap
TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-6, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Of the output's largest value."""
DIFFERS = "the pruned network differs from the masked one"


class Difference(Exception):
    """A pruned network is not what it should be.

    Args:
        reason: what is wrong with it.
        where: the layer or module in which that shows first.
    """

    def __init__(self, reason: str, where: str) -> None:
        super().__init__(reason)
        self.reason, self.where = reason, where


class Probe:
    """The copy: on the CPU, in eval mode, float32, with random norms and biases, so that nothing cancels."""

    def __init__(self, model: nn.Module, example: torch.Tensor) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.model = duplicate(model).to("cpu")
        for module in self.model.modules():
            module.training = False
        self.example = example.detach().to("cpu")
        own = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
        self.model.to(torch.float32)
        self._randomise()
        floating = self.example.is_floating_point()
        self.input = self._small(self.example.float() if floating else self.example)
        if own not in (torch.float32, torch.float64) and not self._runs(self.input):
            self.model.to(own)  # a network that names its own type
            self.input = self._small(self.example.to(own) if floating else self.example)
        tensor = next((p for p in self.model.parameters() if p.is_floating_point()), self.input)
        self.tolerance = TOLERANCES.get(tensor.dtype, 1e-4)

    def _random(self, like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.rand(like.shape, generator=self.generator) * (high - low) + low

    @torch.no_grad()
    def _randomise(self) -> None:
        for module in self.model.modules():
            for name, p in module.named_parameters(recurse=False):
                p.requires_grad_(p.is_floating_point())
                if not p.is_floating_point():
                    continue
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
                elif b.is_floating_point() and sum(n > 1 for n in b.shape) == 1:  # no two channels alike
                    b.mul_(self._random(b, 0.8, 1.2)).add_(self._random(b, 0, 0.1))

    def _small(self, example: torch.Tensor) -> torch.Tensor:
        """A cheap input that the network takes: one image, no larger than it must be."""
        if not example.is_floating_point():
            return example
        noise = torch.randn(1, *example.shape[1:], generator=self.generator).to(example.dtype)
        options = [noise]
        if noise.ndim == 4 and max(noise.shape[2:]) > SIDE:
            options.insert(0, F.interpolate(noise, size=(min(SIDE, noise.shape[2]), min(SIDE, noise.shape[3]))))
        options.append(torch.randn(example.shape, generator=self.generator).to(example.dtype))
        return next((option for option in options[:-1] if self._runs(option)), options[-1])

    def _runs(self, x: torch.Tensor) -> bool:
        try:
            self.outputs(x)
        except FAILURES:
            return False  # the network insists on its input size, or on more than one image
        return True

    @torch.no_grad()
    def outputs(self, x: torch.Tensor | None = None) -> list[torch.Tensor]:
        """What the network as it is returns."""
        with borrowed(self.model):  # a network may keep what it computes
            return list(tensors_in(self.model((self.input if x is None else x).clone())))

    # -- groups --------------------------------------------------------------------------------------------

    def verified(self, groups: Sequence[ChannelGroup]) -> tuple[tuple[ChannelGroup, ...], dict[str, str]]:
        """The groups that can be pruned, with the sides on which masking them is exact; and why others cannot."""
        if self._both_exact(groups):
            return tuple(groups), {}
        failures: dict[str, str] = {}
        rest = list(groups)
        for draw in range(2):
            while rest:
                pruning = self._drawn(rest, draw)
                try:
                    rest = self._held(rest, pruning) if draw == 0 else self._held_again(rest, pruning)
                    break
                except Difference as difference:
                    bad = self._blamed(rest, difference, draw)
                    failures |= bad
                    rest = [group for group in rest if group.name not in bad]
        return tuple(rest), failures

    def _both_exact(self, groups: Sequence[ChannelGroup]) -> bool:
        """Whether all is as in most networks: two prunings hold, one at the producers and one at the consumers."""
        structure = Structure(tuple(groups), ())
        try:
            first, second = self._drawn(groups, 0), self._drawn(groups, 1)
            plan = plan_of(structure, first)
            zeroed, produced = self._zeros(structure, first)
            if len(zeroed) < len(groups) or self._differs(produced, self._pruned(plan), plan) is not None:
                return False
            plan = plan_of(structure, second)
            return self._differs(self._masked(structure, second, "consumer"), self._pruned(plan), plan) is None
        except Difference:
            return False

    def _held(self, groups: Sequence[ChannelGroup], pruning: Pruning) -> list[ChannelGroup]:
        """The groups with their exact sides, once their pruned network is found to be the masked one."""
        plain = Structure(tuple(groups), ())
        plan = plan_of(plain, pruning)
        small = self._pruned(plan)
        zeroed, produced = self._zeros(plain, pruning)
        all_zero = len(zeroed) == len(groups)
        at_producers = all_zero and self._differs(produced, small, plan) is None
        consumed = self._masked(plain, pruning, "consumer")
        at_columns = self._differs(consumed, small, plan) is None
        if at_columns and all_zero and not at_producers:
            zeroed = set()
        sides: list[GateSide]
        made = []
        for group in groups:
            sides = ["producer"] if group.name in zeroed else []
            if at_columns or not sides:
                sides.append("consumer")
            made.append(replace(group, exact=tuple(sides)))
        if not at_columns and not at_producers:
            self._require_same(Structure(tuple(made), ()), pruning, plan, small)
        return made

    def _held_again(self, groups: list[ChannelGroup], pruning: Pruning) -> list[ChannelGroup]:
        """The groups, once a second pruned network is found to be the masked one."""
        structure = Structure(tuple(groups), ())
        plan = plan_of(structure, pruning)
        self._require_same(structure, pruning, plan, self._pruned(plan))
        return groups

    def require(self, groups: Sequence[ChannelGroup], blocks: Sequence[Block], pruning: Pruning) -> None:
        """Hold one pruned network to the masked one.

        Raises:
            Difference: it computes something else, or fails.
        """
        structure = Structure(tuple(groups), tuple(blocks))
        plan = plan_of(structure, pruning)
        self._require_same(structure, pruning, plan, self._pruned(plan))

    def _require_same(
        self, structure: Structure, pruning: Pruning, plan: SurgeryPlan, small: dict[str, list[torch.Tensor]]
    ) -> None:
        where = self._differs(self._masked(structure, pruning, None), small, plan)
        if where is not None:
            raise Difference(DIFFERS, where)

    def _blamed(self, groups: Sequence[ChannelGroup], difference: Difference, draw: int) -> dict[str, str]:
        """The groups that a difference is laid at: those of the layer where it shows, else those found by halving."""
        near = [group for group in groups if any(_within(m.module, difference.where) for m in group.members)]
        if difference.where and 0 < len(near) < len(groups) and self._wrong(near, draw):
            return dict.fromkeys(self._halved(near, draw), difference.reason)
        found: dict[str, str] = {}
        for name in self._halved(groups, draw):
            alone = [group for group in groups if group.name == name]
            found[name] = self._wrong(alone, draw) or difference.reason
        return found

    def _halved(self, groups: Sequence[ChannelGroup], draw: int) -> list[str]:
        """Groups that are wrong by themselves, or else those that are wrong together."""
        if len(groups) == 1:
            return [groups[0].name]
        middle = len(groups) // 2
        halves = (groups[:middle], groups[middle:])
        bad = [half for half in halves if self._wrong(half, draw)]
        return [name for half in bad or [halves[1]] for name in self._halved(half, draw)]

    def _wrong(self, groups: Sequence[ChannelGroup], draw: int) -> str | None:
        """What is wrong with a network of which these groups alone are pruned."""
        try:
            self._held(groups, self._drawn(groups, draw))
        except Difference as difference:
            return difference.reason
        return None

    def _drawn(self, groups: Iterable[ChannelGroup], draw: int) -> Pruning:
        """Random channels; as far as a group has enough of them, another number at each draw."""
        keep: dict[str, torch.Tensor] = {}
        for group in groups:
            n = group.n_bundles
            low, high = (1, max(1, n // 2)) if draw == 0 else (n // 2 + 1, n - 1)
            count = low if high < low else int(torch.randint(low, high + 1, (), generator=self.generator))
            bundles = torch.zeros(n, dtype=torch.bool)
            bundles[torch.randperm(n, generator=self.generator)[: min(count, n - 1)]] = True
            keep[group.name] = bundles.repeat_interleave(group.bundle)
        return Pruning(keep)

    # -- blocks --------------------------------------------------------------------------------------------

    def removable(self, blocks: Sequence[Block]) -> tuple[tuple[Block, ...], list[tuple[str, str]]]:
        """The blocks that can be dropped, and why others cannot."""

        def wrong(some: Sequence[Block]) -> str | None:
            try:
                self.require((), some, Pruning({}, tuple(block.name for block in some)))
            except Difference as difference:
                return difference.reason
            return None

        failures: dict[str, str] = {}
        if blocks and wrong(blocks) is not None:
            failures = {block.name: reason for block in blocks if (reason := wrong([block])) is not None}
        return tuple(block for block in blocks if block.name not in failures), list(failures.items())

    # -- runs ----------------------------------------------------------------------------------------------

    def _pruned(self, plan: SurgeryPlan) -> dict[str, list[torch.Tensor]]:
        with borrowed(self.model):
            carve(self.model, plan)
            with running(self.model) as stack:
                try:
                    return self._everywhere()
                except FAILURES as error:
                    raise Difference(
                        f"the pruned network fails: {first_line(error)}", stack[-1] if stack else ""
                    ) from None

    def _masked(self, structure: Structure, pruning: Pruning, side: GateSide | None) -> dict[str, list[torch.Tensor]]:
        with borrowed(self.model):
            zero(self.model, structure, pruning, side)
            return self._everywhere()

    def _zeros(self, structure: Structure, pruning: Pruning) -> tuple[set[str], dict[str, list[torch.Tensor]]]:
        """Groups whose channels, zeroed where they are made, are zero wherever they are read; and what layers give."""
        alive = {group.name for group in structure.groups if not group.gates}
        with borrowed(self.model):
            zero(self.model, structure, pruning, "producer")
            for group in structure.groups:
                kept = pruning.keep[group.name].numpy().reshape(group.n_bundles, -1)[:, 0]
                for member in group.consumers:
                    rows = torch.as_tensor(member.rows[~kept].ravel())
                    layer = self.model.get_submodule(member.module)
                    layer.register_forward_pre_hook(_zero_test(alive, group.name, rows), with_kwargs=True)
            seen = self._everywhere()
        return {group.name for group in structure.groups} - alive, seen

    @torch.no_grad()
    def _everywhere(self) -> dict[str, list[torch.Tensor]]:
        """What every convolution and linear layer returns, and under "" the network: a dead ReLU hides nothing."""
        seen: dict[str, list[torch.Tensor]] = {}
        for name, module in self.model.named_modules():
            if makes_channels(module):

                def note(m: nn.Module, args: object, output: object, name: str = name) -> None:
                    made = next(tensors_in(output), None)
                    if made is not None:
                        seen.setdefault(name, []).append(made.clone())  # what follows may work in place

                module.register_forward_hook(note)
        result = list(tensors_in(self.model(self.input.clone())))
        return {**seen, "": result}

    def _differs(
        self, expected: dict[str, list[torch.Tensor]], got: dict[str, list[torch.Tensor]], plan: SurgeryPlan
    ) -> str | None:
        """The first layer whose kept channels are not as expected ("" the network); None if all are."""
        for name, tensors in got.items():
            sides = plan.layers.get(name, {})
            side = sides.get("out") or sides.get("pass")
            layer = self.model.get_submodule(name)
            for a, b in zip(expected[name], tensors, strict=True):
                if side is not None:
                    a = a.index_select(require_rule(layer).channel_axis(layer, a.ndim), torch.tensor(side.kept))
                if not self._same(a, b):
                    return name
        return None

    def _same(self, a: torch.Tensor, b: torch.Tensor) -> bool:
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        if not a.is_floating_point():
            return torch.equal(a, b)
        if not a.numel():
            return True
        return bool(a.isfinite().all()) and float((a - b).abs().max()) <= self.tolerance * float(a.abs().max())


def _zero_test(alive: set[str], group: str, rows: torch.Tensor) -> Any:
    """A hook that notes `group` as alive where a layer reads something of its channels `rows`."""

    def test(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = next(tensors_in((*args, *kwargs.values())))
        axis = require_rule(layer).channel_axis(layer, x.ndim)
        if x.index_select(axis, rows).count_nonzero():
            alive.add(group)

    return test


def _within(name: str, place: str) -> bool:
    return name == place or name.startswith(place + ".")
