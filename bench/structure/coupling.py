"""From labelled channels to channel groups: which channels take the same part in the same layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.structure.groups import ChannelGroup, Member
from bench.structure.labels import LayerSide
from bench.structure.walk import Atoms


@dataclass
class Coupled:
    """The groups of a network, and what is left whole."""

    groups: tuple[ChannelGroup, ...] = ()
    skipped: dict[tuple[str, str], None] = field(default_factory=dict)
    """(layer or group, reason), in order; layers that share its channels are not repeated."""
    whole: dict[str, str] = field(default_factory=dict)
    """Every layer with output channels that cannot be removed, and why."""


def couple(atoms: Atoms) -> Coupled:
    """Atoms with the same members in the same numbers make one group; frozen ones are named."""
    position = {name: i for i, name in enumerate(atoms.order)}
    last = len(position)
    sides = sorted(atoms.sides, key=lambda s: (s.kind != "out", position.get(s.module, last)))
    places = _Places(atoms, sides)
    found = Coupled()
    classes = _classes(atoms, sides, places, found)
    shared = Counter(int(places.first_side[members[0]]) for members in classes)
    groups: list[ChannelGroup] = []
    for members in classes:
        first, on = int(places.first_side[members[0]]), places.sides(members[0])
        bundle = places.rows_of(members, 0).shape[1]
        name = sides[first].module
        if shared[first] > 1:
            name += f"[{places.first_row[members[0]]}]"
        if len(members) < 2:
            reason = f"its {bundle} channels can only go together" if bundle > 1 else "it has one channel"
            found.skipped[name, reason] = None
            found.whole |= {sides[n].module: reason for n in on if sides[n].kind in ("out", "pass")}
            continue
        parts = tuple(
            Member(sides[n].module, sides[n].kind, places.rows_of(members, k), len(sides[n].ids), sides[n].axis)
            for k, n in enumerate(on)
        )
        before = set[str]().union(*(atoms.tails.get(m.module, ()) for m in parts if m.kind == "in"))
        gates = tuple(m for m in parts if m.kind in ("out", "pass") and m.module in before)
        groups.append(ChannelGroup(name, len(members) * bundle, bundle, parts, gates))
    order = {side.module: i for i, side in reversed(list(enumerate(sides)))}
    groups.sort(key=lambda g: (order[g.members[0].module], int(g.members[0].rows[0, 0])))
    found.groups = tuple(groups)
    return found


class _Places:
    """The rows of every atom on every side, sorted by atom and side; atoms are numbered from 0."""

    def __init__(self, atoms: Atoms, sides: Sequence[LayerSide]) -> None:
        empty = np.zeros(0, np.int64)
        n = max(1, len(sides))
        key = np.concatenate([empty, *(atoms.of_label[side.ids] * n + i for i, side in enumerate(sides))])
        row = np.concatenate([empty, *(np.arange(len(side.ids)) for side in sides)])
        order = np.argsort(key, kind="stable")
        key, self._rows = key[order], row[order]
        self._starts = np.flatnonzero(np.diff(key, prepend=-1))  # of runs of one atom on one side
        counts = np.diff(self._starts, append=len(key))
        atom, side = np.divmod(key[self._starts], n)
        first = np.flatnonzero(np.diff(atom, prepend=-1))  # run of each atom
        self.ids = atom[first]
        self._first, self._end = first, np.append(first[1:], len(atom)) if len(first) else first
        self._side, self._count = side, counts
        self.first_side = side[first]
        self.first_row = self._rows[self._starts[first]]
        self.order = np.lexsort((self.first_row, self.first_side)).tolist()
        """The atoms by their first side, and by their row there."""

    def signatures(self) -> list[bytes]:
        """By atom, its sides and how many rows it has on each: equal for atoms that take the same part."""
        both = np.stack([self._side, self._count], 1)
        return [both[i:j].tobytes() for i, j in zip(self._first.tolist(), self._end.tolist(), strict=True)]

    def sides(self, atom: int) -> list[int]:
        """The sides that an atom has rows on, ascending."""
        return self._side[self._first[atom] : self._end[atom]].tolist()

    def rows_of(self, members: Sequence[int], k: int) -> np.ndarray:
        """The rows of each of some atoms of one signature on their side number `k`, int64 [members, rows]."""
        run: np.ndarray = self._first[list(members)] + k
        return self._rows[self._starts[run][:, None] + np.arange(int(self._count[run[0]]))]


def _classes(atoms: Atoms, sides: Sequence[LayerSide], places: _Places, found: Coupled) -> list[list[int]]:
    """Atoms of one kind together; those that are frozen go into `found`, those that no layer makes are left out."""
    classes: dict[bytes, list[int]] = {}
    signatures = places.signatures()
    frozen = {i: atoms.frozen[atom] for i, atom in enumerate(places.ids.tolist()) if atom in atoms.frozen}
    made = [sides[n].kind == "out" for n in places.first_side.tolist()]
    for i in places.order:
        reason = frozen.get(i)
        if reason is not None:
            for n in places.sides(i):
                if sides[n].kind in ("out", "pass"):
                    found.whole[sides[n].module] = reason
            if made[i]:
                found.skipped[sides[int(places.first_side[i])].module, reason] = None
        elif made[i]:
            classes.setdefault(signatures[i], []).append(i)
    return list(classes.values())
