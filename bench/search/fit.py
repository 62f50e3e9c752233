"""Budgets: from scores, widths or masks to a `Pruning` whose MACs, or parameters, are inside the tolerance.

The tolerance is two-sided. Both costs are closed forms of the widths, exact to the operation and to the weight.

A method's own decision is taken as it is, and then changed by as few channels as the budget needs. What the method
gave and how many channels were changed is kept beside the result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from bench.errors import RequestError
from bench.interface.cell import BudgetKind
from bench.interface.method import Budget, Found
from bench.lazy import torch
from bench.search.bisection import nearest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bench.structure.graph import PruningGraph
    from bench.structure.groups import ChannelGroup, Pruning


@dataclass(frozen=True)
class Fitted:
    """A pruning that meets its budget, and what was changed for it."""

    pruning: Pruning
    widths: dict[str, int]
    native_widths: dict[str, int]
    native_macs_ratio: float
    fitted_channels: int
    """Sum over groups of |width − native width|."""
    macs_ratio: float
    """Predicted by the cost model; `check` measures it."""
    within: bool
    note: str = ""
    native_params_ratio: float | None = None
    """Parameters of the native widths, as a fraction of the dense network's."""
    params_ratio: float | None = None
    """Of the pruning. Neither is there in what earlier releases left behind."""

    def ratio(self, kind: BudgetKind) -> float:
        """MACs or parameters of the pruning over the dense network's, as the cost model predicts them."""
        if kind == "macs":
            return self.macs_ratio
        assert self.params_ratio is not None  # whoever fits to parameters writes them down
        return self.params_ratio


def fit(graph: PruningGraph, found: Found, budget: Budget, *, round_to: int = 1) -> Fitted:
    """Change what a method found by as little as brings its MACs, or parameters, inside the budget's tolerance.

    Args:
        round_to: keep widths at multiples of this many channels (a group's full width is always allowed).

    Raises:
        RequestError: the budget is below what the network can reach with the groups that may be changed.
        ValueError: `found` names no group, or has the wrong shape for one.
    """
    from bench.structure.groups import Pruning

    for name in found.fixed:
        graph.group(name)
    require_reachable(graph, budget, round_to=round_to, fixed=found.fixed)
    lattice = _Lattice(graph, found.drop_blocks, round_to, found.fixed, budget.kind)
    rankings = {g.name: _ranking(g, found) for g in graph.groups}
    native = _native_widths(lattice, found, rankings, budget)
    widths = _repair(lattice, lattice.snap(native), budget)
    cost = lattice.cost(widths)
    within, ratio = budget.holds(cost, lattice.dense), cost / lattice.dense
    note = "" if within else (
        f"no change of up to three groups' widths comes closer than {ratio:.4f} to the budget {budget.ratio:g} ± "
        f"{budget.tolerance:g}: the widths that are allowed here are too coarse"
    )  # fmt: skip
    return Fitted(
        pruning=Pruning(
            {g.name: highest(g, rankings[g.name], widths[g.name]) for g in graph.groups}, found.drop_blocks
        ),
        widths=widths,
        native_widths=native,
        native_macs_ratio=lattice.share(native, "macs"),
        native_params_ratio=lattice.share(native, "params"),
        fitted_channels=sum(abs(widths[name] - native[name]) for name in widths),
        macs_ratio=lattice.share(widths, "macs"),
        params_ratio=lattice.share(widths, "params"),
        within=within,
        note=note,
    )


def search_budget(graph: PruningGraph, budget: Budget, *, round_to: int = 1) -> Budget:
    """The budget of MACs that a method is handed, since methods count MACs.

    For a budget of parameters it is what the proportionally thinner network of that many parameters keeps of the MACs:
    every such budget that can be reached has one, and a method that treats all groups alike lands on both.
    """
    if budget.kind == "macs":
        return budget
    lattice = _Lattice(graph, (), round_to, kind=budget.kind)
    return Budget(lattice.share(_uniform(lattice, budget), "macs"), budget.tolerance)


def reachable(
    graph: PruningGraph, *, round_to: int = 1, fixed: Set[str] = frozenset(), kind: BudgetKind = "macs"
) -> tuple[float, float]:
    """Smallest and largest ratio that removing channels can give while the groups `fixed` stay whole.

    Args:
        kind: of MACs or of parameters.
    """
    lattice = _Lattice(graph, (), round_to, fixed, kind)
    smallest = {name: allowed[0] for name, allowed in lattice.allowed.items()}
    return lattice.cost(smallest) / lattice.dense, 1.0


def require_reachable(graph: PruningGraph, budget: Budget, *, round_to: int = 1, fixed: Set[str] = frozenset()) -> None:
    """Refuse a budget that this network cannot meet while the groups `fixed` stay whole.

    Raises:
        RequestError: with the range that can be reached.
    """
    low, high = reachable(graph, round_to=round_to, fixed=fixed, kind=budget.kind)
    if budget.ratio < low:
        rounding = f" with widths rounded to {round_to}" if round_to > 1 else ""
        whole = f" where {len(fixed)} of {len(graph.groups)} groups stay whole" if fixed else ""
        raise RequestError(
            f"budget {budget.ratio:g} cannot be reached by removing channels{rounding}{whole}: this network goes from "
            f"{math.ceil(low * 1e4) / 1e4:g} to {high:g} of its {budget.unit}"
        )


def counted(model: nn.Module, example: Tensor, kind: BudgetKind) -> int:
    """MACs on the example, or parameters, counted on the network itself."""
    from bench.structure.measure import count_macs, count_params

    return count_macs(model, example) if kind == "macs" else count_params(model)


def check(pruned: nn.Module, example: Tensor, budget: Budget, dense: int) -> tuple[float, bool]:
    """(ratio, inside the tolerance?), measured on the physically pruned network.

    Args:
        dense: MACs, or parameters where the budget is one of those, of the dense network.
    """
    cost = counted(pruned, example, budget.kind)
    return cost / dense, budget.holds(cost, dense)


@dataclass
class _Lattice:
    """The widths that are allowed, and what they cost."""

    graph: PruningGraph
    drop_blocks: tuple[str, ...]
    round_to: int
    fixed: Set[str] = frozenset()
    kind: BudgetKind = "macs"
    allowed: dict[str, list[int]] = field(init=False)
    bundle: dict[str, int] = field(init=False)
    step: dict[str, int] = field(init=False)
    dense: int = field(init=False)

    def __post_init__(self) -> None:
        self.dense = self._count({}, None, self.kind)
        self.bundle = {g.name: g.bundle for g in self.graph.groups}
        self.step = {g.name: math.lcm(g.bundle, self.round_to) for g in self.graph.groups}
        self.allowed = {
            g.name: [g.size] if g.name in self.fixed else [*range(self.step[g.name], g.size, self.step[g.name]), g.size]
            for g in self.graph.groups
        }
        self._known: dict[tuple[int, ...], int] = {}

    def cost(self, widths: Mapping[str, int]) -> int:
        """MACs or parameters of the network of these widths, without the removed blocks."""
        key = tuple(widths[name] for name in self.allowed)
        if key not in self._known:
            self._known[key] = self._count(widths, self._absent, self.kind)
        return self._known[key]

    def share(self, widths: Mapping[str, int], kind: BudgetKind) -> float:
        """The same of either kind, as a fraction of the dense network's."""
        return self._count(widths, self._absent, kind) / self._count({}, None, kind)

    @property
    def _absent(self) -> Mapping[str, int] | None:
        return dict.fromkeys(self.drop_blocks, 0) or None

    def _count(self, widths: Mapping[str, int], blocks: Mapping[str, int] | None, kind: BudgetKind) -> int:
        count = self.graph.macs if kind == "macs" else self.graph.params
        return int(count(dict(widths), blocks))

    def snap(self, widths: Mapping[str, int]) -> dict[str, int]:
        """The nearest allowed widths."""
        return {name: min(allowed, key=lambda w: (abs(w - widths[name]), w)) for name, allowed in self.allowed.items()}

    def moved(self, name: str, width: int, steps: int) -> int | None:
        """The allowed width `steps` further on, None where it ends."""
        allowed = self.allowed[name]
        index = allowed.index(width) + steps
        return allowed[index] if 0 <= index < len(allowed) else None


def _native_widths(
    lattice: _Lattice, found: Found, rankings: Mapping[str, np.ndarray], budget: Budget
) -> dict[str, int]:
    """Kept channels by group as the method decided, or as its scores say where it left the widths to the budget."""
    groups = lattice.graph.groups
    if found.keep is not None:
        return {g.name: int(_mask(found.keep, g).sum()) for g in groups}
    if found.widths is not None:
        return {g.name: int(found.widths.get(g.name, g.size)) for g in groups}
    if found.scope != "layer":
        return _by_threshold(lattice, rankings, budget, relative=found.scope == "global")
    return _uniform(lattice, budget)


def _uniform(lattice: _Lattice, budget: Budget) -> dict[str, int]:
    """The proportional widths nearest to the budget: no cost falls when the proportion grows."""
    sizes = {name: allowed[-1] for name, allowed in lattice.allowed.items()}

    def at(ratio: float) -> dict[str, int]:
        return lattice.snap({name: max(1, round(ratio * size)) for name, size in sizes.items()})

    return at(nearest(lambda ratio: lattice.cost(at(ratio)), budget.ratio * lattice.dense, 0.0, 1.0))


def _by_threshold(
    lattice: _Lattice, rankings: Mapping[str, np.ndarray], budget: Budget, *, relative: bool
) -> dict[str, int]:
    """One threshold over all scores; if `relative`, each divided by its group's mean."""
    units: list[tuple[float, str]] = []
    for name, scores in rankings.items():
        if name in lattice.fixed:
            continue
        unit = max(float(np.mean(scores)), 1e-30) if relative else lattice.bundle[name]
        units += [(float(s), name) for s in np.sort(scores / unit)[:-1]]  # a group's best unit always stays
    units.sort()

    def without(count: int) -> dict[str, int]:
        widths = {name: allowed[-1] for name, allowed in lattice.allowed.items()}
        for _, name in units[:count]:
            widths[name] -= lattice.bundle[name]
        return widths

    return without(nearest(lambda count: lattice.cost(without(count)), budget.ratio * lattice.dense, 0, len(units)))


def _repair(lattice: _Lattice, start: dict[str, int], budget: Budget) -> dict[str, int]:
    """Add or remove as few channels as bring the cost inside the tolerance."""
    widths = dict(start)
    target = budget.ratio * lattice.dense
    # No group pays for all the others: each may change in proportion to the miss, and by one step more.
    share = abs(1 - math.sqrt(target / max(lattice.cost(widths), 1)))
    while not budget.holds(lattice.cost(widths), lattice.dense):
        cost = lattice.cost(widths)
        direction = 1 if cost < target else -1
        options: list[tuple[int, dict[str, int]]] = []
        for name, width in widths.items():
            moved = lattice.moved(name, width, direction)
            if moved is None:
                continue
            if abs(moved - start[name]) > max(lattice.step[name], math.ceil(share * start[name])):
                continue
            changed = {**widths, name: moved}
            gain = abs(lattice.cost(changed) - cost)
            if gain:
                options.append((gain, changed))
        inside = [option for option in options if budget.holds(lattice.cost(option[1]), lattice.dense)]
        if inside:
            return min(inside, key=lambda option: abs(lattice.cost(option[1]) - target))[1]
        short = [option for option in options if option[0] < abs(target - cost)]
        if short:
            widths = max(short, key=lambda option: option[0])[1]
            continue
        if not options and share < 1:
            share = min(1.0, 2 * share + 0.05)
            continue
        return _combine(lattice, widths, start, budget)
    return widths


def _combine(lattice: _Lattice, widths: dict[str, int], start: dict[str, int], budget: Budget) -> dict[str, int]:
    """Change two or three groups at once, by up to three steps each, where single steps jump over the tolerance.

    Where no state lies inside, the nearest one that was seen is returned.
    """
    target, base = budget.ratio * lattice.dense, lattice.cost(widths)
    moves: list[tuple[str, int, int]] = []  # (group, new width, cost gained)
    for name, width in widths.items():
        for steps in (-3, -2, -1, 1, 2, 3):
            moved = lattice.moved(name, width, steps)
            if moved is not None and (gain := lattice.cost({**widths, name: moved}) - base):
                moves.append((name, moved, gain))
    if not moves:
        return widths
    gains = np.array([gain for *_, gain in moves], float)
    need, slack = target - base, budget.tolerance * lattice.dense
    best = widths

    def consider(chosen: tuple[int, ...]) -> bool:
        nonlocal best
        names = [moves[i][0] for i in chosen]
        if len(set(names)) < len(names):
            return False
        state = {**widths, **{moves[i][0]: moves[i][1] for i in chosen}}
        if abs(lattice.cost(state) - target) < abs(lattice.cost(best) - target):
            best = state
        return budget.holds(lattice.cost(state), lattice.dense)

    def changed(chosen: tuple[int, ...]) -> int:
        return sum(abs(moves[i][1] - widths[moves[i][0]]) for i in chosen)

    # Gains add up, but for the product of two changes in one layer: pairs are gathered within twice the tolerance,
    # and the cost of each is then counted exactly.
    singles = [(i,) for i in range(len(moves))]
    first, second = np.nonzero(np.abs(gains[:, None] + gains[None] - need) < 2 * slack)
    pairs = [(int(i), int(j)) for i, j in zip(first, second, strict=True) if i < j]
    for chosen in [*singles, *sorted(pairs, key=changed)[:3000]]:
        if consider(chosen):
            return best
    order = np.argsort(gains)
    triples: list[tuple[int, ...]] = []
    for i, j in combinations(range(len(moves)), 2):
        left = need - gains[i] - gains[j]
        low, high = np.searchsorted(gains[order], (left - slack, left + slack))
        triples += [(i, j, int(k)) for k in order[low:high] if k > j]
        if len(triples) > 20_000:
            break
    for chosen in sorted(triples, key=changed)[:3000]:
        if consider(chosen):
            return best
    return best


def unit_scores(group: ChannelGroup, scores: Mapping[str, Tensor]) -> np.ndarray:
    """One score a bundle, float64 [size / bundle].

    Raises:
        ValueError: no scores for this group, another shape, or scores that are not finite.
    """
    if group.name not in scores:
        raise ValueError(f"the method gave no scores for group {group.name!r}")
    channels = scores[group.name].detach().double().cpu()
    if channels.shape != (group.size,):
        raise ValueError(f"scores of group {group.name!r} have shape {tuple(channels.shape)}, not ({group.size},)")
    units = channels.reshape(-1, group.bundle).sum(1).numpy()
    if not np.isfinite(units).all():
        raise ValueError(f"scores of group {group.name!r} are not finite")
    return units


def highest(group: ChannelGroup, units: np.ndarray, width: int) -> Tensor:
    """A mask, bool [size], of the `width` channels whose bundles have the highest scores `units` [size / bundle]."""
    kept = torch.zeros(len(units), dtype=torch.bool)
    kept[torch.from_numpy(np.argsort(-units, kind="stable")[: width // group.bundle].copy())] = True
    return kept.repeat_interleave(group.bundle)


def _ranking(group: ChannelGroup, found: Found) -> np.ndarray:
    """What decides which bundles stay, [size / bundle]: the scores, those of a kept mask above all others."""
    units = unit_scores(group, found.scores)
    if found.keep is None:
        return units
    kept = _mask(found.keep, group).reshape(-1, group.bundle).numpy()
    if (kept.any(1) != kept.all(1)).any():
        raise ValueError(f"the mask of group {group.name!r} splits a bundle of {group.bundle} channels")
    span = float(units.max() - units.min()) + 1.0
    return units + span * kept[:, 0]


def _mask(keep: Mapping[str, Tensor], group: ChannelGroup) -> Tensor:
    """The method's mask of a group, bool [size]; whole where it gave none."""
    mask = keep.get(group.name)
    if mask is None:
        return torch.ones(group.size, dtype=torch.bool)
    if mask.shape != (group.size,) or mask.dtype != torch.bool:
        raise ValueError(f"the mask of group {group.name!r} must be bool of shape ({group.size},)")
    return mask.cpu()
