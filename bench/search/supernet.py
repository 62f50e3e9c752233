"""One network that computes mixtures of its thinner and shallower versions, at about the cost of one of them.

A decision is a width for each channel group and a depth for each stage of removable blocks. Of each decision a few
candidates are in use at a time, with weights: their outputs are brought to one width and added up. Norms have an
affine of their own for each width. With γ_k, β_k the affine of width k and A_k the map that resizes its first n_k
channels, a group's mixture is one linear map and a bias behind the norm: Σ_k w_k A_k (γ_k ⊙ x + β_k).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from bench.structure.layers import BatchNormRule, require_rule, rule_of
from bench.structure.shortcut import ACTIVATIONS

if TYPE_CHECKING:
    from bench.structure.graph import PruningGraph
    from bench.structure.groups import Block, Member

Resize = Callable[[int, int, int, torch.device], torch.Tensor]
"""(size, n, m, device) -> [size, size]: takes the first n of `size` channels to the first m."""


class Supernet:
    """Mixtures in `model`, in place from construction until `finish`.

    Decisions are numbered, groups first and then stages; `candidates` counts the choices of each. While mixtures are
    in place the model has parameters for each width, and its removable blocks stand inside a `BlockOfStage`, which
    shows in the names of their parameters; `finish` puts both back.

    Args:
        widths: candidate widths by group name, ascending, in bundles; equally many for all. Groups that are not
            named stay whole.
        depths: candidate depths, ascending, of a stage of n blocks; None: depths are not decided.
        resize: what brings fragments to one width.
    """

    def __init__(
        self,
        model: nn.Module,
        graph: PruningGraph,
        widths: Mapping[str, Sequence[int]],
        *,
        depths: Callable[[int], Sequence[int]] | None,
        resize: Resize,
    ) -> None:
        self.model, self.graph, self.resize = model, graph, resize
        self.groups = [g for g in graph.groups if g.name in widths]
        self.widths = [list(widths[g.name]) for g in self.groups]
        self._handles: list[Any] = []
        self._norms: list[tuple[Any, torch.Tensor]] = []
        self._maps: dict[bytes, tuple[torch.Tensor, torch.Tensor]] = {}
        self._index = self._weight = torch.empty(0)
        modules: dict[str, Any] = dict(model.named_modules())
        parts: dict[tuple[str, bool], list[tuple[int, Member]]] = {}
        for number, group in enumerate(self.groups):
            side = group.side("producer")
            for member in group.at(side):
                parts.setdefault((member.module, side == "consumer"), []).append((number, member))
        for (name, reads), members in parts.items():
            self._mix_widths(modules[name], members, reads=reads)
        self.stages: list[Stage] = []
        for blocks in stages_of(graph.blocks):
            if depths is None:
                break
            siblings = list(modules[blocks[0].name.rpartition(".")[0]].children())
            staying = 1 if len(siblings) > len(blocks) else 0  # a block that cannot go counts as one of its stage
            kept = [n - staying for n in depths(len(blocks) + staying)]
            if len(kept) > 1:
                self.stages.append(Stage(model, blocks, kept))
        self.candidates = [len(w) for w in self.widths] + [len(stage.depths) for stage in self.stages]

    # -- what is in use ------------------------------------------------------------------------------------

    def use(self, chosen: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """The candidates of the next forward passes: by decision, (indices [S], weights [S] with gradients).

        S is the same for all groups, and may be another for each stage.
        """
        device = next(self.model.parameters()).device
        groups, stages = chosen[: len(self.groups)], chosen[len(self.groups) :]
        self._maps = {}
        if groups:
            # A last line for channels of no group: their widest candidate, whole.
            whole = torch.zeros_like(groups[0][0]).float()
            whole[0] = 1
            last = torch.full_like(groups[0][0], len(self.widths[0]) - 1)
            self._index = torch.stack([*(i for i, _ in groups), last])  # [groups + 1, S]
            self._weight = torch.stack([*(w for _, w in groups), whole]).to(device)
        for stage, (index, weight) in zip(self.stages, stages, strict=True):
            stage.use(index, weight, device)

    def choose(self, choice: Sequence[int]) -> None:
        """One candidate of each decision: the network is that architecture, at full size."""
        self.use([(torch.tensor([k]), torch.ones(1)) for k in choice])

    # -- what decisions mean -------------------------------------------------------------------------------

    def architecture(self, choice: Sequence[int]) -> tuple[dict[str, int], tuple[str, ...]]:
        """(widths by group name, blocks to drop) of one candidate of each decision."""
        numbers = iter(choice)
        widths = {g.name: w[next(numbers)] * g.bundle for g, w in zip(self.groups, self.widths, strict=True)}
        dropped: list[str] = []
        for stage in self.stages:
            dropped += [block.name for block in stage.blocks[stage.depths[next(numbers)] :]]
        return widths, tuple(dropped)

    def macs(self, choice: Sequence[int]) -> int:
        """Multiply-adds of an architecture."""
        widths, dropped = self.architecture(choice)
        return self.graph.macs(widths, dict.fromkeys(dropped, 0) or None)

    def distributions(
        self, p: Sequence[torch.Tensor]
    ) -> tuple[dict[str, tuple[torch.Tensor, torch.Tensor]], dict[str, torch.Tensor]]:
        """What `bench.search.widths.ExpectedMacs` takes, from the probabilities of each decision's candidates."""
        rows = iter(p)
        widths = {
            g.name: (next(rows), torch.tensor(w, dtype=torch.float64) * g.bundle)
            for g, w in zip(self.groups, self.widths, strict=True)
        }
        blocks: dict[str, torch.Tensor] = {}
        for stage in self.stages:
            row = next(rows)
            for i, block in enumerate(stage.blocks):
                blocks[block.name] = row[[k for k, depth in enumerate(stage.depths) if depth > i]].sum()
        return widths, blocks

    def finish(self, choice: Sequence[int]) -> None:
        """Take the mixtures out; norms keep the affine of the chosen widths."""
        for handle in self._handles:
            handle.remove()
        for stage in self.stages:
            stage.finish()
        index = torch.tensor([*choice[: len(self.groups)], 0])
        with torch.no_grad():
            for norm, owner in self._norms:
                for key in ("weight", "bias"):
                    every = getattr(norm, f"{key}_of_width").view(-1, len(owner))
                    k = index[owner]
                    k[owner == len(self.groups)] = len(every) - 1
                    getattr(norm, key).copy_(every.gather(0, k[None].to(every.device))[0]).requires_grad_(True)
                    delattr(norm, f"{key}_of_width")

    # -- the mixtures --------------------------------------------------------------------------------------

    def _mix_widths(self, layer: Any, members: Sequence[tuple[int, Member]], *, reads: bool) -> None:
        """Mix what a layer makes; or what it reads, where a zero that is made is not zero where it is read."""
        size = members[0][1].of
        owner = torch.full((size,), len(self.groups))
        for number, member in members:
            owner[torch.as_tensor(member.rows.ravel())] = number
        key = b"/".join([b"%d" % number + member.rows.tobytes() for number, member in members])
        affine = isinstance(rule_of(layer), BatchNormRule) and layer.weight is not None and not reads
        if affine:
            count = len(self.widths[0])
            for name in ("weight", "bias"):
                # Flat, so that it is no more decayed than any other norm's.
                own = getattr(layer, name)
                layer.register_parameter(f"{name}_of_width", nn.Parameter(own.detach().repeat(count)))
                own.requires_grad_(False).fill_(1.0 if name == "weight" else 0.0)
            self._norms.append((layer, owner))

        one = members[0][0] if len(members) == 1 and (owner == members[0][0]).all() else None

        def hook(module: nn.Module, args: Any, x: torch.Tensor) -> torch.Tensor:
            if key not in self._maps:
                self._maps[key] = self._maps_of(members, owner, x.device)
            maps, index = self._maps[key]
            w = self._weight[owner].T if one is None else self._weight[one][:, None]  # [S, size] or [S, 1]
            if not affine:
                return _mapped(module, x, (maps * w).sum(1), None)
            gamma, beta = (
                w * getattr(module, f"{name}_of_width").view(-1, size).gather(0, index) for name in ("weight", "bias")
            )
            return _mapped(module, x, (maps * gamma).sum(1), maps.flatten(1) @ beta.flatten())

        if reads:
            before = lambda module, args: (hook(module, (), args[0]), *args[1:])  # noqa: E731
            self._handles.append(layer.register_forward_pre_hook(before))
        else:
            self._handles.append(layer.register_forward_hook(hook))

    @torch.no_grad()
    def _maps_of(
        self, members: Sequence[tuple[int, Member]], owner: torch.Tensor, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A_s of every channel of a layer, [size, S, size], and its candidates, [S, size].

        A_s is block diagonal over the layer's groups.
        """
        size, index = len(owner), self._index[owner].T
        maps = torch.eye(size)[:, None].repeat(1, len(index), 1)
        for number, member in members:
            widths = [self.widths[number][k] for k in self._index[number].tolist()]
            bundles = len(member.rows)
            resized = torch.stack([self.resize(bundles, n, max(widths), torch.device("cpu")) for n in widths], 1)
            for rows in np.ascontiguousarray(member.rows.T):  # one channel of each bundle
                if len(rows) == size and (np.diff(rows) == 1).all():
                    maps = resized
                else:
                    at = torch.as_tensor(rows)
                    maps[at[:, None], :, at] = resized.movedim(1, -1)
        return maps.to(device), index.to(device)


class Stage:
    """One stage of removable blocks, whose outputs after each depth in use are added up; in place until `finish`."""

    def __init__(self, model: nn.Module, blocks: Sequence[Block], depths: Sequence[int]) -> None:
        self.model, self.blocks = model, list(blocks)
        self.depths = list(depths)
        """How many of the blocks a candidate keeps, ascending: the first ones."""
        self.used: list[int] = []
        """Candidates in use."""
        self.weights = torch.empty(0)
        """Of those in use, with gradients."""
        self.outputs: dict[int, torch.Tensor] = {}
        """Of this forward pass, by depth; 0: what the stage was given."""
        for depth, block in enumerate(self.blocks, start=1):
            model.set_submodule(block.name, BlockOfStage(model.get_submodule(block.name), self, depth))

    @property
    def deepest(self) -> int:
        """How many of the blocks the candidates in use read."""
        return self.depths[self.used[-1]]

    def use(self, index: torch.Tensor, weight: torch.Tensor, device: torch.device) -> None:
        """The candidates of the next forward passes; those of weight 0 are left out."""
        spread = torch.zeros(len(self.depths)).scatter(0, index, weight)
        self.used = [k for k, share in enumerate(spread.tolist()) if share > 0]
        self.weights = spread[self.used].to(device)

    def mixture(self) -> torch.Tensor:
        """The weighted sum of what the candidates in use put out; the pass's outputs are let go."""
        kept = [(self.depths[k], self.blocks[self.depths[k] :]) for k in self.used]
        total = _Mixture.apply(self.weights, *(_without(dropped, self.outputs[depth]) for depth, dropped in kept))
        self.outputs.clear()
        return total

    def finish(self) -> None:
        """Take the mixture out."""
        for block in self.blocks:
            standing: Any = self.model.get_submodule(block.name)
            self.model.set_submodule(block.name, standing.block)


class BlockOfStage(nn.Module):
    """Stands where a removable block was: runs it unless nothing reads it, and behind the last puts the mixture out."""

    def __init__(self, block: nn.Module, stage: Stage, depth: int) -> None:
        super().__init__()
        self.block, self.stage, self.depth = block, stage, depth

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        outputs = self.stage.outputs
        if self.depth == 1:
            outputs[0] = x
        if self.depth <= self.stage.deepest:
            x = self.block(x, *args, **kwargs)
        outputs[self.depth] = x
        return self.stage.mixture() if self.depth == len(self.stage.blocks) else x


def stages_of(blocks: Sequence[Block]) -> list[list[Block]]:
    """Removable blocks that follow each other in one sequence: layer1.1, layer1.2."""
    found: list[list[Block]] = []
    before = ("", "")
    for block in blocks:
        parent, _, leaf = block.name.rpartition(".")
        if leaf.isdigit() and before == (parent, str(int(leaf) - 1)):
            found[-1].append(block)
        else:
            found.append([block])
        before = (parent, leaf)
    return found


def _without(blocks: Sequence[Block], x: torch.Tensor) -> torch.Tensor:
    """What is left of `blocks` when they are dropped: their activations, once where twice is the same."""
    seen = {"relu"} if x.grad_fn is not None and x.grad_fn.name() == "ReluBackward0" else set()
    for name in (block.activation for block in blocks):
        if name == "identity" or (name in ("relu", "relu6") and name in seen):
            continue
        x = ACTIVATIONS[name](x)
        seen.add(name)
    return x


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Σ a b, in the order of channels_last so that neither is copied."""
    return torch.dot(_pixels(a).flatten(), _pixels(b).flatten()).float()


class _Mixture(torch.autograd.Function):
    """Σ_k w_k x_k in as few passes over the x_k as there are: (weights [S], S tensors of one shape) -> one of them."""

    @staticmethod
    def forward(ctx: Any, weights: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weights, *(tensors if weights.requires_grad else ()))
        total = tensors[0] * weights[0]
        for x, w in zip(tensors[1:], weights[1:], strict=True):
            total.addcmul_(x, w)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: torch.Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (slope,), (weights, *tensors) = slopes, ctx.saved_tensors
        of_weights = torch.stack([_dot(slope, x) for x in tensors]) if ctx.needs_input_grad[0] else None
        of_tensors = (slope * w if n else None for w, n in zip(weights, ctx.needs_input_grad[1:], strict=True))
        return of_weights, *of_tensors


def _pixels(x: torch.Tensor) -> torch.Tensor:
    """[N, C, H, W] -> [N·H·W, C], a view of what is in channels_last."""
    return x.movedim(1, -1).flatten(0, -2)


def _mapped(module: nn.Module, x: torch.Tensor, matrix: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """matrix @ x + bias along the channels."""
    dim = require_rule(module).channel_axis(module, x.ndim)
    if x.ndim == 4 and dim == 1:
        return F.conv2d(x, matrix[:, :, None, None], bias)
    return F.linear(x.movedim(dim, -1), matrix, bias).movedim(-1, dim)
