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

from bench.blocks import ACTIVATIONS
from bench.channels import BATCH_NORMS

if TYPE_CHECKING:
    from bench.blocks import Block
    from bench.graph import Member, PruningGraph

Resize = Callable[[int, int, int, torch.device], torch.Tensor]
"""(size, n, m, device) -> [size, size]: takes the first n of `size` channels to the first m."""


class Supernet:
    """Mixtures in `model`, in place from construction until `finish`.

    Decisions are numbered, groups first and then stages; `candidates` counts the choices of each.

    Args:
        widths: candidate widths by group name, ascending, in bundles; equally many for all. Groups that are not
            named stay whole.
        depth: whether stages are decided, too.
        resize: what brings fragments to one width.
    """

    def __init__(
        self, model: nn.Module, graph: PruningGraph, widths: Mapping[str, Sequence[int]], depth: bool, resize: Resize
    ) -> None:
        self.model, self.graph, self.resize = model, graph, resize
        self.groups = [g for g in graph.groups if g.name in widths]
        self.widths = [list(widths[g.name]) for g in self.groups]
        self.stages: list[list[Block]] = []
        self.depths: list[list[int]] = []
        """By stage, how many of its removable blocks a candidate keeps, ascending: the first ones."""
        modules: dict[str, Any] = dict(model.named_modules())
        for stage in stages_of(graph.blocks) if depth else ():
            siblings = list(modules[stage[0].name.rpartition(".")[0]].children())
            fewest = 0 if len(siblings) > len(stage) else 1  # a stage keeps a block, be it one that cannot go
            if len(stage) > fewest:
                self.stages.append(stage)
                self.depths.append(list(range(fewest, len(stage) + 1)))
        self._layers = [[modules[block.name] for block in stage] for stage in self.stages]
        self.candidates = [len(w) for w in self.widths] + [len(d) for d in self.depths]
        self._handles: list[Any] = []
        self._norms: list[tuple[Any, torch.Tensor]] = []
        self._maps: dict[bytes, torch.Tensor] = {}
        self._index = self._weight = self._stage_weight = torch.empty(0)
        parts: dict[str, list[tuple[int, Member]]] = {}
        for number, group in enumerate(self.groups):
            for member in group.gates:
                parts.setdefault(member.module, []).append((number, member))
        for name, members in parts.items():
            self._mix_widths(modules[name], members)
        for number in range(len(self.stages)):
            self._mix_depths(number)

    # -- what is in use ------------------------------------------------------------------------------------

    def use(self, chosen: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """The candidates of the next forward passes: by decision, (indices [S], weights [S] with gradients).

        S is the same for all groups.
        """
        device = next(self.model.parameters()).device
        groups, stages = chosen[: len(self.groups)], chosen[len(self.groups) :]
        self._maps = {}
        if groups:
            # A last line for channels of no group: their widest candidate, whole.
            whole = torch.zeros_like(groups[0][0]).float()
            whole[0] = 1
            last = torch.full_like(groups[0][0], self.candidates[0] - 1)
            self._index = torch.stack([*(i for i, _ in groups), last])  # [groups + 1, S]
            self._weight = torch.stack([*(w for _, w in groups), whole]).to(device)
        spread = [torch.zeros(len(d)).scatter(0, i, w) for d, (i, w) in zip(self.depths, stages, strict=True)]
        self._stage_weight = torch.cat(spread).to(device) if spread else torch.empty(0)
        for layers, depths, w in zip(self._layers, self.depths, spread, strict=True):
            deepest = max(d for d, present in zip(depths, (w.detach() > 0).tolist(), strict=True) if present)
            for depth, layer in enumerate(layers, start=1):
                if depth > deepest:  # nothing reads it
                    layer.__dict__["forward"] = _skipped
                else:
                    layer.__dict__.pop("forward", None)

    def choose(self, choice: Sequence[int]) -> None:
        """One candidate of each decision: the network is that architecture, at full size."""
        self.use([(torch.tensor([k]), torch.ones(1)) for k in choice])

    # -- what decisions mean -------------------------------------------------------------------------------

    def architecture(self, choice: Sequence[int]) -> tuple[dict[str, int], tuple[str, ...]]:
        """(widths by group name, blocks to drop) of one candidate of each decision."""
        numbers = iter(choice)
        widths = {g.name: w[next(numbers)] * g.bundle for g, w in zip(self.groups, self.widths, strict=True)}
        dropped: list[str] = []
        for stage, depths in zip(self.stages, self.depths, strict=True):
            dropped += [block.name for block in stage[depths[next(numbers)] :]]
        return widths, tuple(dropped)

    def macs(self, choice: Sequence[int]) -> int:
        """Multiply-adds of an architecture."""
        widths, dropped = self.architecture(choice)
        return self.graph.macs(widths, dict.fromkeys(dropped, 0) or None)

    def distributions(
        self, p: Sequence[torch.Tensor]
    ) -> tuple[dict[str, tuple[torch.Tensor, torch.Tensor]], dict[str, torch.Tensor]]:
        """What `bench.widths.ExpectedMacs` takes, from the probabilities of each decision's candidates."""
        rows = iter(p)
        widths = {
            g.name: (next(rows), torch.tensor(w, dtype=torch.float64) * g.bundle)
            for g, w in zip(self.groups, self.widths, strict=True)
        }
        blocks: dict[str, torch.Tensor] = {}
        for stage, depths in zip(self.stages, self.depths, strict=True):
            row = next(rows)
            for i, block in enumerate(stage):
                blocks[block.name] = row[[k for k, d in enumerate(depths) if d > i]].sum()
        return widths, blocks

    def finish(self, choice: Sequence[int]) -> None:
        """Take the mixtures out; norms keep the affine of the chosen widths."""
        for handle in self._handles:
            handle.remove()
        for layer in (layer for layers in self._layers for layer in layers):
            layer.__dict__.pop("forward", None)
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

    def _mix_widths(self, layer: Any, members: Sequence[tuple[int, Member]]) -> None:
        size = members[0][1].of
        owner = torch.full((size,), len(self.groups))
        for number, member in members:
            owner[torch.as_tensor(member.rows.ravel())] = number
        key = b"/".join([b"%d" % number + member.rows.tobytes() for number, member in members])
        affine = isinstance(layer, BATCH_NORMS) and layer.weight is not None
        if affine:
            count = self.candidates[0]
            for name in ("weight", "bias"):
                # Flat, so that it is no more decayed than any other norm's.
                own = getattr(layer, name)
                layer.register_parameter(f"{name}_of_width", nn.Parameter(own.detach().repeat(count)))
                own.requires_grad_(False).fill_(1.0 if name == "weight" else 0.0)
            self._norms.append((layer, owner))

        def hook(module: nn.Module, args: Any, x: torch.Tensor) -> torch.Tensor:
            w = self._weight[owner].T  # [S, size]
            if key not in self._maps:
                self._maps[key] = self._blocks_of(members, size).to(x.device)
            maps = self._maps[key] * w[:, :, None]  # [S, size, size]
            bias = None
            if affine:
                index = self._index[owner].T.to(x.device)
                gamma, beta = (
                    getattr(module, f"{name}_of_width").view(-1, size).gather(0, index) for name in ("weight", "bias")
                )
                bias = torch.einsum("soi,si->o", maps, beta)
                maps = maps * gamma[:, None]
            return _mapped(module, x, maps.sum(0), bias)

        self._handles.append(layer.register_forward_hook(hook))

    @torch.no_grad()
    def _blocks_of(self, members: Sequence[tuple[int, Member]], size: int) -> torch.Tensor:
        """A_s of every channel of a layer, [S, size, size]: block diagonal over its groups."""
        cpu, count = torch.device("cpu"), self._index.shape[1]
        maps = torch.eye(size).repeat(count, 1, 1)
        for number, member in members:
            widths = [self.widths[number][k] for k in self._index[number].tolist()]
            bundles = len(member.rows)
            for s, n in enumerate(widths):
                resized = self.resize(bundles, n, max(widths), cpu)
                for rows in np.ascontiguousarray(member.rows.T):  # one channel of each bundle
                    at = torch.as_tensor(rows)
                    maps[s, at[:, None], at] = resized
        return maps

    def _mix_depths(self, number: int) -> None:
        stage, layers = self.stages[number], self._layers[number]
        outputs: dict[int, torch.Tensor] = {}
        offset = sum(len(d) for d in self.depths[:number])
        depths = self.depths[number]

        def first(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            outputs[0] = args[0]

        def after(depth: int) -> Callable[..., torch.Tensor | None]:
            def hook(module: nn.Module, args: Any, x: torch.Tensor) -> torch.Tensor | None:
                outputs[depth] = x
                if depth < len(stage):
                    return None
                weight = self._stage_weight[offset : offset + len(depths)]
                total = sum(
                    weight[k] * _without(stage[d:], outputs[d]) for k, d in enumerate(depths) if weight[k].detach() > 0
                )
                outputs.clear()
                return total  # pyright: ignore[reportReturnType]

            return hook

        self._handles.append(layers[0].register_forward_pre_hook(first))
        for depth, layer in enumerate(layers, start=1):
            self._handles.append(layer.register_forward_hook(after(depth)))


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


def _skipped(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    return x


def _without(blocks: Sequence[Block], x: torch.Tensor) -> torch.Tensor:
    """What is left of `blocks` when they are dropped: their activations, once where twice is the same."""
    names = [block.activation for block in blocks]
    for i, name in enumerate(names):
        if name == "identity" or (name in ("relu", "relu6") and name in names[:i]):
            continue
        x = ACTIVATIONS[name](x)
    return x


def _mapped(module: nn.Module, x: torch.Tensor, matrix: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """matrix @ x + bias along the channels."""
    if x.ndim == 4 and not isinstance(module, nn.Linear):
        return F.conv2d(x, matrix[:, :, None, None], bias)
    dim = x.ndim - 1 if isinstance(module, nn.Linear) else 1
    return F.linear(x.movedim(dim, -1), matrix, bias).movedim(-1, dim)
