"""A copy of a network whose numbers hide nothing, on which claims about its structure are tried out.

Pruned networks are held to masked ones of full size, at every convolution and linear layer. Channels are masked where
they are read, in their consumers' columns; and where they are made, which computes the same only if what lies between
gives zero for zero. Every group learns where masking it is exact.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from bench.errors import first_line
from bench.structure.copies import FAILURES, borrowed, duplicate
from bench.structure.groups import Block, ChannelGroup, GateSide, Member, Pruning, Structure
from bench.structure.layers import convolves, makes_channels, require_rule
from bench.structure.names import inside
from bench.structure.stack import running
from bench.structure.surgery import SurgeryPlan, carve, plan_of, zero
from bench.structure.tensors import tensors_in

SIDES = (48, 64)
"""Pixels a side that are tried: enough for every encoder of stride 32, and cheap."""
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
        self.model = duplicate(model, _untouched(model)).to("cpu")
        for module in self.model.modules():
            module.training = False
        self.example = example.detach().to("cpu")
        own = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
        self.model.to(torch.float32)
        self._randomise()
        self._own_type = own
        self._inputs: list[torch.Tensor] = []
        self.tolerance = TOLERANCES.get(torch.float32, 1e-4)

    def _prepare(self) -> list[torch.Tensor]:
        """Inputs to try, the first that the network takes being the one. One image, no larger than it must be.

        Numbers are float32 unless the network names its own type.
        """
        if not self.example.is_floating_point():
            return [self.example]
        own = self._own_type
        if own not in (torch.float32, torch.float64) and not any(map(self._runs, self._sizes(torch.float32))):
            self.model.to(own)
            self.tolerance = TOLERANCES.get(own, 1e-4)
            return self._sizes(own)
        return self._sizes(torch.float32)

    def _random(self, like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.rand(like.shape, generator=self.generator) * (high - low) + low

    @torch.no_grad()
    def _randomise(self) -> None:
        for module in self.model.modules():
            for name, p in module.named_parameters(recurse=False):
                bounds = _redrawn(name, p)
                if bounds is not None:
                    p.copy_(self._random(p, *bounds))
            for name, b in module.named_buffers(recurse=False):
                if name == "running_mean":
                    b.copy_(self._random(b, -0.5, 0.5))
                elif name == "running_var":
                    b.copy_(self._random(b, 0.5, 1.5))
                elif b.is_floating_point() and sum(n > 1 for n in b.shape) == 1:  # no two channels alike
                    b.mul_(self._random(b, 0.8, 1.2)).add_(self._random(b, 0, 0.1))

    def _sizes(self, dtype: torch.dtype) -> list[torch.Tensor]:
        """Inputs like the example, the cheapest first; the last one is of its size."""
        whole = torch.randn(self.example.shape, generator=self.generator)
        options = [whole[:1], whole] if len(whole) > 1 else [whole]
        for side in reversed(SIDES):
            if whole.ndim == 4 and max(whole.shape[2:]) > side:
                options.insert(0, F.interpolate(whole[:1], size=tuple(min(side, n) for n in whole.shape[2:])))
        return [option.to(dtype) for option in options]

    def _runs(self, x: torch.Tensor) -> bool:
        try:
            self.outputs(x)
        except FAILURES:
            return False  # the network insists on its input size, or on more than one image
        return True

    @torch.no_grad()
    def outputs(self, x: torch.Tensor) -> list[torch.Tensor]:
        """What the network as it is returns."""
        with borrowed(self.model):  # a network may keep what it computes
            return list(tensors_in(self.model(x.clone())))

    # -- groups --------------------------------------------------------------------------------------------

    def verified(
        self, groups: Sequence[ChannelGroup], blocks: Sequence[Block]
    ) -> tuple[tuple[ChannelGroup, ...], tuple[Block, ...], dict[str, str]]:
        """The groups and blocks that can be pruned, and why others cannot.

        Groups come with the sides on which masking them is exact.
        """
        self._inputs = self._inputs or self._prepare()
        if self._both_exact(groups, blocks):
            return tuple(groups), tuple(blocks), {}
        kept, failures = self._verified_groups(groups)
        standing, failed = self._removable(blocks)
        return kept, standing, failures | failed

    def _verified_groups(self, groups: Sequence[ChannelGroup]) -> tuple[tuple[ChannelGroup, ...], dict[str, str]]:
        failures: dict[str, str] = {}
        rest = list(groups)
        for draw in range(2):
            while rest:
                pruning = self._drawn(rest, draw)
                try:
                    if draw == 0:
                        rest = self._held(rest, pruning)
                    else:
                        self._require(rest, (), pruning)
                    break
                except Difference as difference:
                    bad = self._blamed(rest, difference, draw)
                    failures |= bad
                    rest = [group for group in rest if group.name not in bad]
        return tuple(rest), failures

    def _both_exact(self, groups: Sequence[ChannelGroup], blocks: Sequence[Block]) -> bool:
        """Whether all is as in most networks: two prunings hold, one at the producers and one at the consumers."""
        structure = Structure(tuple(groups), tuple(blocks))
        try:
            pruning = self._drawn(groups, 0)
            plan = plan_of(structure, pruning)
            zeroed, produced = self._zeros(structure, pruning)
            if len(zeroed) < len(groups) or self._differs(produced, self._pruned(plan), plan) is not None:
                return False
            pruning = replace(self._drawn(groups, 1), drop_blocks=tuple(block.name for block in blocks))
            plan = plan_of(structure, pruning)
            return self._differs(self._masked(structure, pruning, "consumer"), self._pruned(plan), plan) is None
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

    def _require(self, groups: Sequence[ChannelGroup], blocks: Sequence[Block], pruning: Pruning) -> None:
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
        layer = self.model.get_submodule(difference.where)
        if makes_channels(layer) and not _plain(layer):
            kind = type(layer).__name__
            difference.reason = f"{kind} {difference.where} does not read its input channel by channel"
            if _standardises(layer):
                return self._read_by(type(layer), groups)
        near = [group for group in groups if any(inside(m.module, difference.where) for m in group.members)]
        if difference.where and 0 < len(near) < len(groups) and self._wrong(near, draw):
            return dict.fromkeys(self._halved(near, draw), difference.reason)
        found: dict[str, str] = {}
        for name in self._halved(groups, draw):
            alone = [group for group in groups if group.name == name]
            found[name] = self._wrong(alone, draw) or difference.reason
        return found

    def _read_by(self, kind: type[nn.Module], groups: Sequence[ChannelGroup]) -> dict[str, str]:
        """The groups that layers of one type read, which standardise their weights over all channels that they read."""
        found: dict[str, str] = {}
        for group in groups:
            for member in group.consumers:
                if type(self.model.get_submodule(member.module)) is kind:
                    found[group.name] = (
                        f"{kind.__name__} {member.module} standardises its weight over its input channels"
                    )
                    break
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
            middle = max(1, n // 8)  # thin networks run fast
            low, high = (1, middle) if draw == 0 else (middle + 1, max(middle + 1, n // 4))
            count = int(torch.randint(low, high + 1, (), generator=self.generator))
            keep[group.name] = group.drawn(min(count, n - 1), self.generator)
        return Pruning(keep)

    # -- blocks --------------------------------------------------------------------------------------------

    def _removable(self, blocks: Sequence[Block]) -> tuple[tuple[Block, ...], dict[str, str]]:
        """The blocks that can be dropped, and why others cannot."""

        def wrong(some: Sequence[Block]) -> str | None:
            try:
                self._require((), some, Pruning({}, tuple(block.name for block in some)))
            except Difference as difference:
                return difference.reason
            return None

        failures: dict[str, str] = {}
        if blocks and wrong(blocks) is not None:
            failures = {block.name: reason for block in blocks if (reason := wrong([block])) is not None}
        return tuple(block for block in blocks if block.name not in failures), failures

    # -- runs ----------------------------------------------------------------------------------------------

    def _pruned(self, plan: SurgeryPlan) -> dict[str, list[torch.Tensor]]:
        """What the layers of the pruned network return.

        Raises:
            Difference: it fails.
        """
        with borrowed(self.model):
            carve(self.model, plan)
            try:
                return self._everywhere()
            except FAILURES as error:
                said = first_line(error)
                reason = f"with its channels cut the network fails, as where code fixes a width: {said}"
        with borrowed(self.model):  # once more, to see where
            carve(self.model, plan)
            with running(self.model) as stack, contextlib.suppress(*FAILURES):
                self._everywhere()
            raise Difference(reason, stack[-1] if stack else "")

    def _masked(self, structure: Structure, pruning: Pruning, side: GateSide | None) -> dict[str, list[torch.Tensor]]:
        with borrowed(self.model):
            at_columns = [g for g in structure.groups if (side or g.side("producer")) == "consumer"]
            rest = [group for group in structure.groups if group not in at_columns]
            keep = {group.name: pruning.keep[group.name] for group in rest}
            zero(self.model, Structure(tuple(rest), structure.blocks), replace(pruning, keep=keep), "producer")
            for layer, hide in self._dropped_columns(at_columns, pruning):
                layer.register_forward_pre_hook(hide, with_kwargs=True)
            return self._everywhere()

    def _dropped_columns(
        self, groups: Sequence[ChannelGroup], pruning: Pruning
    ) -> Iterator[tuple[nn.Module, Callable[..., Any]]]:
        """By layer, a hook that hides from it the dropped channels of the groups that it reads."""
        rows: dict[str, list[torch.Tensor]] = {}
        for group in groups:
            for member in group.consumers:
                rows.setdefault(member.module, []).append(_dropped(group, member, pruning))
        for name, parts in rows.items():
            yield self.model.get_submodule(name), _hide(torch.cat(parts))

    def _zeros(self, structure: Structure, pruning: Pruning) -> tuple[set[str], dict[str, list[torch.Tensor]]]:
        """Groups whose channels, zeroed where they are made, are zero wherever they are read; and what layers give."""
        alive = {group.name for group in structure.groups if not group.gates}
        with borrowed(self.model):
            zero(self.model, structure, pruning, "producer")
            for group in structure.groups:
                for member in group.consumers:
                    layer = self.model.get_submodule(member.module)
                    test = _zero_test(alive, group.name, _dropped(group, member, pruning))
                    layer.register_forward_pre_hook(test, with_kwargs=True)
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
        while True:
            try:
                seen[""] = list(tensors_in(self.model(self._inputs[0].clone())))
            except FAILURES:
                if len(self._inputs) == 1:
                    raise
                del self._inputs[0]  # the first run, of a masked network, which takes what the network does
                seen.clear()
            else:
                del self._inputs[1:]
                return seen

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


def _untouched(model: nn.Module) -> dict[int, torch.Tensor]:
    """The weights that a probe leaves as they are and need not copy, by `id`."""
    tensors = [t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()]
    if any(t.device.type != "cpu" or t.dtype != torch.float32 for t in tensors):
        return {}
    return {id(p): p for name, p in model.named_parameters() if _redrawn(name.rpartition(".")[2], p) is None}


def _redrawn(name: str, parameter: torch.Tensor) -> tuple[float, float] | None:
    """Between what numbers a probe draws a module's parameter anew; None for one that it leaves as it is."""
    if not parameter.is_floating_point():
        return None
    if name == "bias":
        return -0.5, 0.5
    if sum(n > 1 for n in parameter.shape) <= 1:  # a scale: of a norm, a layer, a channel
        return 0.5, 1.5
    if _mostly_zero(parameter):  # to start as an identity
        most = parameter[0].numel() ** -0.5
        return -most, most
    return None


def _mostly_zero(weight: torch.Tensor) -> bool:
    sample = weight.detach().flatten()[:: max(1, weight.numel() // 1024)]
    if 2 * int(sample.count_nonzero()) > sample.numel():
        return False
    return weight.numel() > 2 * int(weight.count_nonzero())


def _dropped(group: ChannelGroup, member: Member, pruning: Pruning) -> torch.Tensor:
    """The rows of a member whose channels are dropped."""
    kept = pruning.keep[group.name].numpy().reshape(group.n_bundles, -1)[:, 0]
    return torch.as_tensor(member.rows[~kept].ravel())


def _hide(rows: torch.Tensor) -> Any:
    """A hook that gives a layer zeros for its input channels `rows`: what zero columns of its weight would read."""

    def hide(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = next(tensors_in((*args, *kwargs.values())))
        hidden = given.index_fill(require_rule(layer).channel_axis(layer, given.ndim), rows, 0)
        swapped = {key: hidden if value is given else value for key, value in kwargs.items()}
        return tuple(hidden if value is given else value for value in args), swapped

    return hide


def _zero_test(alive: set[str], group: str, rows: torch.Tensor) -> Any:
    """A hook that notes `group` as alive where a layer reads something of its channels `rows`."""

    def test(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = next(tensors_in((*args, *kwargs.values())))
        axis = require_rule(layer).channel_axis(layer, x.ndim)
        if x.index_select(axis, rows).count_nonzero():
            alive.add(group)

    return test


def _plain(layer: nn.Module) -> bool:
    """Whether a layer runs PyTorch's own code, and not that of a subclass, which may standardise its weight."""
    return type(layer).forward.__module__.startswith("torch.nn.modules")


@torch.no_grad()
def _standardises(layer: Any) -> bool:
    """Whether a convolution's weight of another scale makes no difference, since each filter is standardised."""
    weight = layer._parameters.get("weight")
    if not convolves(layer) or weight is None:
        return False
    x = torch.randn(1, layer.in_channels, *(8 for _ in layer.kernel_size), dtype=weight.dtype)
    try:
        with borrowed(layer):
            made: list[torch.Tensor] = []
            for scale in (100, 1000):  # large beside the small number that keeps a division from failing
                layer._parameters["weight"] = nn.Parameter(scale * weight.detach())
                made.append(next(tensors_in(layer(x))))
            return float((made[0] - made[1]).abs().max()) <= 1e-2 * float(made[0].abs().max())
    except FAILURES:
        return False
